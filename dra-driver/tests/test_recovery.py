"""Devices that hang or had a fatal error are reset once."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import discovery
from mock_accel_dra.discovery import Device, scan
from mock_accel_dra.inventory import Inventory
from mock_accel_dra.recovery import Recovery
from mock_accel_dra.state import State

_DELAY = 10.0


class Rig:
    """A node with one device and its recovery, and a clock that stands still."""

    def __init__(self, sysfs: SysfsTree, folder: Path) -> None:
        self.sysfs = sysfs
        self.now = 1000.0
        self.inventory = Inventory()
        self.results: list[tuple[str, str]] = []
        self.writes = 0
        self.recovers = True
        """A reset ends the problem."""
        sysfs.add("mock0", "0000:11:00.0", window=1 << 20)
        self.recovery = self.start(folder, _DELAY)

    def start(self, folder: Path, delay: float) -> Recovery:
        state = State.load(folder / "state.json")
        return Recovery(sysfs=self.sysfs.root, state=state, observer=self, delay=delay, clock=lambda: self.now)

    def was_reset(self, device: Device, error: str) -> None:
        self.results.append((device.name, error))

    def look(self, after: float = 0.0) -> int:
        """Look ``after`` seconds; the number of resets so far."""
        self.now += after
        self.recovery.look(self.inventory.update(scan(self.sysfs.root), {"mock0"}))
        return self.writes

    def vanish(self, gone: bool = True) -> None:
        """Make the device unreadable, like one that does not answer; or readable again."""
        there, away = self.sysfs.classes / "mock0/uuid", self.sysfs.root / "uuid"
        (there if gone else away).rename(away if gone else there)

    def fail(self, word: str) -> None:
        self.sysfs.write("mock0", "health", word)


@pytest.fixture
def rig(sysfs: SysfsTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    rig = Rig(sysfs, tmp_path)

    def reset(_: Path, name: str, attribute: str, text: str) -> None:
        assert (name, attribute, text) == ("mock0", "reset", "1")
        rig.writes += 1
        if rig.recovers:
            rig.fail("ok")

    monkeypatch.setattr(discovery, "set_attribute", reset)
    return rig


@pytest.mark.parametrize("word", ["hung", "fatal"])
def test_reset_after_the_delay(rig: Rig, word: str, log: io.StringIO) -> None:
    assert rig.look() == 0
    assert rig.recovery.due == float("inf")
    rig.fail(word)
    assert rig.look() == 0
    assert rig.recovery.due == rig.now + _DELAY
    assert rig.look(_DELAY - 1) == 0
    assert rig.look(1) == 1
    assert rig.results == []
    assert rig.recovery.due == rig.now + 1
    assert '"Resetting device" device="mock0"' in log.getvalue()
    assert rig.look(1) == 1
    assert rig.results == [("mock0", "")]
    assert rig.recovery.due == float("inf")
    assert '"Device is recovered by a reset" device="mock0"' in log.getvalue()


def test_a_reset_takes_its_time(rig: Rig) -> None:
    """The module resets in the background, and the device may not answer meanwhile."""
    rig.recovers = False
    rig.fail("fatal")
    rig.look()
    rig.look(_DELAY)
    rig.vanish()
    rig.look(5)
    rig.vanish(False)
    rig.look(5)
    assert rig.results == []
    rig.fail("ok")
    rig.look(1)
    assert rig.results == [("mock0", "")]


def test_a_device_that_is_unplugged_during_its_reset(rig: Rig) -> None:
    rig.recovers = False
    rig.fail("fatal")
    rig.look()
    rig.look(_DELAY)
    rig.sysfs.remove("mock0")
    rig.inventory = Inventory()
    rig.look(15)
    assert rig.results == [("mock0", "the device is not in the node's sysfs any more")]


@pytest.mark.parametrize("word", ["hot", "no-firmware", "over-current"])
def test_other_problems_are_not_reset(rig: Rig, word: str) -> None:
    rig.fail(word)
    rig.look()
    assert rig.look(_DELAY) == 0
    assert rig.recovery.due == float("inf")


def test_a_device_that_recovers_by_itself_is_not_reset(rig: Rig) -> None:
    rig.fail("hung")
    rig.look()
    rig.fail("ok")
    assert rig.look(_DELAY) == 0
    assert rig.recovery.due == float("inf")


@pytest.mark.parametrize(("attribute", "text"), [("health", "ok"), ("uuid", "ANOTHER")])
def test_a_device_that_changes_between_scan_and_reset_is_not_reset(rig: Rig, attribute: str, text: str) -> None:
    rig.fail("hung")
    rig.look()
    devices = rig.inventory.update(scan(rig.sysfs.root), set())
    rig.sysfs.write("mock0", attribute, text)
    rig.now += _DELAY
    rig.recovery.look(devices)
    assert (rig.writes, rig.results) == (0, [])


def test_tried_once_until_the_device_was_healthy(rig: Rig, log: io.StringIO) -> None:
    rig.recovers = False
    rig.fail("fatal")
    rig.look()
    rig.look(_DELAY)
    rig.look(14)
    assert rig.results == []
    rig.look(1)
    ((_, error),) = rig.results
    assert error.startswith("the device reported a fatal error")
    assert '"Device is not recovered by a reset" device="mock0" problem="FatalError"' in log.getvalue()
    for _ in range(3):
        rig.look(_DELAY)
    rig.vanish()
    rig.look(_DELAY)
    rig.vanish(False)
    assert rig.look(_DELAY) == 1
    rig.fail("ok")
    rig.look()
    rig.fail("fatal")
    rig.look()
    assert rig.look(_DELAY) == 2


def test_resets_of_one_device_are_limited(rig: Rig, log: io.StringIO) -> None:
    for _ in range(8):
        rig.fail("fatal")
        rig.look()
        rig.look(_DELAY)
        rig.fail("ok")
        rig.look()
    assert rig.writes == 5
    assert '"Device gets problems again and again, not reset" device="UUID-mock0 at 0000:11:00.0"' in log.getvalue()
    rig.fail("fatal")
    rig.look(600)
    assert rig.look(_DELAY) == 6


def test_a_reset_that_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(25, "Inappropriate ioctl for device")

    monkeypatch.setattr(discovery, "set_attribute", refused)
    rig.fail("hung")
    rig.look()
    rig.look(_DELAY)
    rig.look(_DELAY)
    assert rig.results == [("mock0", "[Errno 25] Inappropriate ioctl for device")]


def test_never(rig: Rig, tmp_path: Path) -> None:
    rig.recovery = rig.start(tmp_path, float("inf"))
    rig.fail("hung")
    rig.look()
    assert rig.look(1e9) == 0
    assert rig.recovery.due == float("inf")
