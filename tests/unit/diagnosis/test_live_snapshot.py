"""Reading a cluster for ``lab diagnose``, over real HTTP and from recorded nodes."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from dra_fakes.answers import Answers, Object, api_server, listing
from dra_fakes.apiserver import SLICES, FakeApiServer
from kubernetes.client import ApiClient, ApiException, Configuration
from support.recorded_cluster import LOG, METRICS, NODE1, NODE2, claim, device_classes, pod, pod_of, published, waiting
from support.topologies import CLUSTER

from mock_device.checks.driver import driver
from mock_device.checks.nodes.sysfs import NodeDevices
from mock_device.diagnosis import live_snapshot
from mock_device.diagnosis.live_snapshot import CLOCK_PROBE, LiveSnapshot, ahead
from mock_device.diagnosis.rights import granted
from mock_device.diagnosis.snapshot import Event
from mock_device.driver import current
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import deploy
from mock_device.lab.cluster.cluster import Capability, GuestAnswer

CORE = "/api/v1"
OURS = f"{CORE}/namespaces/mock-device"
RESOURCE = "/apis/resource.k8s.io/v1"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class Supervisor:
    """A fake cluster with answers of its supervisor."""

    look_seconds = 10.0
    capabilities = frozenset(Capability)

    def __init__(self) -> None:
        self.guests = self

    def look(self, command: str, seconds: float) -> dict[str, GuestAnswer]:
        if command == "query-pci":
            return {NODE1: GuestAnswer([]), NODE2: GuestAnswer(error="QMP query-pci: no answer in 10 s", silent=True)}
        return {NODE1: GuestAnswer({"status": "running"}), NODE2: GuestAnswer(error=f"{NODE2}: QMP: no answer")}

    def status(self) -> Object:
        processes = [("qemu-x", None), (f"devices-{NODE1}", None), (f"devices-{NODE2}", -9)]
        return {
            "state": "failed",
            "reason": "etcd has ended",
            "started": time.time() - 100,
            "processes": [{"name": name, "exit_code": code} for name, code in processes],
        }


def live(api: ApiClient, outputs: dict[str, str] | None = None) -> LiveSnapshot:
    session: Any = SimpleNamespace(
        api=api,
        topology=CLUSTER,
        node_names=[NODE1, NODE2],
        cluster=Supervisor(),
        command_seconds=10.0,
        on_nodes=lambda command: dict.fromkeys((NODE1, NODE2), (outputs or {})[command]),
    )
    return LiveSnapshot(session)


def test_clocks_are_compared_with_this_machine() -> None:
    with api_server({}) as api:
        snapshot = live(api, {CLOCK_PROBE: f"{time.time() + 86400:.6f}\n"})
        assert snapshot.clocks[NODE1] == pytest.approx(86400, abs=5)
    assert [ahead(clock, 10.0, 14.0) for clock in (5.0, 10.0, 12.0, 14.0, 20.0)] == [-5.0, 0.0, 0.0, 0.0, 6.0]


def test_log_lines_from_before_the_restore_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def log_of(_: ApiClient, pod: str, *, tail_lines: int, since_seconds: int) -> str:
        asked.append(since_seconds)
        return LOG

    monkeypatch.setattr(driver, "log_of", log_of)
    answers: Answers = {f"{OURS}/pods": listing(pod_of("mock-accel-node-agent", NODE1))}
    with api_server(answers) as api:
        assert live(api).agent_logs == {NODE1: LOG}
    assert asked == [pytest.approx(100, abs=5)]


def test_metrics_of_the_agents_are_read() -> None:
    agent = f"mock-accel-node-agent-{NODE1}"
    answers: Answers = {
        f"{OURS}/pods": listing(pod_of("mock-accel-node-agent", NODE1)),
        f"{OURS}/pods/{agent}%3A8080/proxy/metrics": (200, METRICS),
    }
    with api_server(answers) as api:
        assert live(api).agent_metrics == {NODE1: METRICS}


@pytest.fixture
def slices_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApiServer]:
    """An API server with a slice of the driver and one of another driver, watched for a second."""
    monkeypatch.setattr(live_snapshot, "WATCHED_SECONDS", 1.0)
    server = FakeApiServer()
    for item in (published()[0], foreign()):
        server.put(f"{SLICES}/{item['metadata']['name']}", item)
    yield server
    server.close()


def foreign() -> Object:
    item = copy.deepcopy(published()[0])
    item["metadata"]["name"] = "foreign"
    item["spec"]["driver"] = "other.example.com"
    item["spec"]["pool"]["name"] = "theirs"
    return item


def write(server: FakeApiServer, item: Object, times: int) -> None:
    """Write a slice ``times`` more times."""
    for generation in range(2, times + 2):
        changed = copy.deepcopy(item)
        changed["spec"]["pool"]["generation"] = generation
        server.put(f"{SLICES}/{item['metadata']['name']}", changed)


@pytest.mark.parametrize(("times", "found"), [(0, {}), (2, {}), (3, {f"{NODE1}/mock0": 3})])
def test_continual_rewrites_are_counted(slices_server: FakeApiServer, times: int, found: dict[str, int]) -> None:
    def writes() -> None:
        # Only after the watch has started.
        while slices_server.requests.count(("GET", SLICES)) < 2:
            listed.wait(0.01)
        write(slices_server, foreign(), 9)
        write(slices_server, published()[0], times)

    listed = threading.Event()
    thread = threading.Thread(target=writes)
    thread.start()
    with ApiClient(Configuration(host=slices_server.url)) as api:
        assert live(api).rewrites == found
    thread.join()


def test_slices_that_were_written_long_ago_are_not_watched(slices_server: FakeApiServer) -> None:
    """Of the driver: another driver may write its slices again and again."""
    for item, seconds in ((published()[0], 60), (foreign(), 0)):
        written = datetime.now(UTC) - timedelta(seconds=seconds)
        item["metadata"]["managedFields"] = [{"manager": "test", "time": written.isoformat(timespec="seconds")}]
        slices_server.put(f"{SLICES}/{item['metadata']['name']}", item)
    with ApiClient(Configuration(host=slices_server.url)) as api:
        assert live(api).rewrites == {}
    assert slices_server.requests == [("GET", SLICES)]


def event(reason: str, time: str) -> Object:
    metadata = {"name": reason, "namespace": "default", "creationTimestamp": time}
    return {"metadata": metadata, "involvedObject": {}, "reason": reason, "message": f"{reason}!", "type": "Warning"}


def named(item: Object, **metadata: str) -> Object:
    return item | {"metadata": {**item["metadata"], "uid": f"uid-{item['metadata']['name']}", **metadata}}


def test_guests_and_device_servers_are_read() -> None:
    with api_server({}) as api:
        snapshot = live(api)
        assert snapshot.guests == {NODE1: "running", NODE2: "QMP: no answer"}
        assert snapshot.servers == {NODE1: None, NODE2: -9}
        assert snapshot.state == "failed: etcd has ended"
        with pytest.raises(StepError, match="no answer in 10 s"):
            _ = snapshot.plugged


def test_nodes_that_show_no_devices() -> None:
    """One that does not answer hides no other; what a device that is dead shows is none."""
    dead = "module\tlive\naccel\tmock0\t\t\t\t\t\t0000:11:00.0\t\nend\n"
    with api_server({}) as api:
        snapshot: Any = live(api)
        snapshot._session.answers_of_nodes = lambda _: ({NODE1: "module\tlive\nend\n"}, {NODE2: "no answer"})
        assert (snapshot.devices, snapshot.silent) == ([NodeDevices(NODE1, (), ())], {NODE2: "no answer"})
        snapshot = live(api)
        snapshot._session.answers_of_nodes = lambda _: ({NODE1: dead, NODE2: "module\tlive\nend\n"}, {})
        assert [shown.node for shown in snapshot.devices] == [NODE2]
        assert snapshot.silent[NODE1].startswith(f"{NODE1}: expected a device, found 'accel\\tmock0")


def test_pods_and_logs_of_the_driver_are_read() -> None:
    agents = [pod_of("mock-accel-node-agent", node) for node in (NODE1, NODE2)]
    answers: Answers = {
        "/apis/apps/v1/namespaces/mock-device/daemonsets": listing(),
        f"{OURS}/pods": listing(*agents),
        f"{OURS}/pods/mock-accel-node-agent-{NODE1}/log": (200, {"log": LOG}),
        f"{OURS}/pods/mock-accel-node-agent-{NODE2}/log": (400, {}),
    }
    with api_server(answers) as api:
        snapshot = live(api)
        assert snapshot.daemon_set is None
        assert [agent["spec"]["nodeName"] for agent in snapshot.agents] == [NODE1, NODE2]
        assert "Published slices" in snapshot.agent_logs[NODE1]
        assert snapshot.agent_logs[NODE2].startswith("no log: ")


@pytest.mark.parametrize("allowed", [True, False])
def test_each_permission_is_reviewed(allowed: bool) -> None:
    answer = {"spec": {}, "status": {"allowed": allowed}}
    needed = granted(deploy.objects_of(current.driver()))
    with api_server({REVIEWS: (201, answer)}) as api:
        assert live(api).refused == ([] if allowed else needed)


def test_objects_of_allocation_are_read() -> None:
    answers: Answers = {
        f"{CORE}/pods": listing(pod()),
        f"{RESOURCE}/resourceslices": listing(*published()),
        f"{RESOURCE}/resourceclaims": listing(claim("user", "mock0")),
        f"{RESOURCE}/resourceclaimtemplates": listing(
            {"metadata": {"name": "each", "namespace": "default"}, "spec": {"spec": {}}}
        ),
        f"{RESOURCE}/deviceclasses": listing({"metadata": {"name": "mock-accel-pf"}, "spec": {}}),
    }
    with api_server(answers) as api:
        snapshot = live(api)
        assert len(snapshot.slices) == len(published())
        assert snapshot.claims[0]["status"]["reservedFor"][0]["name"] == "user"
        assert "pods" in vars(snapshot), "a pod that gets a node between the looks must not seem to have no devices"
        assert list(snapshot.templates) == ["default/each"]
        assert [item["metadata"]["name"] for item in snapshot.device_classes] == ["mock-accel-pf"]


def test_server_without_taint_rules_has_none() -> None:
    path = f"{RESOURCE}/devicetaintrules"
    spec = {"deviceSelector": {}, "taint": {"key": "k", "effect": "NoSchedule"}}
    with api_server({path: listing({"metadata": {"name": "all"}, "spec": spec})}) as api:
        assert [item["spec"]["deviceSelector"] for item in live(api).taint_rules] == [{}]
    with api_server({}) as api:
        assert live(api).taint_rules == []
    with api_server({path: (403, {})}) as api, pytest.raises(ApiException):
        _ = live(api).taint_rules


def test_pods_with_claims_and_their_warnings_are_read() -> None:
    idle = pod("idle")
    idle["spec"]["resourceClaims"] = []
    ends = named(pod("ends"), deletionTimestamp="2026-01-01T00:00:00Z")
    extended = named(pod("extended"))
    del extended["spec"]["resourceClaims"]
    resource = "deviceclass.resource.kubernetes.io/mock-accel-pf"
    extended["spec"]["containers"][0]["resources"] = {"requests": {resource: "7"}}
    there = [
        named(pod()),
        named(waiting("other", "no room")),
        named(pod("ended", phase="Succeeded")),
        named(idle),
        ends,
        extended,
    ]
    answers: Answers = {
        f"{CORE}/pods": listing(*there),
        f"{RESOURCE}/deviceclasses": listing(*device_classes()),
        f"{CORE}/namespaces/default/events": listing(
            event("Failed", "2026-01-01T00:00:02Z"), event("FailedScheduling", "2026-01-01T00:00:01Z")
        ),
    }
    with api_server(answers) as api:
        snapshot = live(api)
        assert [item["metadata"]["name"] for item in snapshot.pods] == ["user", "other", "extended"]
        assert snapshot.events == {
            "default/other": [Event("FailedScheduling", "FailedScheduling!"), Event("Failed", "Failed!")]
        }
