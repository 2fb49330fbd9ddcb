"""Which published devices are available to a claim."""

from __future__ import annotations

from typing import Any

import pytest
from mock_accel_dra.discovery import Device
from mock_accel_dra.slices import desired

from mock_device.checks.objects import availability, claim_forms, slices
from mock_device.checks.objects.claim_forms import Claim, Toleration, Wanted
from mock_device.checks.objects.slices import PublishedDevice, Taint

DRIVER = "mock-accel.example.com"
NODE = "node1"
WANTED = Wanted("r", "mock-accel-pf")


def device(name: str, address: str, physfn: str | None = None) -> Device:
    return Device(name, f"UUID-{name}", 1 << 30, 0, ("compute",), 0, address, "pci0000:10", physfn, 2)


PF = device("mock0", "0000:11:00.0")
VFS = [device(f"mock0_vf{number}", f"0000:11:00.{number + 1}", PF.pci_address) for number in (0, 1)]


def published(*devices: Device) -> list[PublishedDevice]:
    return slices.parse(item for pool in desired(NODE, "uid", devices).values() for item in pool)


def claim(*results: dict[str, Any]) -> Claim:
    found = [{"request": "r", "driver": DRIVER, "pool": f"{NODE}/mock0", **item} for item in results]
    status = {"allocation": {"devices": {"results": found}}}
    return claim_forms.parse({"metadata": {"namespace": "default", "name": "c"}, "spec": {}, "status": status})


def free(devices: list[PublishedDevice], *claims: Claim, admin_access: bool = False) -> list[str]:
    found = availability.of(devices, claims)
    return [item.name for item in devices if found.is_free(item, admin_access=admin_access)]


@pytest.mark.parametrize(
    ("result", "is_free"),
    [
        ({}, False),
        ({"adminAccess": True}, True),
        ({"shareID": "4f7a8b0e-6d0b-4c8e-9d53-0d5bd1a6a001"}, True),
        ({"driver": "gpu.example.com"}, True),
        ({"pool": "node2/mock0"}, True),
    ],
)
def test_allocated_device_is_not_free(result: dict[str, Any], is_free: bool) -> None:
    devices = published(PF)
    assert bool(free(devices, claim({"device": "mock0", **result}))) is is_free
    assert free(devices, claim({"device": "mock0", **result}), admin_access=True) == ["mock0"]


def test_pf_and_its_vfs_exclude_each_other_by_counters() -> None:
    devices = published(PF, *VFS)
    assert free(devices) == ["mock0", "mock0_vf0", "mock0_vf1"]
    assert free(devices, claim({"device": "mock0"})) == []
    assert free(devices, claim({"device": "mock0-vf0"})) == ["mock0_vf1"]
    watched = claim({"device": "mock0-vf0", "adminAccess": True})
    assert free(devices, watched) == ["mock0", "mock0_vf0", "mock0_vf1"]


def test_administrative_access_needs_counters_too() -> None:
    """The allocator's ``checkAvailableCounters`` makes no exception."""
    assert free(published(PF, *VFS), claim({"device": "mock0"}), admin_access=True) == []


def test_taints_come_from_slices_and_rules() -> None:
    items = [item for pool in desired(NODE, "uid", [PF, device("mock1", "0000:12:00.0")]).values() for item in pool]
    sick = {"key": "unhealthy", "value": "NoAnswer", "effect": "NoSchedule"}
    items[1]["spec"]["devices"][0]["taints"] = [sick]
    devices = slices.parse(items)
    rules = availability.taint_rules([rule("all", {}), rule("pool", {"pool": f"{NODE}/mock0"})])
    found = availability.of(devices, [], rules)
    own, of_all, of_pool = (
        Taint("unhealthy", "NoAnswer", "NoSchedule"),
        Taint("k", "v", "NoExecute", "all"),
        Taint("k", "v", "NoExecute", "pool"),
    )
    assert found.taints == {(f"{NODE}/mock0", "mock0"): (of_all, of_pool), (f"{NODE}/mock1", "mock1"): (own, of_all)}
    assert str(of_all) == "k=v:NoExecute (DeviceTaintRule all)"
    assert [found.is_usable(WANTED, item) for item in devices] == [False, False]
    tolerant = Wanted("r", "mock-accel-pf", tolerations=(Toleration("k", "Exists"),))
    assert [found.is_usable(tolerant, item) for item in devices] == [True, False]


def rule(name: str, selector: dict[str, str] | None) -> dict[str, Any]:
    spec: dict[str, Any] = {"taint": {"key": "k", "value": "v", "effect": "NoExecute"}}
    return {"metadata": {"name": name}, "spec": spec | ({} if selector is None else {"deviceSelector": selector})}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        (None, False),
        ({}, True),
        ({"driver": DRIVER}, True),
        ({"driver": "gpu.example.com"}, False),
        ({"pool": f"{NODE}/mock0"}, True),
        ({"pool": "other"}, False),
        ({"driver": DRIVER, "device": "mock0"}, True),
        ({"driver": DRIVER, "device": "mock1"}, False),
    ],
)
def test_taint_rule_selects_devices(selector: dict[str, str] | None, selected: bool) -> None:
    (found,) = availability.of(published(PF), [], availability.taint_rules([rule("r", selector)])).taints.values()
    assert bool(found) is selected


def test_holders_say_how_they_share_a_device() -> None:
    claims = [claim({"device": "mock0"}), claim({"device": "mock0", "adminAccess": True})]
    (users,) = availability.holders(claims).values()
    assert [result.what for _, result in users] == ["", "adminAccess"]
