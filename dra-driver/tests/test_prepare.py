"""Claims are prepared and unprepared, whole or not at all."""

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
from mock_accel_dra.prepare import PrepareError, Preparer, Result
from mock_accel_dra.state import State

NODE = "mock-cluster-node1"


def result(device: str, request: str = "gpu", **more: Any) -> dict[str, Any]:
    pool = f"{NODE}/{device.partition('-')[0]}"
    return {"request": request, "driver": "mock-accel.example.com", "pool": pool, "device": device, **more}


class Claims:
    """The API server's claims."""

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


class Room:
    """A node with its driver."""

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
def room(plug: Callable[..., SysfsTree], tmp_path: Path) -> Room:
    return Room(plug(vfs=True), tmp_path)


def test_prepare_and_unprepare(room: Room) -> None:
    claim = room.api.add("pair", result("mock0-vf0", "small/first"), result("mock1", "big", shareID="share"))
    assert room.prepare(claim) == [
        Result("small", f"{NODE}/mock0", "mock0-vf0", "example.com/mock-accel=mock0_vf0"),
        Result("big", f"{NODE}/mock1", "mock1", "example.com/mock-accel=mock1", "share"),
    ]
    assert room.used() == ({"mock0_vf0", "mock1"}, {"mock0_vf0", "mock1"}, {"uid-pair"})
    room.unprepare(claim)
    assert room.used() == NOTHING


def test_both_can_be_repeated(room: Room) -> None:
    claim = room.api.add("one", result("mock1"))
    first = room.prepare(claim)
    room.restart()
    cdi.delete(room.cdi, "mock1")
    room.sysfs.set_status("mock1", 0)
    assert room.prepare(claim) == first
    assert room.used() == ({"mock1"}, {"mock1"}, {"uid-one"})
    room.restart()
    room.unprepare(claim)
    room.unprepare(claim)
    assert room.used() == NOTHING


def test_unknown_claim_is_unprepared_with_success(room: Room) -> None:
    room.api.away = True
    room.unprepare(("default", "nobody", "uid"))


def test_other_drivers_results_are_ignored(room: Room) -> None:
    foreign = {"request": "nic", "driver": "nic.example.com", "pool": "p", "device": "eth0"}
    assert [entry.device for entry in room.prepare(room.api.add("mixed", foreign, result("mock1")))] == ["mock1"]


def test_a_replaced_claim_is_refused(room: Room) -> None:
    room.api.add("one", result("mock1"), uid="new")
    with pytest.raises(PrepareError, match="was replaced: expected uid old, found new"):
        room.prepare(("default", "one", "old"))
    assert room.used() == NOTHING


def test_a_claim_without_allocation_is_refused(room: Room) -> None:
    room.api.claims["one"] = {"metadata": {"uid": "u"}}
    with pytest.raises(PrepareError, match="is not allocated"):
        room.prepare(("default", "one", "u"))


def test_api_server_away(room: Room) -> None:
    claim = room.api.add("one", result("mock1"))
    room.prepare(claim)
    room.api.away = True
    with pytest.raises(PrepareError, match="cannot be read: API server is away"):
        room.prepare(("default", "two", "u"))
    room.unprepare(claim)
    assert room.used() == NOTHING


def test_a_device_that_is_not_there_is_refused(room: Room) -> None:
    with pytest.raises(
        PrepareError, match="device mock9 of pool .* is not on node mock-cluster-node1; devices here: mock0"
    ):
        room.prepare(room.api.add("one", result("mock1"), result("mock9")))
    with pytest.raises(PrepareError, match="is not on node"):
        room.prepare(room.api.add("two", {**result("mock1"), "pool": "mock-cluster-node2/mock1"}))
    assert room.used() == NOTHING


def test_two_claims_on_one_device_are_refused_with_both_names(room: Room) -> None:
    first, second = room.api.add("first", result("mock1")), room.api.add("second", result("mock2"), result("mock1"))
    room.prepare(first)
    room.restart()
    with pytest.raises(PrepareError, match=r"mock1 is still prepared for claim default/first .* claim default/second"):
        room.prepare(second)
    assert room.used() == ({"mock1"}, {"mock1"}, {"uid-first"})
    room.unprepare(first)
    room.prepare(second)
    assert room.used() == ({"mock1", "mock2"}, {"mock1", "mock2"}, {"uid-second"})


def test_a_device_that_somebody_else_took_is_refused(room: Room) -> None:
    room.sysfs.set_status("mock1", 1)
    with pytest.raises(PrepareError, match="expected status 0, found 1, and no claim prepared here has it"):
        room.prepare(room.api.add("one", result("mock1")))


def test_a_device_that_does_not_answer_is_refused(room: Room) -> None:
    room.sysfs.set_status("mock1", 0xFFFFFFFF)
    with pytest.raises(PrepareError, match="found 4294967295"):
        room.prepare(room.api.add("one", result("mock1")))


def test_a_register_that_does_not_keep_its_value(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "get_status", lambda *_: 0)
    with pytest.raises(PrepareError, match="expected status 1 after writing it, found 0"):
        room.prepare(room.api.add("one", result("mock1"), result("mock2")))
    assert room.used() == NOTHING


def test_failure_to_write_cdi_rolls_back(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    write = cdi.write

    def full(folder: Path, device: discovery.Device) -> bool:
        if device.name == "mock2":
            raise OSError(28, "No space left on device")
        return write(folder, device)

    monkeypatch.setattr(cdi, "write", full)
    claim = room.api.add("one", result("mock1"), result("mock2"))
    with pytest.raises(PrepareError, match=r"claim default/one .* cannot be prepared: .*No space left"):
        room.prepare(claim)
    assert room.used() == NOTHING
    monkeypatch.undo()
    room.prepare(claim)
    assert room.used() == ({"mock1", "mock2"}, {"mock1", "mock2"}, {"uid-one"})


def test_failure_to_write_the_state_touches_no_device(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mock_accel_dra.state.write_atomically", full)
    with pytest.raises(PrepareError, match="No space left"):
        room.prepare(room.api.add("one", result("mock1")))
    assert room.used() == NOTHING


def test_a_failed_roll_back_leaves_the_claim_to_unprepare(
    room: Room, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
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
    claim = room.api.add("one", result("mock1"))
    with pytest.raises(PrepareError):
        room.prepare(claim)
    assert "Roll-back failed" in log.getvalue()
    assert room.used() == ({"mock1"}, set(), {"uid-one"})
    with pytest.raises(PrepareError, match="cannot be released: .*Input/output error"):
        room.unprepare(claim)
    monkeypatch.undo()
    room.unprepare(claim)
    assert room.used() == NOTHING


def test_killed_before_the_status_was_written(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    claim = room.api.add("one", result("mock1"))
    monkeypatch.setattr(discovery, "set_status", killed)
    with pytest.raises(KeyboardInterrupt):
        room.prepare(claim)
    monkeypatch.undo()
    room.restart()
    assert room.used() == (set(), set(), {"uid-one"})
    room.prepare(claim)
    assert room.used() == ({"mock1"}, {"mock1"}, {"uid-one"})


def test_killed_after_the_status_was_written(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    claim = room.api.add("one", result("mock1"))
    monkeypatch.setattr(cdi, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        room.prepare(claim)
    monkeypatch.undo()
    room.restart()
    assert room.used() == ({"mock1"}, set(), {"uid-one"})
    room.prepare(claim)
    room.unprepare(claim)
    assert room.used() == NOTHING


def test_unplugged_while_allocated(room: Room) -> None:
    claim = room.api.add("one", result("mock1"))
    room.prepare(claim)
    room.sysfs.remove("mock1")
    room.unprepare(claim)
    assert room.used() == NOTHING


def test_admin_access_never_touches_status(room: Room) -> None:
    admin, user = room.api.add("admin", result("mock1", adminAccess=True)), room.api.add("user", result("mock1"))
    room.prepare(admin)
    assert room.used() == (set(), {"mock1"}, {"uid-admin"})
    room.prepare(user)
    room.unprepare(admin)
    assert room.used() == ({"mock1"}, {"mock1"}, {"uid-user"})
    room.prepare(admin)
    room.unprepare(user)
    assert room.used() == (set(), {"mock1"}, {"uid-admin"})
    room.unprepare(admin)
    assert room.used() == NOTHING


def test_a_claim_allocated_anew_gives_its_old_devices_back(room: Room) -> None:
    claim = room.api.add("one", result("mock1"), result("mock2"))
    room.prepare(claim)
    room.api.add("one", result("mock2"), result("mock4"))
    room.prepare(claim)
    assert room.used() == ({"mock2", "mock4"}, {"mock2", "mock4"}, {"uid-one"})


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 99, "claims": {}}', '{"version": 1}'])
def test_an_unusable_state_file_is_put_aside(tmp_path: Path, log: io.StringIO, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    assert State.load(path).claims() == []
    assert path.with_name("state.json.bad").read_text() == content
    assert "State file is not usable" in log.getvalue()
