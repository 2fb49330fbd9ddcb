"""A claim's configuration: applied, kept, repaired, undone, and visible to its user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dra_fakes.agents import running
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.kubelet import FakeKubelet
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import cdi, discovery
from mock_accel_dra.api import Client
from mock_accel_dra.configuration import Configuration
from mock_accel_dra.discovery import scan
from mock_accel_dra.prepare import PrepareError, Preparer
from mock_accel_dra.reconcile import Reconciler
from mock_accel_dra.reports import device_statuses
from mock_accel_dra.settings import AgentSettings
from mock_accel_dra.state import State

NODE = "mock-cluster-node1"
CLAIM = ("default", "pair", "uid-pair")
DEFAULTS = ("exclusive", "0", "0")
CONFIGURED = ("shared", "4", "65536")
FIELDS: dict[str, Any] = {"mode": "Shared", "maxJobs": 4, "windowSize": "64Ki"}


def result(device: str, **more: Any) -> dict[str, Any]:
    return {
        "request": "gpu",
        "driver": "mock-accel.example.com",
        "pool": f"{NODE}/{device}",
        "device": device,
        **more,
    }


def config(source: str = "FromClaim", **fields: Any) -> dict[str, Any]:
    kind = {"apiVersion": "mock-accel.example.com/v1alpha1", "kind": "MockAccelConfig"}
    return {"source": source, "opaque": {"driver": "mock-accel.example.com", "parameters": {**kind, **fields}}}


class Rig:
    """A node with a device that runs jobs (mock1), a second one (mock2) and one of an older module (mock3)."""

    def __init__(self, sysfs: SysfsTree, folder: Path, api: FakeApiServer) -> None:
        self.sysfs = sysfs
        self.cdi = folder / "cdi"
        self.state_file = folder / "state.json"
        self.api = api
        for number, window in ((1, 1 << 20), (2, 65536), (3, None)):
            sysfs.add(f"mock{number}", f"0000:1{number}:00.0", window=window)
        self.restart()

    def restart(self, boot: str = "boot-1") -> None:
        """A new process of the driver."""
        self.state = State.load(self.state_file, boot)
        place: dict[str, Any] = {"api": Client(self.api.url), "node": NODE, "sysfs": self.sysfs.root}
        place |= {"cdi_folder": self.cdi, "state": self.state}
        self.preparer = Preparer(**place)
        self.reconciler = Reconciler(**place)

    def add(self, name: str, *results: dict[str, Any], config: list[dict[str, Any]] | None = None) -> None:
        self.api.add_claim(name, list(results), config=config)

    def prepare(self, name: str = "pair") -> None:
        self.preparer.prepare("default", name, f"uid-{name}")

    def unprepare(self, name: str = "pair") -> None:
        self.preparer.unprepare("default", name, f"uid-{name}")

    def look(self) -> None:
        """Scan and repair, as a running agent does."""
        self.reconciler.repair(scan(self.sysfs.root))

    def variables(self, device: str) -> dict[str, str]:
        """Variables in the CDI file of a device that come from the configuration, without the prefix."""
        edits = json.loads(cdi.file_of(self.cdi, device).read_text())["devices"][0]["containerEdits"]
        found = dict(item.removeprefix("MOCK_ACCEL_").split("=", 1) for item in edits["env"])
        return {name: value for name, value in found.items() if not name.startswith(("DEVICE", "UUID", "PCI"))}


@pytest.fixture
def rig(sysfs: SysfsTree, tmp_path: Path, node_less_api: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> Rig:
    set_status = discovery.set_status

    def as_the_module_does(root: Path, name: str, status: int) -> None:
        set_status(root, name, status)
        if status == discovery.FREE and (sysfs.classes / name / "mode").exists():
            sysfs.reset_settings(name)

    monkeypatch.setattr(discovery, "set_status", as_the_module_does)
    return Rig(sysfs, tmp_path, node_less_api)


def test_configuration_is_applied_shown_and_undone(rig: Rig) -> None:
    rig.add("pair", result("mock1"), result("mock3", request="old"), config=[{**config(**FIELDS), "requests": ["gpu"]}])
    rig.prepare()
    assert rig.sysfs.settings("mock1") == CONFIGURED
    names = {"MODE": "Shared", "MAX_JOBS": "4", "WINDOW_SIZE": "65536"}
    assert rig.variables("mock1") == names | {f"{name}_MOCK1": value for name, value in names.items()}
    assert rig.variables("mock3") == {}
    (claim,) = rig.state.claims()
    status, old = device_statuses(NODE, claim, scan(rig.sysfs.root).devices)
    assert status["data"]["configuration"]["maxJobs"] == 4
    assert "configuration" not in old["data"]
    rig.unprepare()
    assert rig.sysfs.settings("mock1") == DEFAULTS
    assert rig.sysfs.status("mock1") == 0


def test_restart_and_retry_keep_it_and_write_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubelet prepares a claim again for each of its pods; EBUSY: a process has the device open."""
    rig.add("pair", result("mock1"), config=[config(**FIELDS)])
    rig.prepare()
    rig.restart()

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(discovery, "set_attribute", busy)
    rig.prepare()
    rig.look()
    assert rig.state.configuration("mock1") == Configuration("Shared", 4, 65536)
    assert rig.variables("mock1")["MAX_JOBS"] == "4"


def test_a_reboot_ends_it(rig: Rig) -> None:
    rig.add("pair", result("mock1"), config=[config(**FIELDS)])
    rig.prepare()
    rig.restart("boot-2")
    assert rig.state.configuration("mock1") == Configuration()
    (claim,) = rig.state.earlier()
    assert claim.devices[0].configuration.max_jobs == 4


@pytest.mark.parametrize(
    ("device", "entry", "message"),
    [
        (
            "mock1",
            config(maxJobs="4"),
            r'config\[0\] from the claim: parameters.maxJobs: expected a whole .* found "4"',
        ),
        ("mock1", config("FromClass", jobs=1), r"config\[0\] from the device class: parameters.jobs: unknown field"),
        (
            "mock2",
            config(windowSize="128Ki"),
            "windowSize: expected at most 64Ki, the window of device mock2, found 128Ki",
        ),
        ("mock3", config(mode="Shared"), "parameters.mode: expected attribute mode of device mock3, found none"),
    ],
)
def test_a_bad_configuration_changes_nothing(rig: Rig, device: str, entry: dict[str, Any], message: str) -> None:
    rig.add("pair", result("mock1"), *([result(device)] if device != "mock1" else []), config=[entry])
    with pytest.raises(PrepareError, match=message):
        rig.prepare()
    assert rig.state.claims() == []
    assert rig.sysfs.settings("mock1") == DEFAULTS
    assert rig.sysfs.status("mock1") == 0


def test_a_refused_write_rolls_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    write = discovery.set_attribute

    def full(root: Path, name: str, attribute: str, text: str) -> None:
        if attribute == "window_limit":
            raise OSError(5, "Input/output error")
        write(root, name, attribute, text)

    rig.add("pair", result("mock1"), config=[config(**FIELDS)])
    monkeypatch.setattr(discovery, "set_attribute", full)
    with pytest.raises(PrepareError, match="attribute window_limit of device mock1 does not accept 65536"):
        rig.prepare()
    assert (rig.state.claims(), rig.sysfs.settings("mock1"), rig.sysfs.status("mock1")) == ([], DEFAULTS, 0)
    assert cdi.names(rig.cdi) == set()


def test_a_value_that_is_not_kept_is_an_error(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.add("pair", result("mock1"), config=[config(maxJobs=4)])
    settings = discovery.read_settings(rig.sysfs.root, "mock1")
    monkeypatch.setattr(discovery, "read_settings", lambda *_: settings)
    with pytest.raises(PrepareError, match="mock1: expected job_limit 4 after writing it, found another value"):
        rig.prepare()
    assert rig.sysfs.status("mock1") == 0


def test_another_configuration_after_a_new_allocation(rig: Rig) -> None:
    """The claim was allocated again without being unprepared in between."""
    rig.add("pair", result("mock1"), config=[config(**FIELDS)])
    rig.prepare()
    rig.add("pair", result("mock1"), config=[config(maxJobs=2)])
    rig.prepare()
    assert rig.sysfs.settings("mock1") == ("exclusive", "2", "0")
    assert rig.sysfs.status("mock1") == 1
    assert rig.variables("mock1") == {"MAX_JOBS": "2", "MAX_JOBS_MOCK1": "2"}


def test_a_claim_of_an_older_driver_is_configured_by_the_next_prepare(rig: Rig) -> None:
    rig.add("pair", result("mock1"))
    rig.prepare()
    rig.add("pair", result("mock1"), config=[config(**FIELDS)])
    rig.prepare()
    assert rig.sysfs.settings("mock1") == CONFIGURED


def test_admin_access_is_never_configured_but_sees_the_configuration(rig: Rig) -> None:
    rig.add("admin", result("mock1", adminAccess=True), config=[config(maxJobs=9)])
    rig.prepare("admin")
    assert rig.sysfs.settings("mock1") == DEFAULTS
    assert rig.variables("mock1") == {}
    rig.add("pair", result("mock1"), config=[config(**FIELDS)])
    rig.prepare()
    assert rig.variables("mock1")["MAX_JOBS"] == "4"
    rig.unprepare()
    assert rig.variables("mock1") == {}
    assert rig.sysfs.settings("mock1") == DEFAULTS


def test_a_failed_prepare_restores_the_file_of_an_admin(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.add("admin", result("mock1", adminAccess=True))
    rig.prepare("admin")
    rig.add("pair", result("mock1"), result("mock2"), config=[config(**FIELDS)])
    write = cdi.write

    def full(folder: Path, device: discovery.Device, configuration: Configuration) -> bool:
        if device.name == "mock2":
            raise OSError(28, "No space left on device")
        return write(folder, device, configuration)

    monkeypatch.setattr(cdi, "write", full)
    with pytest.raises(PrepareError, match="No space left"):
        rig.prepare()
    assert rig.variables("mock1") == {}


def test_what_others_changed_is_repaired(rig: Rig) -> None:
    """A reset of the device by someone else clears its registers."""
    rig.add("pair", result("mock1"), config=[config(**FIELDS)])
    rig.prepare()
    rig.sysfs.set_status("mock1", 0)
    rig.sysfs.reset_settings("mock1")
    rig.look()
    assert rig.sysfs.settings("mock1") == CONFIGURED
    assert rig.sysfs.status("mock1") == 1


def test_a_setting_that_cannot_be_repaired_is_left_alone(rig: Rig, log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.add("pair", result("mock1"), config=[config(**FIELDS)])
    rig.prepare()
    rig.sysfs.write("mock1", "mode", "exclusive")

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(discovery, "set_attribute", busy)
    for _ in range(8):
        rig.look()
    assert log.getvalue().count('"Configuration cannot be repaired" device="mock1"') == 5
    assert log.getvalue().count('"Configuration keeps changing, not repaired for now') == 1


def test_a_lost_record_is_rebuilt_with_the_configuration(rig: Rig) -> None:
    rig.add("pair", result("mock1"), config=[config(**FIELDS)])
    rig.prepare()
    rig.add("bad", result("mock2"))
    rig.prepare("bad")
    rig.add("bad", result("mock2"), config=[config(maxJobs="4")])
    rig.state_file.write_text("{")
    rig.restart()
    rig.reconciler.run()
    assert rig.state.configuration("mock1") == Configuration("Shared", 4, 65536)
    assert rig.state.configuration("mock2") == Configuration()
    assert rig.state.prepared() == {"mock1", "mock2"}


def test_a_record_with_a_bad_configuration_is_lost(rig: Rig) -> None:
    rig.add("pair", result("mock1"), config=[config(**FIELDS)])
    rig.prepare()
    content = json.loads(rig.state_file.read_text())
    content["claims"]["uid-pair"]["devices"][0]["configuration"]["maxJobs"] = "x"
    rig.state_file.write_text(json.dumps(content))
    rig.restart()
    assert rig.state.lost


@pytest.fixture
def kubelet(settings: AgentSettings, api: FakeApiServer) -> Iterator[FakeKubelet]:
    with running(settings, api), FakeKubelet(settings.service_socket) as kubelet:
        yield kubelet


def test_a_bad_configuration_is_an_event_on_the_claim(kubelet: FakeKubelet, api: FakeApiServer, node: Any) -> None:
    here = {"request": "gpu", "driver": "mock-accel.example.com", "pool": f"{node.name}/mock1", "device": "mock1"}
    api.add_claim("pair", [here], config=[config(maxJobs=0)])
    error = kubelet.prepare([CLAIM])["uid-pair"].error
    assert "config[0] from the claim: parameters.maxJobs: expected a whole number from 1 to 1023, found 0" in error
    events = "/api/v1/namespaces/default/events/pair."
    api.wait_for(events)
    (event,) = (item for path, item in api.objects.items() if path.startswith(events))
    assert event["message"] == error
    assert (event["reason"], event["type"], event["involvedObject"]["name"]) == ("PrepareFailed", "Warning", "pair")
