"""A running node agent reacts to changed claims, registers and files: real sockets, real HTTP."""

from __future__ import annotations

import io
import queue
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from dra_fakes.agents import reported, running, until
from dra_fakes.apiserver import SLICES, FakeApiServer
from dra_fakes.kubelet import FakeKubelet
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import cdi, uevents
from mock_accel_dra.agent import NodeAgent
from mock_accel_dra.settings import AgentSettings

CLAIM = ("default", "pair", "uid-pair")
PATH = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/pair"


def event(device: str, action: str = "change") -> bytes:
    """The kernel's event about ``device``, as it sends it."""
    path = f"/devices/pci0000:10/0000:11:00.0/mock-accel/{device}"
    return f"{action}@{path}\0ACTION={action}\0SUBSYSTEM=mock-accel\0SEQNUM=7\0".encode()


class Kernel:
    """A fake event socket that delivers queued kernel events."""

    def __init__(self) -> None:
        self.announced: queue.Queue[bytes] = queue.Queue()

    def recvfrom(self, _: int) -> tuple[bytes, tuple[int, int]]:
        try:
            return self.announced.get(timeout=0.05), (0, 1)
        except queue.Empty:
            raise TimeoutError from None

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None: ...


def looks(log: io.StringIO) -> int:
    """How often the agent has read devices, all or single ones."""
    return log.getvalue().count('"Scanned devices"') + log.getvalue().count('"Read devices again"')


def results(settings: AgentSettings, **more: Any) -> list[dict[str, Any]]:
    pool = f"{settings.node_name}/mock1"
    return [{"request": "r", "driver": "mock-accel.example.com", "pool": pool, "device": "mock1", **more}]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(uevents, "open_socket", lambda: kernel)
    return kernel


@pytest.fixture
def agent(settings: AgentSettings, api: FakeApiServer, kernel: Kernel) -> Iterator[NodeAgent]:
    """An agent that scans only at kernel events; its rescan interval is longer than any test."""
    api.add_claim("pair", results(settings))
    with running(replace(settings, rescan_interval=600.0), api, kernel_events=True) as program:
        with FakeKubelet(settings.service_socket) as kubelet:
            assert not kubelet.prepare([CLAIM])["uid-pair"].error
        yield program


@pytest.mark.usefixtures("agent")
def test_registers_are_repaired_at_the_kernel_event(sysfs: SysfsTree, kernel: Kernel, log: io.StringIO) -> None:
    sysfs.set_status("mock1", 0)
    sysfs.set_status("mock4", 1)
    kernel.announced.put(event("mock1"))
    kernel.announced.put(event("mock4"))
    until(lambda: (sysfs.status("mock1"), sysfs.status("mock4")) == (1, 0), "the registers of mock1 and mock4 are 1, 0")
    assert '"Repairing status register" device="mock1" expected=1 found=0' in log.getvalue()


@pytest.mark.usefixtures("agent")
def test_the_drivers_own_writes_are_not_repaired(
    settings: AgentSettings, sysfs: SysfsTree, kernel: Kernel, log: io.StringIO
) -> None:
    with FakeKubelet(settings.service_socket) as kubelet:
        for _ in range(5):
            assert not kubelet.unprepare([CLAIM])["uid-pair"].error
            kernel.announced.put(event("mock1"))
            assert not kubelet.prepare([CLAIM])["uid-pair"].error
            kernel.announced.put(event("mock1"))
    begin = looks(log)
    kernel.announced.put(event("mock1"))
    until(lambda: looks(log) > begin, "another look")
    assert sysfs.status("mock1") == 1
    assert "Repairing" not in log.getvalue()


@pytest.mark.usefixtures("agent")
def test_only_the_device_of_a_change_is_read(kernel: Kernel, log: io.StringIO) -> None:
    """With a hundred devices, reading all of them at each start and end of a pod takes longer than the rest."""

    def read_alone() -> bool:
        # An event that arrives together with a reason for a scan is part of that scan.
        kernel.announced.put(event("mock1"))
        return '"Read devices again" devices=["mock1"]' in log.getvalue()

    until(read_alone, "mock1 is read again, and no other device")


@pytest.mark.parametrize("message", [event("mock9"), event("mock1", "add"), event("mock1", "remove")])
@pytest.mark.usefixtures("agent")
def test_all_devices_are_scanned_when_one_comes_or_goes(message: bytes, kernel: Kernel, log: io.StringIO) -> None:
    before = log.getvalue().count('"Scanned devices"')
    kernel.announced.put(message)
    until(lambda: log.getvalue().count('"Scanned devices"') > before, "a scan")


@pytest.mark.usefixtures("agent")
def test_changed_attribute_is_published(sysfs: SysfsTree, api: FakeApiServer, kernel: Kernel) -> None:
    sysfs.write("mock1", "memory_size", f"{5 << 30}")
    kernel.announced.put(event("mock1"))
    until(
        lambda: f'"{5 << 30}"' in str(api.slices()).replace("'", '"') or "5Gi" in str(api.slices()), "5 GiB in a slice"
    )


@pytest.mark.usefixtures("kernel")
def test_events_do_not_delay_the_next_scan(
    settings: AgentSettings, api: FakeApiServer, kernel: Kernel, log: io.StringIO
) -> None:
    with running(replace(settings, rescan_interval=1.0), api, kernel_events=True):
        until(lambda: looks(log), "the first scan")
        before = log.getvalue().count('"Scanned devices"')

        def scanned() -> bool:
            kernel.announced.put(event("mock1"))
            return log.getvalue().count('"Scanned devices"') > before + 1

        until(scanned, "two scans while events arrive")


def test_a_deleted_cdi_file_is_restored_by_the_next_scan(settings: AgentSettings, api: FakeApiServer) -> None:
    api.add_claim("pair", results(settings))
    with running(settings, api), FakeKubelet(settings.service_socket) as kubelet:
        assert not kubelet.prepare([CLAIM])["uid-pair"].error
        path = cdi.file_of(settings.cdi_root, "mock1")
        path.unlink()
        until(path.exists, "the CDI file of mock1")


def test_a_read_only_cdi_folder_does_not_block_other_work(
    settings: AgentSettings, api: FakeApiServer, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def protected(*_: object) -> bool:
        raise PermissionError(1, "Operation not permitted")

    api.add_claim("pair", results(settings))
    with running(settings, api), FakeKubelet(settings.service_socket) as kubelet:
        assert not kubelet.prepare([CLAIM])["uid-pair"].error
        path = cdi.file_of(settings.cdi_root, "mock1")
        with monkeypatch.context() as patch:
            patch.setattr(cdi, "write", protected)
            path.unlink()
            until(lambda: '"Reconciliation is incomplete"' in log.getvalue(), "a log line")
            names = set(api.slices())
            api.remove(f"{SLICES}/{min(names)}")
            api.wait_for_slices(names)
        until(path.exists, "the CDI file of mock1")


@pytest.mark.parametrize("admin", [False, True])
def test_status_of_a_claim_that_is_prepared_again(settings: AgentSettings, api: FakeApiServer, admin: bool) -> None:
    """A pod is deleted and applied again: the API server clears status.devices with the allocation."""
    more = {"adminAccess": True} if admin else {}
    with running(replace(settings, rescan_interval=600.0), api), FakeKubelet(settings.service_socket) as kubelet:
        for _ in range(3):
            api.add_claim("pair", results(settings, **more))
            assert not kubelet.prepare([CLAIM])["uid-pair"].error
            api.wait_until(PATH, lambda item: len(item["status"].get("devices", ())) == 1)
            assert not kubelet.unprepare([CLAIM])["uid-pair"].error
            api.add_claim("pair", None)


def test_condition_keeps_its_time_when_the_agent_restarts(settings: AgentSettings, api: FakeApiServer) -> None:
    api.add_claim("pair", results(settings))
    seen = []
    for _ in range(2):
        with running(settings, api) as program, FakeKubelet(settings.service_socket) as kubelet:
            assert not kubelet.prepare([CLAIM])["uid-pair"].error
            api.wait_until(PATH, lambda item: "devices" in item["status"])
            reported(program._reporter, "uid-pair")
        # Pretend that it was written earlier: the next agent must read it and keep it.
        (condition,) = api.objects[PATH]["status"]["devices"][0]["conditions"]
        seen.append(condition["lastTransitionTime"])
        condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    assert seen[1] == "2026-01-01T00:00:00Z"
