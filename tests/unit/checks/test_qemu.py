"""A guest's devices as QEMU's monitor lists them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from support import DATA
from support.topologies import CLUSTER

from mock_device.checks.nodes import qemu

NODE = CLUSTER.node("mock-cluster-node1")
# query-pci of QEMU 11.1.3 with the node's bridges and device servers, all functions plugged, after SeaBIOS.
BUSES: list[dict[str, Any]] = json.loads((DATA / "scenario/query-pci.json").read_text())
PLUGGED = {function.name: function.bdf for function in NODE.functions}


def test_recorded_guest_agrees_with_its_topology() -> None:
    assert len(PLUGGED) == 10
    assert qemu.accelerators(BUSES) == PLUGGED
    assert qemu.plug_complaints(NODE, PLUGGED) == []


def test_other_vendors_and_empty_root_ports_are_ignored() -> None:
    buses = copy.deepcopy(BUSES)
    ports = [device for bus in buses for device in bus["devices"] if device.get("qdev_id") in {"rp11", "rp21"}]
    (near, far) = sorted(ports, key=lambda port: str(port["qdev_id"]))
    del far["pci_bridge"]["devices"]
    near["pci_bridge"]["devices"][0]["id"]["vendor"] = 0x1AF4
    gone = {"mock0", "mock3", "mock3_vf0", "mock3_vf1"}
    assert qemu.accelerators(buses) == {name: bdf for name, bdf in PLUGGED.items() if name not in gone}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mock3": "0000:12:00.0"}, "expected at 0000:21:00.0 by the topology, QEMU has at 0000:12:00.0"),
        ({"mock3": None}, "expected at 0000:21:00.0 by the topology, QEMU has none"),
        ({"mock6": "0000:23:00.0"}, "expected no such device by the topology, QEMU has at 0000:23:00.0"),
    ],
)
def test_misplaced_device_is_reported(change: dict[str, str | None], message: str) -> None:
    found = {name: bdf for name, bdf in (PLUGGED | change).items() if bdf}
    assert qemu.plug_complaints(NODE, found) == [f"mock-cluster-node1 {next(iter(change))}: {message}"]


def test_empty_slots_are_found() -> None:
    """A slot that lost only some of its functions is not empty: the others still occupy its root port."""
    assert qemu.empty_slots(NODE, PLUGGED) == []
    left = {name: bdf for name, bdf in PLUGGED.items() if name not in {"mock0", "mock0_vf0", "mock0_vf1", "mock1"}}
    assert [slot.root_port for slot in qemu.empty_slots(NODE, left)] == ["rp11"]


def test_guests_that_do_not_run_are_reported() -> None:
    assert qemu.state_complaints({"node1": "running", "node2": "paused"}) == ["node2: expected running, found paused"]
