"""Prepare refuses a PF while another claim has one of its VFs, and a VF while another claim has its PF."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra.api import Client
from mock_accel_dra.discovery import Device
from mock_accel_dra.exclusion import incompatible, overlapping
from mock_accel_dra.names import pool_name
from mock_accel_dra.prepare import PrepareError, Preparer
from mock_accel_dra.state import PreparedClaim, PreparedDevice, State

NODE = "mock-cluster-node1"


@pytest.fixture
def preparer(plug: Callable[..., SysfsTree], api: FakeApiServer, tmp_path: Path) -> Callable[[str], Preparer]:
    """Function that creates the preparer of a node."""
    (tmp_path / "cdi").mkdir()
    state, sysfs = State.load(tmp_path / "state.json"), plug(vfs=True).root

    def make(node: str) -> Preparer:
        return Preparer(api=Client(api.url), node=node, sysfs=sysfs, cdi_folder=tmp_path / "cdi", state=state)

    return make


def allocate(api: FakeApiServer, name: str, device: str, node: str = NODE, **more: Any) -> tuple[str, str, str]:
    pool = pool_name(node, device.partition("-")[0])
    api.add_claim(name, [{"request": "r", "driver": "mock-accel.example.com", "pool": pool, "device": device, **more}])
    return "default", name, f"uid-{name}"


@pytest.mark.parametrize(("first", "second"), [("mock0", "mock0-vf1"), ("mock0-vf1", "mock0")])
def test_pf_and_vf_are_not_both_prepared(
    preparer: Callable[[str], Preparer], api: FakeApiServer, sysfs: SysfsTree, first: str, second: str
) -> None:
    one, other = allocate(api, "one", first), allocate(api, "other", second)
    node = preparer(NODE)
    node.prepare(*one)
    with pytest.raises(PrepareError, match=r"shares its hardware with mock0.* prepared for claim default/one"):
        node.prepare(*other)
    assert sysfs.status(second.replace("-", "_")) == 0
    node.unprepare(*one)
    node.prepare(*other)
    assert sysfs.status(second.replace("-", "_")) == 1


def test_admin_access_does_not_count(preparer: Callable[[str], Preparer], api: FakeApiServer) -> None:
    node = preparer(NODE)
    node.prepare(*allocate(api, "admin", "mock0", adminAccess=True))
    node.prepare(*allocate(api, "user", "mock0-vf0"))
    node.prepare(*allocate(api, "admin-too", "mock0", adminAccess=True))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("mock0", "mock0_vf0", True),
        ("mock0_vf1", "mock0", True),
        ("mock0_vf0", "mock0_vf1", False),
        ("mock1", "mock10_vf0", False),
        ("mock0", "mock0", False),  # other checks refuse the same device
    ],
)
def test_same_hardware(one: str, other: str, same: bool) -> None:
    claims = [PreparedClaim("a", "default", "a", (PreparedDevice(one),))]
    claim = PreparedClaim("b", "default", "b", (PreparedDevice(other),))
    assert bool(overlapping(claims, claim, claim.devices[0])) == same


def test_devices_of_a_node_with_a_long_name_are_prepared(
    preparer: Callable[[str], Preparer], api: FakeApiServer
) -> None:
    node = "n" * 253
    assert preparer(node).prepare(*allocate(api, "one", "mock1", node))
    with pytest.raises(PrepareError, match="is not on node"):
        preparer("n" * 252 + "x").prepare(*allocate(api, "two", "mock2", node))


def test_vfs_of_different_groups_exclude_each_other() -> None:
    def read(name: str) -> Device:
        capabilities = ("compute", "p2p-dma") if name.endswith("vf1") else ("compute",)
        return Device(name, "U", 1, 0, capabilities, 1, "0000:11:00.1", "", physfn="0000:11:00.0")

    def has(uid: str, *names: str, admin: bool = False) -> PreparedClaim:
        return PreparedClaim(uid, "default", uid, tuple(PreparedDevice(name, admin) for name in names))

    ours = has("ours", "mock0_vf1")
    for others in ([has("a", "mock0_vf1")], [has("a", "mock1_vf0")], [has("a", "mock0_vf0", admin=True)], [ours]):
        assert incompatible(others, ours, read("mock0_vf1"), read) == ""
    reason = incompatible([has("a", "mock0_vf0")], ours, read("mock0_vf1"), read)
    assert "mock0_vf1 is of the compatibility group p2p-dma, but mock0_vf0 of the group isolated" in reason
