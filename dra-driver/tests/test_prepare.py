"""Claims are prepared and unprepared completely or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import cdi, discovery
from mock_accel_dra.api import ApiError, ApiUnreachableError
from mock_accel_dra.configuration import Configuration
from mock_accel_dra.prepare import PrepareError, Preparer
from mock_accel_dra.requested import Result
from mock_accel_dra.state import State

NODE = "mock-cluster-node1"


def result(device: str, request: str = "gpu", **more: Any) -> dict[str, Any]:
    pool = f"{NODE}/{device.partition('-')[0]}"
    return {"request": request, "driver": "mock-accel.example.com", "pool": pool, "device": device, **more}


class Claims:
    """A fake API with claims only."""

    def __init__(self) -> None:
        self.claims: dict[str, dict[str, Any]] = {}
        self.away = False

    def add(self, name: str, *results: dict[str, Any], uid: str = "") -> tuple[str, str, str]:
        status = {"allocation": {"devices": {"results": list(results)}}}
        self.claims[name] = {"metadata": {"uid": uid or f"uid-{name}"}, "status": status}
        return "default", name, f"uid-{name}"

    def get(self, path: str) -> dict[str, Any]:
        if self.away:
            raise ApiUnreachableError("API server is away")
        name = path.rpartition("/")[2]
        if name not in self.claims:
            raise ApiError(404, f"{name} not found")
        return self.claims[name]


class Rig:
    """A node and its driver."""

    def __init__(self, sysfs: SysfsTree, folder: Path) -> None:
        self.sysfs = sysfs
        self.cdi = folder / "cdi"
        self.cdi.mkdir()
        self.state_file = folder / "state.json"
        self.api = Claims()
        self.restart()

    def restart(self) -> None:
        """A new process of the driver."""
        state = State.load(self.state_file)
        self.state = state
        self.preparer = Preparer(api=self.api, node=NODE, sysfs=self.sysfs.root, cdi_folder=self.cdi, state=state)

    def prepare(self, claim: tuple[str, str, str]) -> list[Result]:
        return self.preparer.prepare(*claim)

    def unprepare(self, claim: tuple[str, str, str]) -> None:
        self.preparer.unprepare(*claim)

    def used(self) -> tuple[set[str], set[str], set[str]]:
        """Devices with status 1, devices with a CDI file, claims in the state file."""
        content = json.loads(self.state_file.read_text()) if self.state_file.exists() else {"claims": {}}
        return (
            {name for name in self.sysfs.names() if self.sysfs.status(name)},
            {path.stem.removeprefix("example.com_mock-accel-") for path in self.cdi.iterdir()},
            set(content["claims"]),
        )


NOTHING: tuple[set[str], set[str], set[str]] = (set(), set(), set())


@pytest.fixture
def rig(plug: Callable[..., SysfsTree], tmp_path: Path) -> Rig:
    return Rig(plug(vfs=True), tmp_path)


def test_prepare_and_unprepare(rig: Rig) -> None:
    claim = rig.api.add("pair", result("mock0-vf0", "small/first"), result("mock1", "big"))
    assert rig.prepare(claim) == [
        Result("small", f"{NODE}/mock0", "mock0-vf0", "example.com/mock-accel=mock0_vf0"),
        Result("big", f"{NODE}/mock1", "mock1", "example.com/mock-accel=mock1"),
    ]
    assert rig.used() == ({"mock0_vf0", "mock1"}, {"mock0_vf0", "mock1"}, {"uid-pair"})
    rig.unprepare(claim)
    assert rig.used() == NOTHING


def test_prepare_and_unprepare_can_be_repeated(rig: Rig) -> None:
    claim = rig.api.add("one", result("mock1"))
    first = rig.prepare(claim)
    rig.restart()
    cdi.delete(rig.cdi, "mock1")
    rig.sysfs.set_status("mock1", 0)
    assert rig.prepare(claim) == first
    assert rig.used() == ({"mock1"}, {"mock1"}, {"uid-one"})
    rig.restart()
    rig.unprepare(claim)
    rig.unprepare(claim)
    assert rig.used() == NOTHING


def test_unprepare_of_an_unknown_claim_succeeds(rig: Rig) -> None:
    rig.api.away = True
    rig.unprepare(("default", "nobody", "uid"))
    assert rig.used() == NOTHING


def test_other_drivers_results_are_ignored(rig: Rig) -> None:
    foreign = {"request": "nic", "driver": "nic.example.com", "pool": "p", "device": "eth0"}
    assert [entry.device for entry in rig.prepare(rig.api.add("mixed", foreign, result("mock1")))] == ["mock1"]


def test_a_replaced_claim_is_refused(rig: Rig) -> None:
    rig.api.add("one", result("mock1"), uid="new")
    with pytest.raises(PrepareError, match="was replaced: expected uid old, found new"):
        rig.prepare(("default", "one", "old"))
    assert rig.used() == NOTHING


def test_a_claim_without_allocation_is_refused(rig: Rig) -> None:
    rig.api.claims["one"] = {"metadata": {"uid": "u"}}
    with pytest.raises(PrepareError, match="is not allocated"):
        rig.prepare(("default", "one", "u"))


def test_api_server_away(rig: Rig) -> None:
    claim = rig.api.add("one", result("mock1"))
    rig.prepare(claim)
    rig.api.away = True
    with pytest.raises(PrepareError, match="cannot be read: API server is away"):
        rig.prepare(("default", "two", "u"))
    rig.unprepare(claim)
    assert rig.used() == NOTHING


def test_a_missing_device_is_refused(rig: Rig) -> None:
    with pytest.raises(
        PrepareError, match="device mock9 of pool .* is not on node mock-cluster-node1; devices here: mock0"
    ):
        rig.prepare(rig.api.add("one", result("mock1"), result("mock9")))
    with pytest.raises(PrepareError, match="is not on node"):
        rig.prepare(rig.api.add("two", {**result("mock1"), "pool": "mock-cluster-node2/mock1"}))
    assert rig.used() == NOTHING


def test_two_claims_on_one_device_are_refused_with_both_names(rig: Rig) -> None:
    first, second = rig.api.add("first", result("mock1")), rig.api.add("second", result("mock2"), result("mock1"))
    rig.prepare(first)
    rig.restart()
    with pytest.raises(PrepareError, match=r"mock1 is still prepared for claim default/first .* claim default/second"):
        rig.prepare(second)
    assert rig.used() == ({"mock1"}, {"mock1"}, {"uid-first"})
    rig.unprepare(first)
    rig.prepare(second)
    assert rig.used() == ({"mock1", "mock2"}, {"mock1", "mock2"}, {"uid-second"})


def test_a_device_that_is_in_use_without_a_claim_is_refused(rig: Rig) -> None:
    rig.sysfs.set_status("mock1", 1)
    with pytest.raises(PrepareError, match="expected status 0, found 1, and no claim prepared here has it"):
        rig.prepare(rig.api.add("one", result("mock1")))


def test_a_device_that_does_not_answer_is_refused(rig: Rig) -> None:
    rig.sysfs.set_status("mock1", 0xFFFFFFFF)
    with pytest.raises(PrepareError, match="found 4294967295"):
        rig.prepare(rig.api.add("one", result("mock1")))


def test_a_register_that_does_not_keep_its_value(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "get_status", lambda *_: 0)
    with pytest.raises(PrepareError, match="expected status 1 after writing it, found 0"):
        rig.prepare(rig.api.add("one", result("mock1"), result("mock2")))
    assert rig.used() == NOTHING


def test_failure_to_write_cdi_rolls_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    write = cdi.write

    def full(folder: Path, device: discovery.Device, configuration: Configuration) -> bool:
        if device.name == "mock2":
            raise OSError(28, "No space left on device")
        return write(folder, device, configuration)

    monkeypatch.setattr(cdi, "write", full)
    claim = rig.api.add("one", result("mock1"), result("mock2"))
    with pytest.raises(PrepareError, match=r"claim default/one .* cannot be prepared: .*No space left"):
        rig.prepare(claim)
    assert rig.used() == NOTHING
    monkeypatch.undo()
    rig.prepare(claim)
    assert rig.used() == ({"mock1", "mock2"}, {"mock1", "mock2"}, {"uid-one"})


def test_failure_to_write_the_state_touches_no_device(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mock_accel_dra.state.write_atomically", full)
    with pytest.raises(PrepareError, match="No space left"):
        rig.prepare(rig.api.add("one", result("mock1")))
    assert rig.used() == NOTHING


def test_a_failed_roll_back_leaves_the_claim_to_unprepare(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    write = discovery.set_status

    def stuck(root: Path, name: str, status: int) -> None:
        if status == 0:
            raise OSError(5, "Input/output error")
        write(root, name, status)

    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(discovery, "set_status", stuck)
    monkeypatch.setattr(cdi, "write", full)
    claim = rig.api.add("one", result("mock1"))
    with pytest.raises(PrepareError):
        rig.prepare(claim)
    assert "Roll-back failed" in log.getvalue()
    assert rig.used() == ({"mock1"}, set(), {"uid-one"})
    with pytest.raises(PrepareError, match="cannot be released: .*Input/output error"):
        rig.unprepare(claim)
    monkeypatch.undo()
    rig.unprepare(claim)
    assert rig.used() == NOTHING


def test_killed_before_the_status_was_written(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    claim = rig.api.add("one", result("mock1"))
    monkeypatch.setattr(discovery, "set_status", killed)
    with pytest.raises(KeyboardInterrupt):
        rig.prepare(claim)
    monkeypatch.undo()
    rig.restart()
    assert rig.used() == (set(), set(), {"uid-one"})
    rig.prepare(claim)
    assert rig.used() == ({"mock1"}, {"mock1"}, {"uid-one"})


def test_killed_after_the_status_was_written(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    claim = rig.api.add("one", result("mock1"))
    monkeypatch.setattr(cdi, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        rig.prepare(claim)
    monkeypatch.undo()
    rig.restart()
    assert rig.used() == ({"mock1"}, set(), {"uid-one"})
    rig.prepare(claim)
    rig.unprepare(claim)
    assert rig.used() == NOTHING


def test_unplugged_while_allocated(rig: Rig) -> None:
    claim = rig.api.add("one", result("mock1"))
    rig.prepare(claim)
    rig.sysfs.remove("mock1")
    rig.unprepare(claim)
    assert rig.used() == NOTHING


def test_admin_access_never_touches_status(rig: Rig) -> None:
    admin, user = rig.api.add("admin", result("mock1", adminAccess=True)), rig.api.add("user", result("mock1"))
    rig.prepare(admin)
    assert rig.used() == (set(), {"mock1"}, {"uid-admin"})
    rig.prepare(user)
    rig.unprepare(admin)
    assert rig.used() == ({"mock1"}, {"mock1"}, {"uid-user"})
    rig.prepare(admin)
    rig.unprepare(user)
    assert rig.used() == (set(), {"mock1"}, {"uid-admin"})
    rig.unprepare(admin)
    assert rig.used() == NOTHING


def test_a_claim_that_is_allocated_again_releases_its_old_devices(rig: Rig) -> None:
    claim = rig.api.add("one", result("mock1"), result("mock2"))
    rig.prepare(claim)
    rig.api.add("one", result("mock2"), result("mock4"))
    rig.prepare(claim)
    assert rig.used() == ({"mock2", "mock4"}, {"mock2", "mock4"}, {"uid-one"})
