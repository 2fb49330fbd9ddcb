"""The driver repairs every state that a crash can leave, and changes made by others."""

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


class Rig:
    """A node with a driver that can be restarted."""

    def __init__(self, sysfs: SysfsTree, folder: Path, api: FakeApiServer) -> None:
        self.sysfs = sysfs
        self.cdi = folder / "cdi"
        self.cdi.mkdir()
        self.state_file = folder / "state.json"
        self.api = api
        self.now = 1000.0
        self.reconciler = self.start()

    def start(self, boot: str = "boot-1") -> Reconciler:
        """Start a new process of the driver, without reconciling yet."""
        client = Client(self.api.url)
        self.state = State.load(self.state_file, boot)
        place: dict[str, Any] = {"api": client, "node": NODE, "sysfs": self.sysfs.root, "cdi_folder": self.cdi}
        self.preparer = Preparer(**place, state=self.state)
        return Reconciler(**place, state=self.state, clock=lambda: self.now)

    def restart(self, boot: str = "boot-1") -> None:
        self.reconciler = self.start(boot)
        self.reconciler.run()

    def look(self) -> None:
        """Scan and repair, as a running agent does."""
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
def rig(plug: Callable[..., SysfsTree], tmp_path: Path, api: FakeApiServer) -> Rig:
    return Rig(plug(), tmp_path, api)


PREPARED = ({"mock1", "mock2"}, {"mock1", "mock2"}, {"uid-pair"})


def test_consistent_state_is_not_changed(rig: Rig, log: io.StringIO) -> None:
    rig.prepare("pair", "mock1", "mock2")
    log.truncate(0)
    rig.restart()
    assert rig.used() == PREPARED
    assert not [line for line in log.getvalue().splitlines() if line.startswith("W")]


def test_missing_cdi_file_is_written_again(rig: Rig, log: io.StringIO) -> None:
    rig.prepare("pair", "mock1", "mock2")
    cdi.delete(rig.cdi, "mock1")
    cdi.file_of(rig.cdi, "mock2").write_text("{}")
    rig.restart()
    assert rig.used() == PREPARED
    assert json.loads(cdi.file_of(rig.cdi, "mock2").read_text())["kind"] == "example.com/mock-accel"
    assert log.getvalue().count('"Rewrote a missing or wrong CDI file"') == 2


def test_wrong_registers_are_repaired(rig: Rig, log: io.StringIO) -> None:
    rig.prepare("pair", "mock1", "mock2")
    rig.sysfs.set_status("mock1", 0)
    rig.sysfs.set_status("mock5", 1)
    rig.restart()
    assert rig.used() == PREPARED
    assert '"Repairing status register" device="mock1" expected=1 found=0' in log.getvalue()
    assert '"Repairing status register" device="mock5" expected=0 found=1 claim="none"' in log.getvalue()


def test_orphaned_cdi_file_is_removed_and_files_of_others_stay(rig: Rig) -> None:
    foreign = rig.cdi / "vendor.com_gpu.json"
    foreign.write_text("{}")
    cdi.file_of(rig.cdi, "mock3").write_text("{}")
    rig.restart()
    assert rig.used() == NOTHING
    assert foreign.exists()


@pytest.mark.parametrize("content", ["", '{"version": 99}', "{ half a fi"])
def test_lost_record_is_rebuilt(rig: Rig, content: str) -> None:
    rig.prepare("pair", "mock1", "mock2")
    rig.api.add_claim("elsewhere", [result("mock1", node="mock-cluster-node2")])
    rig.api.add_claim("not-prepared-yet", [result("mock4")])
    rig.state_file.write_text(content)
    cdi.delete(rig.cdi, "mock2")  # the register is enough
    rig.restart()
    assert rig.used() == PREPARED
    assert not rig.state.lost
    rig.preparer.unprepare("default", "pair", "uid-pair")
    assert rig.used() == NOTHING


def test_record_that_another_agent_found_unusable_is_rebuilt(rig: Rig) -> None:
    """A running agent finds the checkpoint of a newer driver; then the next agent starts."""
    rig.prepare("pair", "mock1", "mock2")
    rig.state_file.write_text('{"version": 99}')
    rig.prepare("later", "mock4")
    rig.restart()
    assert rig.used() == ({"mock1", "mock2", "mock4"}, {"mock1", "mock2", "mock4"}, {"uid-pair", "uid-later"})


def test_lost_record_of_a_claim_that_is_gone_is_cleaned_up(rig: Rig) -> None:
    rig.prepare("pair", "mock1", "mock2")
    rig.remove_claim("pair")
    rig.state_file.write_text("")
    rig.restart()
    assert rig.used() == NOTHING


def test_lost_record_without_the_api_server_touches_nothing(rig: Rig) -> None:
    rig.prepare("pair", "mock1", "mock2")
    rig.state_file.write_text("")
    rig.api.broken = 503
    later = rig.start()
    with pytest.raises(ApiError):
        later.run()
    assert rig.used() == ({"mock1", "mock2"}, {"mock1", "mock2"}, set())
    rig.api.broken = None
    later.run()
    assert rig.used() == PREPARED


def test_admin_access_is_rebuilt_without_its_status(rig: Rig) -> None:
    rig.api.add_claim("admin", [result("mock1", adminAccess=True)])
    rig.preparer.prepare("default", "admin", "uid-admin")
    assert rig.used() == (set(), {"mock1"}, {"uid-admin"})
    rig.state_file.write_text("")
    rig.restart()
    assert rig.used() == (set(), {"mock1"}, {"uid-admin"})


def test_after_a_reboot_nothing_is_prepared(rig: Rig) -> None:
    """The CDI folder is on a tmpfs; a device's register may survive the reboot."""
    rig.prepare("pair", "mock1", "mock2")
    for name in cdi.names(rig.cdi):
        cdi.delete(rig.cdi, name)
    rig.restart("boot-2")
    assert rig.state.claims() == []
    assert rig.used()[:2] == (set(), set())
    rig.preparer.prepare("default", "pair", "uid-pair")
    assert rig.used() == PREPARED


def test_changed_registers_are_repaired_at_run_time(rig: Rig, log: io.StringIO) -> None:
    rig.prepare("pair", "mock1", "mock2")
    rig.restart()
    rig.sysfs.set_status("mock1", 0)  # as a reset does
    rig.sysfs.set_status("mock5", 1)
    rig.look()
    assert rig.used() == PREPARED
    assert '"Repairing status register" device="mock1" expected=1 found=0' in log.getvalue()
    assert '"Repairing status register" device="mock5" expected=0 found=1 claim="none"' in log.getvalue()


def test_changed_cdi_files_are_repaired_at_run_time(rig: Rig) -> None:
    rig.prepare("pair", "mock1", "mock2")
    rig.restart()
    expected = cdi.file_of(rig.cdi, "mock2").read_text()
    cdi.delete(rig.cdi, "mock1")
    cdi.file_of(rig.cdi, "mock2").write_text("{}")
    cdi.file_of(rig.cdi, "mock4").write_text("{}")
    rig.look()
    assert rig.used() == PREPARED
    assert cdi.file_of(rig.cdi, "mock2").read_text() == expected


def test_a_scan_without_contradictions_takes_no_lock(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.prepare("pair", "mock1", "mock2")
    rig.restart()
    with rig.state.locked():
        rig.look()
    assert rig.used() == PREPARED


def test_repairs_of_a_register_that_does_not_keep_its_value_are_limited(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    """Each write causes a kernel event, which wakes the driver and causes another scan."""
    rig.prepare("pair", "mock1", "mock2")
    rig.restart()
    written, write = [], discovery.set_status

    def forgetful(root: Path, name: str, status: int) -> None:
        written.append(name)
        write(root, name, 0 if name == "mock1" else status)

    monkeypatch.setattr(discovery, "set_status", forgetful)
    rig.sysfs.set_status("mock1", 0)
    for _ in range(50):
        rig.look()
    assert len(written) == reconcile._MOST_REPAIRS
    assert log.getvalue().count('"Status register keeps changing') == 1
    assert '"Status register does not keep its value" device="mock1" expected=1 found=0' in log.getvalue()
    rig.sysfs.set_status("mock5", 1)
    rig.look()
    assert rig.used()[0] == {"mock2"}  # other registers are still repaired
    rig.now += 61
    monkeypatch.undo()
    rig.look()
    assert rig.used() == PREPARED


def test_a_register_that_cannot_be_written_does_not_block_other_repairs(rig: Rig, log: io.StringIO) -> None:
    rig.prepare("pair", "mock1", "mock2")
    rig.restart()
    rig.sysfs.set_status("mock1", 0)
    rig.sysfs.set_status("mock2", 0)
    write = discovery.set_status

    def refusing(root: Path, name: str, status: int) -> None:
        if name == "mock1":
            raise OSError(5, "Input/output error")
        write(root, name, status)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discovery, "set_status", refusing)
        rig.look()
    assert rig.used()[0] == {"mock2"}
    assert '"Status register cannot be repaired" device="mock1"' in log.getvalue()
    rig.look()
    assert rig.used() == PREPARED


def test_record_deleted_at_run_time_is_rebuilt(rig: Rig) -> None:
    rig.prepare("pair", "mock1", "mock2")
    rig.restart()
    rig.state_file.unlink()
    rig.sysfs.set_status("mock5", 1)
    rig.look()
    assert rig.used()[:2] == ({"mock1", "mock2", "mock5"}, {"mock1", "mock2"})  # nothing is freed yet
    assert rig.state.lost
    rig.reconciler.run()
    assert rig.used() == PREPARED


def test_identities_of_an_older_driver_are_recorded(rig: Rig) -> None:
    rig.prepare("pair", "mock1", "mock2")
    content = json.loads(rig.state_file.read_text())
    for device in content["claims"]["uid-pair"]["devices"]:
        del device["uuid"], device["pciAddress"]
    rig.state_file.write_text(json.dumps(content))
    rig.restart()
    assert rig.used() == PREPARED
    devices = json.loads(rig.state_file.read_text())["claims"]["uid-pair"]["devices"]
    assert [device["uuid"] for device in devices] == ["NODE1-NUMA0-PF1", "NODE1-NUMA0-PF2"]
