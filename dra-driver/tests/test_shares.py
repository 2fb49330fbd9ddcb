"""Consumable capacity: claims share a device, and the kernel module enforces each share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import cdi, discovery, shares
from mock_accel_dra.api import Client
from mock_accel_dra.discovery import Device, read_device, scan
from mock_accel_dra.prepare import PrepareError, Preparer
from mock_accel_dra.quantities import quantity
from mock_accel_dra.reconcile import Reconciler
from mock_accel_dra.reports import device_statuses
from mock_accel_dra.shares import Share, ShareError, Wanted, planned
from mock_accel_dra.state import State

NODE = "mock-cluster-node1"
GIB = 1 << 30
MEMORY, WINDOW = 16 * GIB, 1 << 20
WHOLE = Device("mock0", "U", MEMORY, 0, (), 0, "0000:11:00.0", "", window_size=WINDOW, shares=(), number=(240, 0))


def result(memory: int = 4 * GIB, share: str = "a", **more: Any) -> dict[str, Any]:
    consumed = {"memory": quantity(memory), "jobs": "15"}
    return {
        "request": "part",
        "driver": "mock-accel.example.com",
        "pool": f"{NODE}/mock0",
        "device": "mock0",
        "shareID": share,
        "consumedCapacity": consumed,
        **more,
    }


class Rig:
    """A node with a device that can be shared (mock0), and the agent's parts."""

    def __init__(self, sysfs: SysfsTree, folder: Path, api: FakeApiServer) -> None:
        self.sysfs = sysfs
        self.cdi = folder / "cdi"
        self.state_file = folder / "state.json"
        self.api = api
        sysfs.add("mock0", "0000:11:00.0", window=WINDOW, memory=MEMORY, shares=True)
        self.restart()

    def restart(self) -> None:
        """A new process of the driver."""
        self.state = State.load(self.state_file, "boot-1")
        place: dict[str, Any] = {"api": Client(self.api.url), "node": NODE, "sysfs": self.sysfs.root}
        place |= {"cdi_folder": self.cdi, "state": self.state}
        self.preparer = Preparer(**place)
        self.reconciler = Reconciler(**place)

    def prepare(self, name: str, *results: dict[str, Any], config: list[dict[str, Any]] | None = None) -> Any:
        self.api.add_claim(name, list(results), config=config)
        return self.preparer.prepare("default", name, f"uid-{name}")

    def unprepare(self, name: str) -> None:
        self.preparer.unprepare("default", name, f"uid-{name}")

    def edits(self, name: str) -> Any:
        """Container edits of a CDI device."""
        content = json.loads(cdi.file_of(self.cdi, name).read_text())["devices"][0]
        assert content["name"] == name
        return content["containerEdits"]

    def kernel(self) -> list[str]:
        """Shares of mock0 in the kernel module."""
        return self.sysfs.read("mock0", "shares").splitlines()


@pytest.fixture
def rig(sysfs: SysfsTree, tmp_path: Path, node_less_api: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> Rig:
    write = discovery.set_attribute

    def as_the_module_does(root: Path, name: str, attribute: str, text: str) -> None:
        if attribute == "shares":
            sysfs.change_shares(name, text)
        else:
            write(root, name, attribute, text)
        if (attribute, text) == ("status", "0"):
            sysfs.reset_settings(name)

    monkeypatch.setattr(discovery, "set_attribute", as_the_module_does)
    return Rig(sysfs, tmp_path, node_less_api)


def test_two_claims_share_a_device_and_a_third_has_no_room(rig: Rig) -> None:
    (one,) = rig.prepare("one", result(8 * GIB, "a"))
    (two,) = rig.prepare("two", result(4 * GIB, "b"))
    assert [one.share_id, two.share_id] == ["a", "b"]
    assert [one.cdi_id, two.cdi_id] == ["example.com/mock-accel=mock0-a", "example.com/mock-accel=mock0-b"]
    # Half of the window, then a quarter of it: offset, size, jobs, minor number.
    assert rig.kernel() == ["a 0 524288 15 256", "b 524288 262144 15 257"]
    assert rig.sysfs.read("mock0", "mode") == "shared"
    with pytest.raises(PrepareError, match="other claims have 12Gi; it cannot give 8Gi more"):
        rig.prepare("three", result(8 * GIB, "c"))
    assert rig.state.get("uid-three") is None
    rig.unprepare("one")
    assert rig.sysfs.status("mock0") == 1
    assert cdi.names(rig.cdi) == {"mock0-b"}
    rig.prepare("three", result(8 * GIB, "c"))
    assert rig.kernel() == ["b 524288 262144 15 257", "c 0 524288 15 256"]
    rig.unprepare("two")
    rig.unprepare("three")
    assert (rig.sysfs.status("mock0"), rig.kernel(), cdi.names(rig.cdi)) == (0, [], set())


def test_container_gets_the_node_and_the_limits_of_its_share(rig: Rig) -> None:
    rig.prepare("one", result(4 * GIB, "a"))
    edits = rig.edits("mock0-a")
    (node,) = edits["deviceNodes"]
    assert (node["path"], node["major"], node["minor"]) == ("/dev/mock-accel/mock0", 240, 256)
    limits = {"SHARE=a", f"SHARE_MEMORY={4 * GIB}", "WINDOW_SIZE=262144", "MAX_JOBS=15", "DEVICE=mock0"}
    assert {f"MOCK_ACCEL_{item}" for item in limits} <= set(edits["env"])
    assert "MOCK_ACCEL_WINDOW_SIZE_MOCK0=262144" in edits["env"]
    assert str(rig.cdi / "example.com_mock-accel-mock0-a.links") in str(edits["mounts"])


def test_status_of_each_share_has_its_id(rig: Rig) -> None:
    rig.prepare("two", result(4 * GIB, "a"), result(2 * GIB, "b"))
    (claim,) = rig.state.claims()
    first, second = device_statuses(NODE, claim, scan(rig.sysfs.root).devices)
    assert [first["shareID"], second["shareID"]] == ["a", "b"]
    assert second["data"]["share"] == {
        "memory": "2Gi",
        "windowOffset": "256Ki",
        "windowSize": "128Ki",
        "maxJobs": 15,
    }


def test_all_of_the_memory_is_the_whole_device_and_excludes_others(rig: Rig) -> None:
    parameters = {"apiVersion": "mock-accel.example.com/v1alpha1", "kind": "MockAccelConfig", "maxJobs": 4}
    config = [{"source": "FromClaim", "opaque": {"driver": "mock-accel.example.com", "parameters": parameters}}]
    rig.prepare("all", result(MEMORY, "a"), config=config)
    assert rig.kernel() == []
    assert rig.sysfs.read("mock0", "job_limit") == "4"
    assert rig.edits("mock0-a")["deviceNodes"][0]["minor"] == 0
    with pytest.raises(PrepareError, match="of which other claims have 16Gi"):
        rig.prepare("more", result(GIB, "b"))
    with pytest.raises(PrepareError, match="has a share of device mock0 and a configuration of it"):
        rig.unprepare("all")
        rig.prepare("part", result(GIB, "b"), config=config)


def test_a_device_that_was_not_shared_stays_exclusive(rig: Rig) -> None:
    rig.prepare("old", {**result(), "shareID": None, "consumedCapacity": None})
    with pytest.raises(PrepareError, match="still prepared for claim default/old"):
        rig.prepare("new", result(GIB, "b"))


def test_admin_access_sees_a_shared_device(rig: Rig) -> None:
    rig.prepare("one", result(4 * GIB, "a"))
    (admin,) = rig.prepare("admin", {**result(), "shareID": None, "consumedCapacity": None, "adminAccess": True})
    assert admin.cdi_id == "example.com/mock-accel=mock0"
    assert "MOCK_ACCEL_SHARE" not in str(rig.edits("mock0"))
    rig.reconciler.repair(scan(rig.sysfs.root))
    rig.unprepare("one")
    assert cdi.names(rig.cdi) == {"mock0"}


def test_a_repeated_prepare_and_a_restart_change_nothing(rig: Rig) -> None:
    rig.prepare("one", result(4 * GIB, "a"))
    rig.prepare("two", result(4 * GIB, "b"))
    before = rig.kernel(), rig.state_file.read_text()
    rig.restart()
    rig.prepare("two", result(4 * GIB, "b"))
    rig.reconciler.repair(scan(rig.sysfs.root))
    assert (rig.kernel(), rig.state_file.read_text()) == before
    assert json.loads(rig.state_file.read_text())["version"] == 3


def test_a_failed_write_rolls_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.prepare("one", result(4 * GIB, "a"))
    write = cdi.write

    def full(folder: Path, device: Device, *rest: Any) -> bool:
        if rest[-1].id == "c":
            raise OSError(28, "No space left on device")
        return write(folder, device, *rest)

    monkeypatch.setattr(cdi, "write", full)
    with pytest.raises(PrepareError, match="No space left"):
        rig.prepare("two", result(GIB, "b"), result(GIB, "c"))
    assert rig.kernel() == ["a 0 262144 15 256"]
    assert (cdi.names(rig.cdi), rig.sysfs.status("mock0")) == ({"mock0-a"}, 1)


def test_shares_that_the_module_lost_or_should_not_have_are_repaired(rig: Rig) -> None:
    rig.prepare("one", result(4 * GIB, "a"))
    rig.sysfs.change_shares("mock0", "remove a")
    rig.sysfs.change_shares("mock0", "add foreign 0 4096 0")
    rig.reconciler.repair(scan(rig.sysfs.root))
    assert rig.kernel() == ["a 0 262144 15 256"]
    assert rig.edits("mock0-a")["deviceNodes"][0]["minor"] == 256


def test_a_lost_record_is_rebuilt_from_the_module(rig: Rig) -> None:
    rig.prepare("one", result(4 * GIB, "a"), result(2 * GIB, "b"))
    rig.prepare("two", result(4 * GIB, "c"))
    rig.api.add_claim("waits", [result(4 * GIB, "d")])
    entries = {claim.name: claim.devices[0].shares for claim in rig.state.claims()}
    rig.state_file.write_text("{")
    rig.restart()
    rig.reconciler.run()
    assert {claim.name: claim.devices[0].shares for claim in rig.state.claims()} == entries
    assert len(rig.kernel()) == 3


def test_an_older_module_cannot_share(rig: Rig) -> None:
    (rig.sysfs.classes / "mock0" / "shares").unlink()
    with pytest.raises(PrepareError, match="mock0 cannot be shared: .* is the kernel module of this node older?"):
        rig.prepare("one", result())
    assert rig.sysfs.status("mock0") == 0


@pytest.mark.parametrize(
    ("memory", "jobs", "compute", "limit"),
    [("4Gi", "15", None, 15), ("4Gi", None, None, 0), ("4Gi", "60", "100m", 25), ("4Gi", "15", "1", 15)],
)
def test_limit_of_jobs(memory: str, jobs: str | None, compute: str | None, limit: int) -> None:
    consumed = {"mock-accel.example.com/memory": memory, "jobs": jobs, "compute": compute}
    found = shares.wanted(
        {"shareID": "a", "consumedCapacity": {name: item for name, item in consumed.items() if item}}, WHOLE
    )
    assert found == Wanted("a", 4 * GIB, limit)


def test_the_smallest_hole_that_fits_is_taken() -> None:
    others = [Share("a", 4 * GIB, 0, 4 << 16), Share("b", GIB, 6 << 16, 1 << 16), Share("c", GIB, 8 << 16, 1 << 16)]
    places = planned(WHOLE, [Wanted("d", GIB, 0), Wanted("e", 2 * GIB, 0)], others)
    assert [share.offset >> 16 for share in places] == [7, 4]


def test_a_share_keeps_its_place_and_none_is_given_twice() -> None:
    before = [Share("b", 8 * GIB, 0, 8 << 16)]
    first, second = planned(WHOLE, [Wanted("a", 4 * GIB, 0), Wanted("b", 8 * GIB, 0)], [], before)
    assert (second.offset, first.offset) == (0, 8 << 16)


@pytest.mark.parametrize(
    ("ours", "others", "message"),
    [
        ([Wanted("a", 123, 0)], [], "expected a multiple of 4096: request a multiple of 1Gi"),
        (
            [Wanted("a", 8 * GIB, 0)],
            [Share("b", GIB, 4 << 16, 1 << 16), Share("c", GIB, 11 << 16, 1 << 16)],
            "mock0 has no 512Ki of its window in one piece, although enough is free",
        ),
    ],
)
def test_no_place(ours: list[Wanted], others: list[Share], message: str) -> None:
    with pytest.raises(ShareError, match=message):
        planned(WHOLE, ours, others)


def test_a_share_without_memory_is_refused(rig: Rig) -> None:
    with pytest.raises(PrepareError, match="share a of device mock0: expected memory in consumedCapacity, found none"):
        rig.prepare("one", result(consumedCapacity={}))


def test_a_bad_attribute_of_the_module_is_an_error(rig: Rig) -> None:
    rig.sysfs.write("mock0", "shares", "a 0")
    with pytest.raises(discovery.DeviceError, match="shares of mock0: expected id, offset, size, jobs and minor"):
        read_device(rig.sysfs.root, "mock0")
