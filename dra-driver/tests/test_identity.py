"""A claim keeps its device, not a device name: names follow PCI order and may refer to another device later."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import cdi, discovery, files
from mock_accel_dra.api import Client
from mock_accel_dra.prepare import PrepareError, Preparer
from mock_accel_dra.reconcile import Reconciler
from mock_accel_dra.state import State

NODE = "mock-cluster-node1"
BUSES = {"PF1": ("0000:11:00.0", 0x10), "PF2": ("0000:12:00.0", 0x10), "PF3": ("0000:13:00.0", 0x10)}
NOTHING: tuple[set[str], set[str], set[str]] = (set(), set(), set())


class Rig:
    """A node with three slots, and its driver."""

    sysfs: SysfsTree

    def __init__(self, folder: Path, api: FakeApiServer) -> None:
        self.folder = folder
        self.api = api
        self.cdi = folder / "cdi"
        self.state_file = folder / "state.json"
        self.boots = 0
        self.registers: dict[str, int] = {}
        self.boot("PF1", "PF2", "PF3")

    def boot(self, *plugged: str) -> None:
        """Boot the node with these devices; the kernel module numbers them."""
        self.boots += 1
        self.number(*plugged)
        for path in self.cdi.glob("*"):  # the folder is on a tmpfs
            files.remove(path)
        self.start()

    def number(self, *plugged: str) -> None:
        """Plug exactly these devices, numbered from 0; each keeps its register's value."""
        if hasattr(self, "sysfs"):
            self.registers |= {self.uuid(name): self.sysfs.status(name) for name in self.sysfs.names()}
        self.sysfs = SysfsTree(self.folder / f"sys-{self.boots}-{'-'.join(plugged)}")
        for number, key in enumerate(plugged):
            address, bus = BUSES[key]
            self.sysfs.add(f"mock{number}", address, root_bus=bus, uuid=f"NODE1-NUMA0-{key}")
            self.sysfs.set_status(f"mock{number}", self.registers.get(f"NODE1-NUMA0-{key}", 0))

    def start(self) -> None:
        """Start the driver."""
        self.state = State.load(self.state_file, f"boot-{self.boots}")
        place: dict[str, Any] = {
            "api": Client(self.api.url),
            "node": NODE,
            "sysfs": self.sysfs.root,
            "cdi_folder": self.cdi,
            "state": self.state,
        }
        self.preparer = Preparer(**place)
        self.reconciler = Reconciler(**place)
        self.reconciler.run()

    def uuid(self, name: str) -> str:
        return (self.sysfs.classes / name / "uuid").read_text().strip()

    def allocate(self, claim: str, device: str, time: str = "2026-11-27T10:00:00Z", admin: bool = False) -> None:
        result = {"request": "r", "driver": "mock-accel.example.com", "pool": f"{NODE}/{device}", "device": device}
        self.api.add_claim(claim, [{**result, "adminAccess": True} if admin else result])
        path = f"/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/{claim}"
        self.api.objects[path]["status"]["allocation"]["allocationTimestamp"] = time

    def prepare(self, claim: str) -> None:
        self.preparer.prepare("default", claim, f"uid-{claim}")

    def unprepare(self, claim: str) -> None:
        self.preparer.unprepare("default", claim, f"uid-{claim}")

    def look(self) -> None:
        self.reconciler.repair(discovery.scan(self.sysfs.root))

    def used(self) -> tuple[set[str], set[str], set[str]]:
        """UUIDs of devices with status 1, names with a CDI file, recorded claims."""
        content = json.loads(self.state_file.read_text()) if self.state_file.exists() else {"claims": {}}
        return (
            {self.uuid(name) for name in self.sysfs.names() if self.sysfs.status(name)},
            cdi.names(self.cdi),
            set(content["claims"]),
        )


@pytest.fixture
def rig(tmp_path: Path, api: FakeApiServer) -> Rig:
    return Rig(tmp_path, api)


@pytest.mark.parametrize("admin", [False, True])
def test_another_device_after_a_reboot_is_refused_with_both_named(rig: Rig, admin: bool) -> None:
    rig.allocate("pair", "mock0", admin=admin)
    rig.prepare("pair")
    rig.boot("PF2", "PF3")  # the slot of PF1 was unplugged
    with pytest.raises(PrepareError) as error:
        rig.prepare("pair")
    assert "recorded NODE1-NUMA0-PF1 at 0000:11:00.0, found NODE1-NUMA0-PF2 at 0000:12:00.0" in str(error.value)
    assert "claim default/pair (uid uid-pair)" in str(error.value)
    assert rig.used()[:2] == NOTHING[:2]
    rig.start()  # a restarted agent still knows
    with pytest.raises(PrepareError, match="another device under the name mock0"):
        rig.prepare("pair")
    rig.boot("PF1", "PF2", "PF3")
    rig.prepare("pair")
    assert rig.used() == (set() if admin else {"NODE1-NUMA0-PF1"}, {"mock0"}, {"uid-pair"})


def test_the_same_address_with_another_device_is_refused(rig: Rig) -> None:
    rig.allocate("pair", "mock0")
    rig.prepare("pair")
    content = json.loads(rig.state_file.read_text())
    content["claims"]["uid-pair"]["devices"][0]["uuid"] = "NODE1-OLD"
    rig.state_file.write_text(json.dumps(content))
    with pytest.raises(PrepareError, match=r"recorded NODE1-OLD at 0000:11:00\.0, found NODE1-NUMA0-PF1"):
        rig.prepare("pair")


def test_a_failed_prepare_does_not_forget_the_device(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.allocate("pair", "mock0")
    rig.prepare("pair")
    rig.boot("PF1", "PF2")

    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cdi, "write", full)
        with pytest.raises(PrepareError, match="No space left"):
            rig.prepare("pair")
    rig.boot("PF2", "PF3")
    with pytest.raises(PrepareError, match="another device under the name mock0"):
        rig.prepare("pair")


def test_a_claim_that_was_unprepared_or_allocated_again_may_have_another_device(rig: Rig) -> None:
    rig.allocate("pair", "mock0")
    rig.prepare("pair")
    rig.boot("PF2", "PF3")
    rig.unprepare("pair")  # the pod was deleted; the next one gets the device that is there now
    rig.prepare("pair")
    assert rig.used() == ({"NODE1-NUMA0-PF2"}, {"mock0"}, {"uid-pair"})
    rig.boot("PF3")
    rig.allocate("pair", "mock0", time="2026-11-27T11:00:00Z")
    rig.prepare("pair")
    assert rig.used() == ({"NODE1-NUMA0-PF3"}, {"mock0"}, {"uid-pair"})


def test_devices_are_renumbered_while_the_driver_runs(rig: Rig, log: io.StringIO) -> None:
    """PF1 is unplugged while a claim has it, and the module is reloaded: now mock0 is PF2."""
    rig.allocate("pair", "mock0")
    rig.prepare("pair")
    rig.number("PF2", "PF3")
    rig.start()
    assert rig.used() == (set(), set(), {"uid-pair"})  # PF2 is free, and no container gets it instead of PF1
    with pytest.raises(PrepareError, match="recorded NODE1-NUMA0-PF1"):
        rig.prepare("pair")
    rig.allocate("other", "mock1")
    rig.prepare("other")
    rig.unprepare("pair")
    assert rig.used() == ({"NODE1-NUMA0-PF3"}, {"mock1"}, {"uid-other"})
    assert '"Register of another device left alone" device="mock0"' in log.getvalue()


def test_a_renamed_device_is_still_held_and_then_released(rig: Rig) -> None:
    rig.allocate("pair", "mock0")
    rig.prepare("pair")
    rig.number("PF2", "PF1")
    rig.start()
    assert rig.used()[0] == {"NODE1-NUMA0-PF1"}
    for name in ("mock0", "mock1"):  # its old name, and the device itself
        rig.allocate("other", name)
        with pytest.raises(PrepareError, match=f"device {name} is still prepared for claim default/pair"):
            rig.prepare("other")
    rig.unprepare("pair")
    rig.look()
    assert rig.used() == NOTHING
    rig.prepare("other")
    assert rig.used() == ({"NODE1-NUMA0-PF1"}, {"mock1"}, {"uid-other"})
