"""Publishes devices to a real API server like the node agent, and prints the stored objects as JSON.

Started by ``test_driver_publishes.py`` as the first process of network, mount and
PID namespaces: when it ends, the kernel kills everything that it started.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mock_accel_dra import events, names
from mock_accel_dra.api import CLAIMS, SLICES, ApiError, Client
from mock_accel_dra.discovery import Device
from mock_accel_dra.publisher import Publisher

from mock_device.lab.base.processes import Children
from mock_device.lab.controlplane.bootstrap import bootstrap
from mock_device.lab.controlplane.components import wait_ready
from mock_device.lab.controlplane.controlplane import API_SERVER, ControlPlane
from mock_device.lab.controlplane.https import tls_context
from mock_device.lab.controlplane.pki import Identity, create_pki
from support.control_plane_inside import NODES, set_up_network

PF = Device("mock0", "U0", 16 << 30, 0, ("compute",), 0, "0000:11:00.0", "pci0000:10", total_vfs=2)
VFS = [
    replace(PF, name=f"mock0_vf{number}", pci_address=f"0000:11:00.{number + 1}", physfn=PF.pci_address, total_vfs=0)
    for number in range(2)
]
OTHER = replace(PF, name="mock1", pci_address="0000:12:00.0", total_vfs=0)
CASES = {
    "vfs": [PF, *VFS, OTHER],
    "memory": [replace(OTHER, memory=1024 << 40)],
    "taint": [replace(OTHER, problem="NoAnswer")],
    "limits": [
        replace(PF, total_vfs=0, capabilities=tuple(f"bit{bit}" for bit in range(20))),
        replace(OTHER, memory=1 << 63),
        replace(OTHER, name="mock2", pci_address="0000:13:00.0"),
    ],
}
_LOOKS = 3


class AdminClient(Client):
    """The driver's client with a certificate instead of a pod's token."""

    def __init__(self, admin: Identity) -> None:
        super().__init__(API_SERVER, ca_file=admin.ca)
        self._context = tls_context(admin)


def publish(client: Client, node: str, devices: Sequence[Device]) -> dict[str, Any]:
    """Publish ``devices`` repeatedly; returns the writes each time and the final slices, which are then deleted."""
    publisher = Publisher(client, node)
    writes = [publisher.publish(devices) for _ in range(_LOOKS)]
    slices = client.get(SLICES, publisher.selector)["items"]
    found = {
        "writes": writes,
        "devices": sorted(device["name"] for item in slices for device in item["spec"].get("devices") or []),
        "complete": all(
            item["spec"]["pool"]["resourceSliceCount"]
            == sum(other["spec"]["pool"] == item["spec"]["pool"] for other in slices)
            for item in slices
        ),
        "counters": sum("sharedCounters" in item["spec"] for item in slices),
        "memory": sorted(
            device["capacity"]["memory"]["value"] for item in slices for device in item["spec"].get("devices") or []
        ),
        "fields": [field for _, field in publisher.fields_changed],
        "left out": sorted(publisher.left_out),
    }
    publisher.publish([])
    return found


def refusal(write: Callable[[], object]) -> str:
    """The API server's reason for refusing a write; empty if it accepts it."""
    try:
        write()
    except ApiError as error:
        return str(error)
    return ""


def ask_names(client: Client) -> dict[str, Any]:
    """Names at the limits: nodes' in slices, claims' in events, nodes' in field managers."""
    found: dict[str, Any] = {}
    for length in (63, 64, 106, 224, 253):
        name = ("n." * length)[: length - 1] + "n" if length % 2 else "n" * length
        client.create("/api/v1/nodes", {"metadata": {"name": name}})
        found[f"node of {length}"] = publish(client, name, CASES["vfs"])["devices"]
    claims = CLAIMS.replace("/v1/", "/v1/namespaces/default/")
    exactly = {"deviceClassName": "any"}
    spec = {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}
    claim = client.create(claims, {"metadata": {"name": "one"}, "spec": spec})
    for end in ("-", "."):
        long_name = f"{'c' * 199}{end}{'c' * 20}"
        uid = claim["metadata"]["uid"]
        event = events.failure("node", "default", long_name, uid, f"cut at {end}", "2026-01-01T00:00:00Z")
        found[f"event at {end}"] = refusal(partial(client.create, "/api/v1/namespaces/default/events", event))
    event = events.on_node("n" * 253, events.DEVICE_HEALTHY, "healthy again", "2026-01-01T00:00:00Z")
    found["event on node"] = refusal(partial(client.create, "/api/v1/namespaces/default/events", event))
    body = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "one"},
        "status": {"devices": []},
    }
    manager = names.field_manager("n" * 253)
    found["field manager"] = refusal(partial(client.apply, f"{claims}/one/status", body, manager))
    return found


async def main(binaries: Path, folder: Path, gates: str) -> dict[str, Any]:
    await asyncio.to_thread(set_up_network)
    pki = create_pki(folder / "pki", NODES)
    (folder / "logs").mkdir()
    children = Children(folder / "logs", lambda child: None)
    plane = ControlPlane(binaries, folder / "control-plane", pki, feature_gates=gates)
    plane.prepare()
    components = {component.name: component for component in plane.components()}
    for name in ("etcd", "kube-apiserver"):
        component = components[name]
        await children.start(component.name, component.argv, cwd=folder, env=component.env)
        await wait_ready(component, children[component.name])
    await asyncio.to_thread(bootstrap, pki, dns=False)
    client = AdminClient(pki.identity("admin"))
    await asyncio.to_thread(client.create, "/api/v1/nodes", {"metadata": {"name": "node-1"}})
    report = {name: await asyncio.to_thread(publish, client, "node-1", devices) for name, devices in CASES.items()}
    report["names"] = await asyncio.to_thread(ask_names, client)
    await children.kill_all()
    return report


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))))
