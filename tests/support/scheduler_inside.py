"""Lets a real scheduler process claims of every form, and prints what ``lab diagnose`` reports, as JSON.

Started by ``test_scheduler.py`` as the first process of namespaces, like
``control_plane_inside.py``. Nodes are objects without a kubelet: pods that get
one stay pending there, which is all that allocation needs.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from kubernetes.client import ApiClient

from mock_device.checks.objects import claim_forms, kube, pods
from mock_device.checks.objects import slices as published_slices
from mock_device.diagnosis import allocation_steps
from mock_device.diagnosis.live_snapshot import LiveSnapshot
from mock_device.lab.base.processes import Children
from mock_device.lab.controlplane.bootstrap import bootstrap
from mock_device.lab.controlplane.components import wait_ready
from mock_device.lab.controlplane.controlplane import API_SERVER, ControlPlane
from mock_device.lab.controlplane.kubeconfig import write_kubeconfig
from mock_device.lab.controlplane.pki import Identity, create_pki
from mock_device.lab.kube import kubeclient, manifests
from mock_device.tools import slices
from support.claim_cases import FOREIGN_SLICES, GPU_CLASS, OURS, asks, cel, request, rule
from support.control_plane_inside import call, healthy, set_up_network
from support.recorded_cluster import NODE1, NODE2, device_classes, published
from support.topologies import CLUSTER

Object = dict[str, Any]
ADDRESSES = [(NODE1, "192.168.122.211"), (NODE2, "192.168.122.212")]
FABRIC = "fabric.example.com"
SECONDS_A_CASE = 15.0
_OF_PODS = {"controller runs", "driver's pods run"}
"""Steps that look at pods of the driver, which does not run beside this control plane."""
PF_RESOURCE = "deviceclass.resource.kubernetes.io/mock-accel-pf"
NUMA = f"{OURS}/numaNode"
ADMIN_NAMESPACE = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "default", "labels": {"resource.kubernetes.io/admin-access": "true"}},
}
FABRIC_CLASS: Object = {
    "metadata": {"name": "fabric"},
    "spec": {"selectors": cel(f'device.driver == "{FABRIC}"')},
}
FABRIC_SLICE: Object = {
    "metadata": {"name": f"{NODE1}-fabric"},
    "spec": {
        "driver": FABRIC,
        "nodeName": NODE1,
        "pool": {"name": NODE1, "generation": 1, "resourceSliceCount": 1},
        "devices": [
            {
                "name": "port-0",
                "bindsToNode": True,
                "bindingConditions": [f"{FABRIC}/attached"],
                "bindingFailureConditions": [f"{FABRIC}/failed"],
            }
        ],
    },
}


def of_kind(kind: str, item: Object, version: str = "resource.k8s.io/v1") -> Object:
    return {"apiVersion": version, "kind": kind, **item}


def user(name: str, *requests: Object, constraints: Sequence[Object] = (), node: str | None = None) -> list[Object]:
    """A claim and its pod."""
    return [asks(*requests, constraints=constraints, name=name), without_grace(pods.build(name, [name], node, {}))]


def extended(name: str, count: int) -> list[Object]:
    return [without_grace(pods.build(name, [], None, {}, resources={PF_RESOURCE: count}))]


def without_grace(pod: Object) -> Object:
    # No kubelet reports that the pod has ended.
    pod["spec"]["terminationGracePeriodSeconds"] = 0
    return pod


EVERYTHING = request(allocationMode="All")
CASES: dict[str, list[list[Object]]] = {
    "admin": [
        user("watch", request(allocationMode="All", adminAccess=True), node=NODE1),
        user("six", request(count=6), node=NODE1),
        user("again", request(count=6)),
        user("third", request(count=6)),
    ],
    "all": [user("one", request(), node=NODE1), user("two", request(), node=NODE2), user("all", EVERYTHING)],
    "seven extended": [extended("seven", 7)],
    "two extended": [extended("two", 2)],
    "foreign": [user("gpus", request(device_class="gpu", count=9))],
    "foreign too": [user("gpus", request(device_class="gpu", count=8))],
    "taint rule": [[of_kind("DeviceTaintRule", rule(driver=OURS))], user("off", request())],
    "binding": [user("bound", request(device_class="fabric"))],
    "same": [user("same", request(count=4), constraints=[{"matchAttribute": NUMA}])],
    "different": [user("different", request(count=3), constraints=[{"distinctAttribute": NUMA}])],
    "together": [user("together", request("a", count=4), request("b", count=3))],
    "hard CEL": [user("hard", request(selectors=cel(f'device.attributes["{OURS}"].memory < 5')), node=NODE2)],
    "failing CEL": [user("color", request(selectors=cel(f'device.attributes["{OURS}"].color == "red"')))],
    "no class": [user("fast", request(device_class="fast"))],
}


def look(api: ApiClient) -> LiveSnapshot:
    session: Any = SimpleNamespace(api=api, topology=CLUSTER, node_names=[NODE1, NODE2])
    return LiveSnapshot(session)


def is_judged(pod: Object, claims: Sequence[claim_forms.Claim]) -> bool:
    """Whether the scheduler has reported a reason, placed the pod, or waits for a driver."""
    binds = [result for claim in claims if pod["metadata"]["name"] in claim.pods for result in claim.results]
    return bool(
        pods.unschedulable_reason(pod) or pod["spec"].get("nodeName") or any(item.waits_for() for item in binds)
    )


def until_judged(api: ApiClient) -> LiveSnapshot:
    """A snapshot taken when the scheduler has processed all pods, or at the deadline."""
    deadline = time.monotonic() + SECONDS_A_CASE
    while True:
        snapshot = look(api)
        claims = claim_forms.parse_all(snapshot.claims)
        if all(is_judged(pod, claims) for pod in snapshot.pods) or time.monotonic() > deadline:
            return snapshot
        time.sleep(0.2)


def until_gone(api: ApiClient) -> None:
    deadline = time.monotonic() + SECONDS_A_CASE
    while kube.all_claims(api) and time.monotonic() < deadline:
        time.sleep(0.2)


def judge(snapshot: LiveSnapshot) -> Object:
    steps = {step.name: step.check(snapshot) for step in allocation_steps.STEPS if step.name not in _OF_PODS}
    rows = slices.rows(published_slices.parse(snapshot.slices), snapshot.claims)
    return {
        **{name: found.evidence for name, found in steps.items()},
        "remedy": next((found.remedy for found in steps.values() if found.remedy), ""),
        "reasons": {pod["metadata"]["name"]: pods.unschedulable_reason(pod) for pod in snapshot.pods},
        "free": sum(row.is_free for row in rows),
        "held": sorted({str(holder) for row in rows for holder in row.holders}),
        "uses": {pod["metadata"]["name"]: pods.claim_names(pod) for pod in snapshot.pods},
    }


def apply(api: ApiClient, objects: Sequence[Object]) -> None:
    manifests.apply(api, yaml.safe_dump_all(objects), "default")


def base() -> Iterator[Object]:
    yield ADMIN_NAMESPACE
    for item in [*device_classes(), GPU_CLASS, FABRIC_CLASS]:
        yield of_kind("DeviceClass", item)
    for item in [*published(), *FOREIGN_SLICES, FABRIC_SLICE]:
        # The recorded owner is a node of another cluster.
        metadata = {name: value for name, value in item["metadata"].items() if name != "ownerReferences"}
        yield of_kind("ResourceSlice", {**item, "metadata": metadata})


def keep_ready(admin: Identity) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat()
    for name, address in ADDRESSES:
        status = healthy(address)
        status["status"]["conditions"][0] |= {"lastHeartbeatTime": now, "lastTransitionTime": now}
        call(f"/api/v1/nodes/{name}/status", admin, "PATCH", status, "merge")


def add_nodes(admin: Identity) -> None:
    for name, _ in ADDRESSES:
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        }
        call("/api/v1/nodes", admin, "POST", node)
    keep_ready(admin)


def run(api: ApiClient, admin: Identity) -> Object:
    add_nodes(admin)
    apply(api, list(base()))
    report = {}
    for name, stages in CASES.items():
        keep_ready(admin)
        for objects in stages:
            apply(api, objects)
            snapshot = until_judged(api)
        report[name] = judge(snapshot)
        manifests.delete(api, yaml.safe_dump_all([item for objects in stages for item in objects]), "default")
        until_gone(api)
    return report


async def on_control_plane(
    binaries: Path, folder: Path, work: Callable[[ApiClient, Identity], Object], **settings: Any
) -> Object:
    """What ``work`` reports of a control plane with ``settings``, which has no node yet."""
    await asyncio.to_thread(set_up_network)
    pki = create_pki(folder / "pki", ADDRESSES)
    admin = pki.identity("admin")
    logs = folder / "logs"
    logs.mkdir()
    children = Children(logs, lambda child: None)
    plane = ControlPlane(binaries, folder / "control-plane", pki, proxy_node=NODE1, **settings)
    plane.prepare()
    components = {component.name: component for component in plane.components()}
    for name in ("etcd", "kube-apiserver", "kube-scheduler", "kube-controller-manager"):
        component = components[name]
        await children.start(name, component.argv, cwd=folder, env=component.env)
        await wait_ready(component, children[name])
        if name == "kube-apiserver":
            await asyncio.to_thread(bootstrap, pki, dns=False)
    kubeconfig = write_kubeconfig(folder / "kubeconfig", admin, API_SERVER)
    report = await asyncio.to_thread(work, kubeclient.connect(kubeconfig), admin)
    await children.kill_all()
    return report


if __name__ == "__main__":
    print(json.dumps(asyncio.run(on_control_plane(Path(sys.argv[1]), Path(sys.argv[2]), run))))
