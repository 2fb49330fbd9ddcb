"""Measurements of pods, with a slow fake kubelet over real HTTP, and of reads of sysfs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from dra_fakes.apiserver import FakeApiServer, Object
from dra_fakes.sysfs import SysfsTree
from kubernetes.client import ApiClient, Configuration

from mock_device.checks.driver.metrics import Histogram
from mock_device.checks.errors import CheckError
from mock_device.checks.performance import measuring
from mock_device.lab.base.timeouts import Timeout

PODS = "/api/v1/namespaces/default/pods"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
TIMEOUT = timedelta(seconds=20)
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
START_SECONDS = 0.3


class Kubelet:
    """Runs each pod of the server START_SECONDS after its creation, one after the other."""

    def __init__(self, server: FakeApiServer, **refused: Object) -> None:
        """``refused`` maps pods that must not run to their status; ``_`` stands for ``-`` in the names."""
        self._server = server
        self._refused = refused
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            for path, pod in list(self._server.objects.items()):
                if path.startswith(PODS) and pod["status"]["phase"] == "Pending":
                    self._stop.wait(START_SECONDS)
                    status = self._refused.get(path.rpartition("/")[2].replace("-", "_"), {"phase": "Running", **READY})
                    self._server.put(path, {**pod, "status": status})

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    server = FakeApiServer()
    yield server
    server.close()


@pytest.fixture
def api(server: FakeApiServer) -> Iterator[ApiClient]:
    with ApiClient(Configuration(host=server.url)) as client:
        yield client


def test_start_of_each_pod_is_measured(server: FakeApiServer, api: ApiClient) -> None:
    kubelet = Kubelet(server)
    try:
        starts, all_run = measuring._start(api, 3, with_claims=True, limit=TIMEOUT)
    finally:
        kubelet.stop()
    # In the order in which the pods ran.
    assert list(starts) == ["measured-0", "measured-1", "measured-2"]
    assert all(seconds >= START_SECONDS for seconds in starts.values())
    assert 3 * START_SECONDS <= all_run < TIMEOUT.total_seconds()
    made = [path for method, path in server.writes() if method == "POST"]
    assert made == [CLAIMS] * 3 + [PODS] * 3


def test_pods_without_claims_create_none(server: FakeApiServer, api: ApiClient) -> None:
    kubelet = Kubelet(server)
    try:
        measuring._start(api, 1, with_claims=False, limit=TIMEOUT)
    finally:
        kubelet.stop()
    assert [path for _, path in server.writes()] == [PODS]
    assert not server.objects[f"{PODS}/measured-0"]["spec"].get("resourceClaims")


def test_failed_creation_ends_the_wait(monkeypatch: pytest.MonkeyPatch, server: FakeApiServer, api: ApiClient) -> None:
    monkeypatch.setattr(measuring, "_WATCH_SECONDS", 1.0)
    server.put(f"{PODS}/measured-0", {"metadata": {"name": "measured-0"}, "status": {"phase": "Pending"}})
    with pytest.raises(CheckError, match="Pod 'measured-0' already exists"):
        measuring._start(api, 1, with_claims=False, limit=timedelta(minutes=10))


def test_ended_pod_ends_the_wait(server: FakeApiServer, api: ApiClient) -> None:
    server.put(f"{PODS}/other", {"metadata": {"name": "other"}, "status": {"phase": "Failed"}})
    kubelet = Kubelet(server, measured_1={"phase": "Failed"})
    begin = time.monotonic()
    try:
        with pytest.raises(CheckError, match="1 of 2 pods run within 20 s; measured-1: it is Failed"):
            measuring._start(api, 2, with_claims=False, limit=TIMEOUT)
    finally:
        kubelet.stop()
    assert time.monotonic() - begin < TIMEOUT.total_seconds()


def test_pods_end_at_once(server: FakeApiServer, api: ApiClient) -> None:
    names = {f"measured-{number}" for number in range(20)}
    for name in names:
        server.put(f"{PODS}/{name}", {"metadata": {"name": name}})
    assert measuring._end(api, names, TIMEOUT).keys() == names
    assert not server.objects
    assert server.writes() == [("DELETE", PODS)]


def test_pod_that_does_not_end_is_named(server: FakeApiServer, api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_delete_all", lambda path: (200, {}))
    server.put(f"{PODS}/measured-0", {"metadata": {"name": "measured-0"}, "status": {"phase": "Running"}})
    with pytest.raises(CheckError, match="1 of 1 pods are not gone after 1 s; measured-0: it is Running"):
        measuring._end(api, {"measured-0"}, timedelta(seconds=1))


def test_operations_after_a_reading_are_awaited() -> None:
    readings = iter([Histogram(3, 3.0), Histogram(4, 3.5), Histogram(5, 4.0)])
    found = measuring._counted(lambda: next(readings), Histogram(3, 3.0), 2, "claims")
    assert (found.count, found.mean) == (2, 0.5)


def test_missing_operations_after_a_reading_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timeout.COUNTED, "nominal", timedelta(seconds=0.1))
    with pytest.raises(CheckError, match="claims to prepare, by /metrics after 0 s:\nexpected 2, found 0"):
        measuring._counted(lambda: Histogram(3, 3.0), Histogram(3, 3.0), 2, "claims to prepare")


def test_reads_of_sysfs_are_parsed(tmp_path: Path) -> None:
    tree = SysfsTree(tmp_path)
    tree.add("mock0", "0000:11:00.0")
    tree.add("mock1", "0000:12:00.0")
    program = measuring._READ.replace("/host-sys/class/mock-accel/", f"{tree.classes}/")
    output = subprocess.run(
        [sys.executable, "-I", "-c", program, "3"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    found = measuring.parse_reads(output)
    assert len(found) == 6
    assert all(0 < seconds < 1 for seconds in found)


@pytest.mark.parametrize(("output", "message"), [("", "found no device in sysfs"), ("mock0 fast\n", "found 'mock0 f")])
def test_invalid_reads_are_rejected(output: str, message: str) -> None:
    with pytest.raises(CheckError, match=message):
        measuring.parse_reads(output)
