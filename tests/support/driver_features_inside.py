"""Lets a real scheduler allocate from slices with the driver's optional features, and prints the results as JSON.

Started by ``test_driver_features.py`` as the first process of namespaces, like ``scheduler_inside.py``. The slices are
published by the driver's own publisher; nodes are objects without a kubelet, so pods that are bound stay pending.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dra_fakes.sysfs import SysfsTree
from mock_accel_dra.api import CLAIMS, SLICES, Client
from mock_accel_dra.binding import Attacher
from mock_accel_dra.discovery import scan
from mock_accel_dra.features import Feature
from mock_accel_dra.publisher import Publisher

from mock_device.checks.objects import pods
from mock_device.lab.base.processes import Children
from mock_device.lab.controlplane.bootstrap import bootstrap
from mock_device.lab.controlplane.components import wait_ready
from mock_device.lab.controlplane.controlplane import ControlPlane
from mock_device.lab.controlplane.pki import Identity, create_pki
from support.claim_cases import OURS, cel, request
from support.control_plane_inside import NODES, call, healthy, set_up_network
from support.driver_publishes_inside import AdminClient
from support.feature_cases import CASES, DEVICES, NUMA, one, uuid

Object = dict[str, Any]
SECONDS = 30.0
NODE, OTHER = "node1", "node2"
"""The second node has devices that must be attached."""
COMPONENTS = ("etcd", "kube-apiserver", "kube-scheduler", "kube-controller-manager")
PODS = "/api/v1/namespaces/default/pods"
PLAIN = frozenset(Feature) - {Feature.BINDING_CONDITIONS}


def claim(name: str, devices: Object) -> Object:
    return {"metadata": {"name": name}, "spec": {"devices": devices}}


def pod(name: str, claims: Sequence[str], node: str, host_memory: str = "") -> Object:
    found: Object = pods.build(name, claims, node, {})
    # No kubelet reports that the pod has ended.
    found["spec"]["terminationGracePeriodSeconds"] = 0
    if host_memory:
        (container,) = found["spec"]["containers"]
        resources = container.setdefault("resources", {})
        resources["requests"] = {"memory": host_memory}
        resources["limits"] = {"memory": host_memory}
    return found


def until(done: Callable[[], Any]) -> Any:
    """The result of ``done`` when it is true, or at the deadline."""
    end = time.monotonic() + SECONDS
    while not (found := done()) and time.monotonic() < end:
        time.sleep(0.2)
    return found


class Cluster:
    """Objects of the API server."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.claims = CLAIMS.replace("/v1/", "/v1/namespaces/default/")

    def use(self, name: str, devices: Object, node: str = NODE, host_memory: str = "") -> None:
        """A claim and its pod."""
        self.client.create(self.claims, claim(name, devices))
        self.client.create(PODS, pod(name, [name], node, host_memory))

    def judged(self, name: str) -> str:
        """``bound``, or the scheduler's reason against it, when there is one or the other."""

        def look() -> str:
            found = self.client.get(f"{PODS}/{name}")
            return "bound" if found["spec"].get("nodeName") else str(pods.unschedulable_reason(found) or "")

        return str(until(look))

    def is_bound(self, name: str) -> bool:
        return bool(self.client.get(f"{PODS}/{name}")["spec"].get("nodeName"))

    def results(self, name: str) -> list[Object]:
        """The allocation of a claim, without the fields that are the same for all."""
        found = self.client.get(f"{self.claims}/{name}").get("status", {}).get("allocation", {})
        kept = ("device", "shareID", "consumedCapacity", "bindingConditions", "bindingFailureConditions")
        results = found.get("devices", {}).get("results") or []
        return [{name: result[name] for name in kept if name in result} for result in results]

    def remove(self, *names: str) -> None:
        for name in names:
            self.client.delete(f"{PODS}/{name}")
        for name in names:
            until(lambda name=name: not self._has(PODS, name))  # type: ignore[misc]
            self.client.delete(f"{self.claims}/{name}")
            until(lambda name=name: not self._has(self.claims, name))  # type: ignore[misc]

    def _has(self, path: str, name: str) -> bool:
        return any(item["metadata"]["name"] == name for item in self.client.get(path, {})["items"] or [])


def allocate(cluster: Cluster) -> Object:
    """The judgement and the allocation of each claim of each case."""
    report = {}
    for case, users in CASES.items():
        found = {}
        for name, devices in users.items():
            cluster.use(name, devices)
            found[name] = {"judged": cluster.judged(name), "results": cluster.results(name)}
        cluster.remove(*users)
        report[case] = found
    return report


def bring_memory(cluster: Cluster) -> Object:
    """A pod whose device needs host memory, on a node where the pod alone would fit."""
    found = {}
    for name, amount in (("small", "900Mi"), ("large", "1000Mi")):
        cluster.use(name, {"requests": [one("FAR")]}, host_memory=amount)
        found[name] = cluster.judged(name)
        cluster.remove(name)
    return found


def attach(cluster: Cluster, folder: Path) -> Object:
    """A pod waits for its device; when one cannot be attached, it gets another one."""
    sysfs = SysfsTree(folder)
    for number in range(2):
        sysfs.add(f"mock{number}", f"0000:1{number}:00.0", window=1 << 20)
    publisher = Publisher(cluster.client, OTHER, frozenset({Feature.BINDING_CONDITIONS}))
    attacher = Attacher(cluster.client, OTHER, sysfs.root, lambda: None, lambda: False)

    def publish() -> None:
        publisher.publish(attacher.marked(scan(sysfs.root).devices))

    publish()
    cluster.use("waits", {"requests": [one("UUID-mock0", "UUID-mock1")]}, OTHER)
    until(lambda: cluster.results("waits"))
    time.sleep(1.0)  # longer than a pod without conditions needs
    found: Object = {"bound before": cluster.is_bound("waits"), "allocated": cluster.results("waits")}
    attacher.look()
    found["after"] = cluster.judged("waits")
    cluster.remove("waits")
    sysfs.write("mock0", "health", "no-firmware")
    first, second = (request("x", selectors=uuid(f"UUID-mock{number}")) for number in range(2))
    choice = [{"name": f"mock{number}", **item["exactly"]} for number, item in enumerate((first, second))]
    toleration = {"key": f"{OURS}/unhealthy", "operator": "Exists"}
    choice[0]["tolerations"] = [toleration]
    cluster.use("fails", {"requests": [{"name": "x", "firstAvailable": choice}]}, OTHER)
    found["first"] = [item["device"] for item in until(lambda: cluster.results("fails"))]
    attacher.look()
    publish()
    found["second"] = until(lambda: [item["device"] for item in cluster.results("fails") if item["device"] != "mock0"])
    attacher.look()
    found["at last"] = cluster.judged("fails")
    found["status"] = [
        [item["device"], *(f"{entry['type']}={entry['status']}" for entry in item["conditions"])]
        for item in cluster.client.get(f"{cluster.claims}/fails")["status"].get("devices") or []
    ]
    cluster.remove("fails")
    return found


def publish(client: Client) -> Object:
    """Publish all devices of the first node with all features but conditions; what the API server makes of it."""
    publisher = Publisher(client, NODE, PLAIN)
    writes = [publisher.publish(DEVICES) for _ in range(3)]
    stored = client.get(SLICES, publisher.selector)["items"]
    found = {entry["name"]: entry for item in stored for entry in item["spec"].get("devices") or []}
    return {
        "writes": writes,
        "devices": sorted(found),
        "left out": sorted(publisher.left_out),
        "changed": sorted({field for _, field in publisher.fields_changed}),
        "numa": found["mock0"]["attributes"][NUMA],
        "shared": bool(found["mock0"].get("allowMultipleAllocations")),
    }


def run(client: Client, admin: Identity, folder: Path, with_scheduler: bool) -> Object:
    for name, address in NODES:
        labels = {"kubernetes.io/hostname": name}
        call("/api/v1/nodes", admin, "POST", {"metadata": {"name": name, "labels": labels}})
        call(f"/api/v1/nodes/{name}/status", admin, "PATCH", healthy(address), "merge")
    report = {"published": publish(client)}
    if not with_scheduler:
        return report
    for kind in ("pf", "vf"):
        selector = cel(f'device.driver == "{OURS}" && device.attributes["{OURS}"].deviceType == "{kind}"')
        item = {"metadata": {"name": f"mock-accel-{kind}"}, "spec": {"selectors": selector}}
        client.create("/apis/resource.k8s.io/v1/deviceclasses", item)
    cluster = Cluster(client)
    return {**report, **allocate(cluster), "memory": bring_memory(cluster), "attach": attach(cluster, folder / "sys")}


async def main(binaries: Path, folder: Path, gates: str, names: Sequence[str]) -> Mapping[str, Any]:
    await asyncio.to_thread(set_up_network)
    pki = create_pki(folder / "pki", NODES)
    admin = pki.identity("admin")
    (folder / "logs").mkdir()
    children = Children(folder / "logs", lambda child: None)
    plane = ControlPlane(binaries, folder / "control-plane", pki, feature_gates=gates, proxy_node=NODE)
    plane.prepare()
    components = {component.name: component for component in plane.components()}
    for name in names:
        component = components[name]
        await children.start(name, component.argv, cwd=folder, env=component.env)
        await wait_ready(component, children[name])
        if name == "kube-apiserver":
            await asyncio.to_thread(bootstrap, pki, dns=False)
    report = await asyncio.to_thread(run, AdminClient(admin), admin, folder, "kube-scheduler" in names)
    await children.kill_all()
    return report


if __name__ == "__main__":
    binaries, folder, gates, names = sys.argv[1:]
    print(json.dumps(asyncio.run(main(Path(binaries), Path(folder), gates, names.split(",")))))
