"""What the driver puts right, from every state that a crash can leave, and what others change meanwhile."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import cdi, discovery, reconcile
from mock_accel_dra.api import ApiError, Client
from mock_accel_dra.prepare import Preparer
from mock_accel_dra.reconcile import Reconciler
from mock_accel_dra.state import State

NODE = "mock-cluster-node1"
NOTHING: tuple[set[str], set[str], set[str]] = (set(), set(), set())


def result(device: str, node: str = NODE, **more: Any) -> dict[str, Any]:
    return {"request": "r", "driver": "mock-accel.example.com", "pool": f"{node}/{device}", "device": device, **more}


class Room:
    """A node whose driver can be restarted."""

    def __init__(self, sysfs: SysfsTree, folder: Path, api: FakeApiServer) -> None:
        self.sysfs = sysfs
        self.cdi = folder / "cdi"
        self.cdi.mkdir()
        self.state_file = folder / "state.json"
        self.api = api
        self.now = 1000.0
        self.reconciler = self.start()

    def start(self, boot: str = "boot-1") -> Reconciler:
        """A new process of the driver, before it reconciles."""
        client = Client(self.api.url)
        self.state = State.load(self.state_file, boot)
        place: dict[str, Any] = {"api": client, "node": NODE, "sysfs": self.sysfs.root, "cdi_folder": self.cdi}
        self.preparer = Preparer(**place, state=self.state)
        return Reconciler(**place, state=self.state, clock=lambda: self.now)

    def restart(self, boot: str = "boot-1") -> None:
        self.reconciler = self.start(boot)
        self.reconciler.run()

    def look(self) -> None:
        """What an agent that runs does after each scan."""
        self.reconciler.repair(discovery.scan(self.sysfs.root))

    def prepare(self, name: str, *devices: str) -> None:
        self.api.add_claim(name, [result(device) for device in devices])
        self.preparer.prepare("default", name, f"uid-{name}")

    def remove_claim(self, name: str) -> None:
        self.api.remove(f"/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/{name}")

    def used(self) -> tuple[set[str], set[str], set[str]]:
        """Devices with status 1, devices with a CDI file, recorded claims."""
        content = json.loads(self.state_file.read_text()) if self.state_file.exists() else {"claims": {}}
        return (
            {name for name in self.sysfs.names() if self.sysfs.status(name)},
            cdi.names(self.cdi),
            set(content["claims"]),
        )


@pytest.fixture
def room(plug: Callable[..., SysfsTree], tmp_path: Path, api: FakeApiServer) -> Room:
    return Room(plug(), tmp_path, api)


PREPARED = ({"mock1", "mock2"}, {"mock1", "mock2"}, {"uid-pair"})


def test_nothing_is_changed_when_all_fits(room: Room, log: io.StringIO) -> None:
    room.prepare("pair", "mock1", "mock2")
    log.truncate(0)
    room.restart()
    assert room.used() == PREPARED
    assert not [line for line in log.getvalue().splitlines() if line.startswith("W")]


def test_missing_cdi_file_is_written_anew(room: Room, log: io.StringIO) -> None:
    room.prepare("pair", "mock1", "mock2")
    cdi.delete(room.cdi, "mock1")
    cdi.file_of(room.cdi, "mock2").write_text("{}")
    room.restart()
    assert room.used() == PREPARED
    assert json.loads(cdi.file_of(room.cdi, "mock2").read_text())["kind"] == "example.com/mock-accel"
    assert log.getvalue().count('"CDI file was missing or wrong, written again"') == 2


def test_registers_that_contradict_are_repaired(room: Room, log: io.StringIO) -> None:
    room.prepare("pair", "mock1", "mock2")
    room.sysfs.set_status("mock1", 0)
    room.sysfs.set_status("mock5", 1)
    room.restart()
    assert room.used() == PREPARED
    assert '"Status register contradicts, repaired" device="mock1" expected=1 found=0' in log.getvalue()
    assert '"Status register contradicts, repaired" device="mock5" expected=0 found=1 claim="none"' in log.getvalue()


def test_orphaned_cdi_file_is_removed_and_foreign_ones_stay(room: Room) -> None:
    foreign = room.cdi / "vendor.com_gpu.json"
    foreign.write_text("{}")
    cdi.file_of(room.cdi, "mock3").write_text("{}")
    room.restart()
    assert room.used() == NOTHING
    assert foreign.exists()


@pytest.mark.parametrize("content", ["", '{"version": 99}', "{ half a fi"])
def test_lost_record_is_rebuilt(room: Room, content: str) -> None:
    room.prepare("pair", "mock1", "mock2")
    room.api.add_claim("elsewhere", [result("mock1", node="mock-cluster-node2")])
    room.api.add_claim("not-prepared-yet", [result("mock4")])
    room.state_file.write_text(content)
    cdi.delete(room.cdi, "mock2")  # the register is enough
    room.restart()
    assert room.used() == PREPARED
    assert not room.state.lost
    room.preparer.unprepare("default", "pair", "uid-pair")
    assert room.used() == NOTHING


def test_record_that_another_driver_found_unusable_is_rebuilt(room: Room) -> None:
    """An agent that runs meets the checkpoint of a newer one, and then the next agent starts."""
    room.prepare("pair", "mock1", "mock2")
    room.state_file.write_text('{"version": 99}')
    room.prepare("later", "mock4")
    room.restart()
    assert room.used() == ({"mock1", "mock2", "mock4"}, {"mock1", "mock2", "mock4"}, {"uid-pair", "uid-later"})


def test_lost_record_of_a_claim_that_is_gone_is_cleaned_up(room: Room) -> None:
    room.prepare("pair", "mock1", "mock2")
    room.remove_claim("pair")
    room.state_file.write_text("")
    room.restart()
    assert room.used() == NOTHING


def test_lost_record_without_the_api_server_touches_nothing(room: Room) -> None:
    room.prepare("pair", "mock1", "mock2")
    room.state_file.write_text("")
    room.api.broken = 503
    later = room.start()
    with pytest.raises(ApiError):
        later.run()
    assert room.used() == ({"mock1", "mock2"}, {"mock1", "mock2"}, set())
    room.api.broken = None
    later.run()
    assert room.used() == PREPARED


def test_admin_access_is_rebuilt_without_its_status(room: Room) -> None:
    room.api.add_claim("admin", [result("mock1", adminAccess=True)])
    room.preparer.prepare("default", "admin", "uid-admin")
    assert room.used() == (set(), {"mock1"}, {"uid-admin"})
    room.state_file.write_text("")
    room.restart()
    assert room.used() == (set(), {"mock1"}, {"uid-admin"})


def test_after_a_reboot_nothing_is_prepared(room: Room) -> None:
    """The CDI folder is on a tmpfs; a register is the device's own and may have outlived the boot."""
    room.prepare("pair", "mock1", "mock2")
    for name in cdi.names(room.cdi):
        cdi.delete(room.cdi, name)
    room.restart("boot-2")
    assert room.state.claims() == []
    assert room.used()[:2] == (set(), set())
    room.preparer.prepare("default", "pair", "uid-pair")
    assert room.used() == PREPARED


def test_registers_that_somebody_changes_are_put_right_while_the_driver_runs(room: Room, log: io.StringIO) -> None:
    room.prepare("pair", "mock1", "mock2")
    room.restart()
    room.sysfs.set_status("mock1", 0)  # as a reset does
    room.sysfs.set_status("mock5", 1)
    room.look()
    assert room.used() == PREPARED
    assert '"Status register contradicts, repaired" device="mock1" expected=1 found=0' in log.getvalue()
    assert '"Status register contradicts, repaired" device="mock5" expected=0 found=1 claim="none"' in log.getvalue()


def test_cdi_files_that_somebody_changes_are_put_right_while_the_driver_runs(room: Room) -> None:
    room.prepare("pair", "mock1", "mock2")
    room.restart()
    expected = cdi.file_of(room.cdi, "mock2").read_text()
    cdi.delete(room.cdi, "mock1")
    cdi.file_of(room.cdi, "mock2").write_text("{}")
    cdi.file_of(room.cdi, "mock4").write_text("{}")
    room.look()
    assert room.used() == PREPARED
    assert cdi.file_of(room.cdi, "mock2").read_text() == expected


def test_a_look_at_what_fits_writes_nothing_and_takes_no_lock(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.prepare("pair", "mock1", "mock2")
    room.restart()
    with room.state.locked():
        room.look()
    assert room.used() == PREPARED


def test_a_register_that_does_not_keep_its_value_is_left_alone_after_some_tries(
    room: Room, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    """Each write is announced by the kernel, which wakes the driver, which looks again."""
    room.prepare("pair", "mock1", "mock2")
    room.restart()
    written, write = [], discovery.set_status

    def forgetful(root: Path, name: str, status: int) -> None:
        written.append(name)
        write(root, name, 0 if name == "mock1" else status)

    monkeypatch.setattr(discovery, "set_status", forgetful)
    room.sysfs.set_status("mock1", 0)
    for _ in range(50):
        room.look()
    assert len(written) == reconcile._MOST_REPAIRS
    assert log.getvalue().count('"Status register changes again and again') == 1
    assert '"Status register does not keep its value" device="mock1" expected=1 found=0' in log.getvalue()
    room.sysfs.set_status("mock5", 1)
    room.look()
    assert room.used()[0] == {"mock2"}  # the others are put right all the same
    room.now += 61
    monkeypatch.undo()
    room.look()
    assert room.used() == PREPARED


def test_a_register_that_cannot_be_written_does_not_keep_the_others_from_it(room: Room, log: io.StringIO) -> None:
    room.prepare("pair", "mock1", "mock2")
    room.restart()
    room.sysfs.set_status("mock1", 0)
    room.sysfs.set_status("mock2", 0)
    write = discovery.set_status

    def refusing(root: Path, name: str, status: int) -> None:
        if name == "mock1":
            raise OSError(5, "Input/output error")
        write(root, name, status)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discovery, "set_status", refusing)
        room.look()
    assert room.used()[0] == {"mock2"}
    assert '"Status register cannot be put right" device="mock1"' in log.getvalue()
    room.look()
    assert room.used() == PREPARED


def test_record_that_somebody_deletes_while_the_driver_runs_is_rebuilt(room: Room) -> None:
    room.prepare("pair", "mock1", "mock2")
    room.restart()
    room.state_file.unlink()
    room.sysfs.set_status("mock5", 1)
    room.look()
    assert room.used()[:2] == ({"mock1", "mock2", "mock5"}, {"mock1", "mock2"})  # nothing is freed yet
    assert room.state.lost
    room.reconciler.run()
    assert room.used() == PREPARED


def test_identities_of_an_older_driver_are_recorded(room: Room) -> None:
    room.prepare("pair", "mock1", "mock2")
    content = json.loads(room.state_file.read_text())
    for device in content["claims"]["uid-pair"]["devices"]:
        del device["uuid"], device["pciAddress"]
    room.state_file.write_text(json.dumps(content))
    room.restart()
    assert room.used() == PREPARED
    devices = json.loads(room.state_file.read_text())["claims"]["uid-pair"]["devices"]
    assert [device["uuid"] for device in devices] == ["NODE1-NUMA0-PF1", "NODE1-NUMA0-PF2"]
