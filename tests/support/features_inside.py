"""Lets a control plane of a profile do what ``suites/features.robot`` asks of Kubernetes, and prints it as JSON.

Started by ``test_features_on_control_plane.py`` like ``scheduler_inside.py``: nodes are objects without a kubelet.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.checks.driver import identity
from mock_device.checks.errors import CheckError
from mock_device.checks.objects import (
    claims,
    clean_up,
    kube,
    namespaces,
    pod_claims,
    pod_groups,
    pods,
    pool_status,
    slices,
    taint_rules,
)
from mock_device.checks.objects.claim_forms import Toleration
from mock_device.checks.objects.claims import AlternativeRequests, DeviceClass, DeviceRequest, Request
from mock_device.checks.objects.taint_rules import Effect
from mock_device.checks.waiting import until_no_complaints
from mock_device.driver import current
from mock_device.lab.cluster import profile
from mock_device.lab.controlplane.pki import Identity
from mock_device.lab.kube import features, manifests
from support.recorded_cluster import NODE1
from support.scheduler_inside import add_nodes, apply, base, keep_ready, on_control_plane

Object = dict[str, Any]
WAIT = timedelta(seconds=60)
TOLERANT = (Toleration(taint_rules.KEY, "Exists"),)
DRIVER = current.driver().name
BY_NAME = f"{DRIVER}/pf"


def placed(pod: Object) -> bool:
    return bool(pod["spec"].get("nodeName"))


def waits(pod: Object) -> bool:
    return "cannot allocate all claims" in (pods.unschedulable_reason(pod) or "")


def start(api: ApiClient, name: str, *requests: Request, node: str | None = NODE1, distinct: str | None = None) -> None:
    """Create a claim and a pod."""
    kube.create_claim(api, claims.build(name, requests, None, kube.LABELS, distinct))
    kube.create_pod(api, pods.build(name, [name], node, kube.LABELS))


def run(api: ApiClient, name: str, *requests: Request, node: str | None = NODE1, distinct: str | None = None) -> None:
    """Like ``start``, and wait until the pod has a node."""
    start(api, name, *requests, node=node, distinct=distinct)
    kube.wait_pod(api, name, placed, WAIT, "placed")


def force(api: ApiClient, *names: str) -> None:
    """Remove pods, as a kubelet does that has ended them."""
    for name in names:
        kube.start_deleting_pod(api, name, by_force=True)
        kube.wait_pod_gone(api, name, WAIT)


def devices(api: ApiClient, pod: str) -> list[str]:
    return sorted(str(device.id) for device in kube.devices_of_pod(api, pod))


def ask_features(api: ApiClient) -> Object:
    found = features.read(api)
    return {
        "version": found.version,
        "gates": {name: [gate.stage, gate.enabled] for name, gate in found.gates.items()},
        "served": sorted(found.api_versions),
    }


def ask_extended(api: ApiClient) -> Object:
    kube.create_pod(api, pods.build("extended", [], NODE1, kube.LABELS, resources={BY_NAME: 2}))
    pod = kube.wait_pod(api, "extended", placed, WAIT, "placed")
    found = {"complaints": pod_claims.named_complaints(pod), "devices": len(devices(api, "extended"))}
    force(api, "extended")
    return found


def ask_admin(api: ApiClient) -> Object:
    every = DeviceRequest("all", admin_access=True, every=True)
    namespaces.allow_admin_access(api, allowed=False)
    try:
        kube.create_claim(api, claims.build("refused", [every], None, kube.LABELS))
        refused = ""
    except CheckError as error:
        refused = str(error)
    namespaces.allow_admin_access(api, allowed=True)
    run(api, "uses", DeviceRequest("device"))
    run(api, "sees", every)
    found = {"refused": refused, "sees": len(devices(api, "sees")), "uses": len(devices(api, "uses"))}
    force(api, "uses", "sees")
    return found


def ask_no_schedule(api: ApiClient) -> Object:
    run(api, "has-one", DeviceRequest("device"))
    taint_rules.create(api, taint_rules.build("maintenance", Effect.NO_SCHEDULE))
    start(api, "waits", DeviceRequest("device"))
    pod = kube.wait_pod(api, "waits", waits, WAIT, "waiting")
    run(api, "tolerates", DeviceRequest("device", tolerations=TOLERANT))
    deleted = taint_rules.eviction_of(kube.get_pod(api, "has-one"))
    taint_rules.delete(api, "maintenance")
    kube.wait_pod(api, "waits", placed, WAIT, "placed")
    force(api, "has-one", "waits", "tolerates")
    return {"reason": pods.unschedulable_reason(pod), "deleted": str(deleted)}


def ask_no_execute(api: ApiClient) -> Object:
    # The pods' grace period keeps them: no kubelet reports that they have ended.
    run(api, "must-go", DeviceRequest("device"))
    forever = Toleration(taint_rules.KEY, "Exists", effect="NoExecute")
    run(api, "stays", DeviceRequest("device", tolerations=(forever,)))
    run(api, "any-effect", DeviceRequest("device", tolerations=TOLERANT))
    kube.create_pod(api, pods.build("extended", [], NODE1, kube.LABELS, resources={BY_NAME: 1}))
    kube.wait_pod(api, "extended", placed, WAIT, "placed")
    later = Toleration(taint_rules.KEY, "Exists", effect="NoExecute", seconds=12)
    run(api, "later", DeviceRequest("device", tolerations=(later,)))
    taint_rules.create(api, taint_rules.build("broken", Effect.NO_EXECUTE))
    reason = taint_rules.wait_evicted(api, "must-go", WAIT).reason
    early = taint_rules.eviction_of(kube.get_pod(api, "later"))
    at = taint_rules.wait_evicted(api, "later", WAIT).at
    rule = taint_rules.get(api, "broken")
    stays = taint_rules.eviction_of(kube.get_pod(api, "stays"))
    until_no_complaints(
        lambda: taint_rules.condition_complaints(taint_rules.get(api, "broken"), "False", "Completed"), WAIT, "rule"
    )
    taint_rules.delete(api, "broken")
    others = {name: str(taint_rules.eviction_of(kube.get_pod(api, name))) for name in ("any-effect", "extended")}
    force(api, "must-go", "stays", "later", *others)
    return {
        "reason": reason,
        "early": str(early),
        "later": (at - taint_rules.time_added(rule)).total_seconds(),
        "stays": str(stays),
        **others,
    }


def ask_alternatives(api: ApiClient) -> Object:
    choices = (DeviceRequest("many", 99), DeviceRequest("vf", 1, DeviceClass.VF), DeviceRequest("two", 2))
    run(api, "chooses", AlternativeRequests("either", choices))
    found = sorted(device.alternative for device in kube.devices_of_pod(api, "chooses"))
    force(api, "chooses")
    return {"alternatives": found}


def ask_attributes(api: ApiClient) -> Object:
    run(api, "spread", DeviceRequest("each", 2), distinct="numaNode")
    numa_nodes = sorted(str(device.published.numa_node) for device in kube.devices_of_pod(api, "spread"))
    start(api, "too-many", DeviceRequest("each", 3), distinct="numaNode")
    kube.wait_pod(api, "too-many", waits, WAIT, "waiting")
    force(api, "spread", "too-many")
    run(api, "one", DeviceRequest("device"))
    start(api, "all", DeviceRequest("all", every=True))
    kube.wait_pod(api, "all", waits, WAIT, "waiting")
    force(api, "one")
    kube.wait_pod(api, "all", placed, WAIT, "placed")
    found = {"numa nodes": numa_nodes, "all": len(devices(api, "all"))}
    force(api, "all")
    return found


def ask_status(api: ApiClient) -> Object:
    manifests.apply(
        api, yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": current.driver().namespace}})
    )
    run(api, "reported", DeviceRequest("device"))
    claim = kube.get_claim(api, "reported")
    with identity.as_driver(api, DRIVER) as own:
        identity.write_claim_status(own, claim)
    with identity.as_driver(api, "other.example.com") as other:
        reason = identity.refusal("other driver", partial(identity.write_claim_status, other, claim))
    force(api, "reported")
    return {"refused": reason}


def ask_group(api: ApiClient) -> Object:
    template = claims.build_template("of-group", [DeviceRequest("device")], None, kube.LABELS)
    kube.create_claim_template(api, template)
    pod_groups.create(api, pod_groups.build("team", "of-group", 2))
    for name in ("first", "second"):
        kube.create_pod(api, pods.build(name, [], NODE1, kube.LABELS, template="of-group", group="team"))
    for name in ("first", "second"):
        kube.wait_pod(api, name, placed, WAIT, "placed")
    claim = pod_groups.wait_claim(api, "team", "of-group", WAIT)
    reserved = pod_groups.reservation_complaints(kube.get_claim(api, claim), "team")
    found = [devices(api, name) for name in ("first", "second")]
    force(api, "first", "second")
    kept = pod_groups.reservation_complaints(kube.get_claim(api, claim), "team")
    pod_groups.delete(api, "team")
    until_no_complaints(lambda: [item["metadata"]["name"] for item in kube.all_claims(api)], WAIT, "expected no claim")
    return {"devices": found, "reserved": reserved, "kept": kept}


def ask_pools(api: ApiClient) -> Object:
    found: Object = {"free": pool_status.judge(api, "free", WAIT)}
    run(api, "has-one", DeviceRequest("device"))
    run(api, "watches", DeviceRequest("all", admin_access=True, every=True))
    taken = {device.published.published_id for device in kube.devices_of_pod(api, "has-one")}
    other = next(item.published_id for item in slices.published(api) if item.published_id not in taken)
    taint_rules.create(api, taint_rules.build("one-off", Effect.NO_SCHEDULE, other))
    found["in use"] = pool_status.judge(api, "in-use", WAIT)
    taint_rules.create(api, taint_rules.build("both", Effect.NO_SCHEDULE, taken.pop()))
    found["allocated and tainted"] = pool_status.judge(api, "both", WAIT)
    force(api, "has-one", "watches")
    return found


CASES: dict[str, Callable[[ApiClient], Object]] = {
    "extended": ask_extended,
    "admin": ask_admin,
    "no schedule": ask_no_schedule,
    "no execute": ask_no_execute,
    "alternatives": ask_alternatives,
    "attributes": ask_attributes,
    "status": ask_status,
    "group": ask_group,
    "pools": ask_pools,
}


def ask(api: ApiClient, admin: Identity) -> Object:
    """Report of each case; that of one that failed is the text of its error."""
    report: Object = {"features": ask_features(api)}
    add_nodes(admin)
    apply(api, list(base()))
    for name, case in CASES.items():
        keep_ready(admin)
        try:
            report[name] = case(api)
        except CheckError as error:
            report[name] = str(error)
        for pod in client.CoreV1Api(api).list_namespaced_pod("default").to_dict()["items"]:
            force(api, pod["metadata"]["name"])
        clean_up.delete_everything(api, WAIT)
    return report


if __name__ == "__main__":
    chosen = profile.load(sys.argv[3])
    settings = {
        "feature_gates": profile.flag(chosen.feature_gates),
        "runtime_config": profile.flag(chosen.runtime_config),
    }
    print(json.dumps(asyncio.run(on_control_plane(Path(sys.argv[1]), Path(sys.argv[2]), ask, **settings))))
