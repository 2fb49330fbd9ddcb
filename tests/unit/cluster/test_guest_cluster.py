"""A running cluster whose nodes are guests of the lab."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dra_fakes.apiserver import FakeApiServer
from kubernetes import client
from support.fake_supervisor import SPEC
from support.topologies import CLUSTER

from mock_device.driver import current, description
from mock_device.driver.description import Driver
from mock_device.lab.base import timeouts
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.spec import Access, ClusterPaths, ClusterSpec, DamagedFileError
from mock_device.lab.cluster import guest_cluster as module
from mock_device.lab.cluster.cluster import Capability, Cluster, MissingCapabilityError, NodeAccess
from mock_device.lab.cluster.guest_cluster import GuestCluster
from mock_device.lab.kube import kubeclient

NODES = [node.name for node in CLUSTER.nodes]


class Control:
    """A fake supervisor that answers from a table and records the requests."""

    name = "some"

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.closed = False

    def request(self, do: str, **fields: Any) -> Any:
        self.asked.append((do, fields))
        if isinstance(answer := self.answers.get(do, True), Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterPaths:
    """Files of the cluster ``some``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    paths = ClusterPaths.of("some")
    paths.root.mkdir(parents=True)
    replace(SPEC, topology=str(CLUSTER.path), directory=str(paths.root)).save(paths.spec)
    paths.topology.write_text(CLUSTER.text)
    Access(6443, {NODES[0]: 2201, NODES[1]: 2202}, 5001).save(paths.access)
    return paths


def attach(control: Any, **options: Any) -> GuestCluster:
    return GuestCluster(control, **options)


def test_nodes_are_reached_on_their_forwarded_ports(paths: ClusterPaths) -> None:
    node = attach(Control()).node(NODES[1])
    assert (node.host, node.port, node.user) == ("127.0.0.1", 2202, "root")
    assert (node.key_file, node.known_hosts) == (paths.pki / "id_ed25519", paths.pki / "known_hosts")
    with pytest.raises(KeyError, match="no node 'node9' in topology numa-cluster; it has"):
        attach(Control()).node("node9")


def test_time_outs_of_a_client_have_the_factor_of_the_clusters_profile(
    paths: ClusterPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(timeouts.VARIABLE, raising=False)
    monkeypatch.setattr(timeouts, "_profile_factor", 1.0)
    replace(ClusterSpec.load(paths.spec), timeout_factor=3.0).save(paths.spec)
    found = attach(Control())
    assert (timeouts.factor(), found.look_seconds) == (3, 60)


def test_node_without_a_port_is_a_damaged_file(paths: ClusterPaths) -> None:
    Access(6443, {NODES[0]: 2201}, 5001).save(paths.access)
    with pytest.raises(DamagedFileError, match=f"expected an SSH port of {NODES[1]}; stop the cluster: lab down"):
        attach(Control())


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_damaged_list_of_drivers_is_a_damaged_file(paths: ClusterPaths, content: str) -> None:
    paths.drivers.write_text(content)
    with pytest.raises(DamagedFileError, match=r"drivers\.json is damaged"):
        attach(Control())


def test_cluster_remembers_its_drivers(paths: ClusterPaths, tmp_path: Path) -> None:
    assert [driver.name for driver in attach(Control()).drivers] == ["mock-accel.example.com"]
    ours = description.load(description.DEFAULT)
    other = tmp_path / "other.yaml"
    other.write_text(ours.path.read_text().replace("example.com", "example.org"))
    other.write_text(re.sub(r"(?m)^(manifests|images|  - build).*\n", "", other.read_text()))
    attach(Control()).record_drivers([description.read(other), ours])
    try:
        cluster = attach(Control())
        assert [driver.name for driver in cluster.drivers] == ["mock-accel.example.org", "mock-accel.example.com"]
        assert current.driver().name == "mock-accel.example.org"
    finally:
        current.use(None)


def test_qmp_commands_are_only_sent_to_known_nodes(paths: ClusterPaths) -> None:
    control = Control(qmp={"status": "running"})
    cluster = attach(control)
    assert cluster.guests.qmp(NODES[0], "query-status", detail=1) == {"status": "running"}
    assert control.asked == [("qmp", {"node": NODES[0], "execute": "query-status", "arguments": {"detail": 1}})]
    with pytest.raises(KeyError, match="no node 'node9'"):
        cluster.guests.qmp("node9", "query-status")


def test_secret_of_the_devices_is_a_file_of_the_cluster(paths: ClusterPaths) -> None:
    assert attach(Control()).guests.device_key == paths.root / "device-key"


def test_requests_for_faults_are_only_sent_to_known_nodes(paths: ClusterPaths) -> None:
    control = Control(ask_devices={"ok": True})
    guests = attach(control).guests
    assert guests.ask_device_server(NODES[0], {"device": "mock0", "fault": "die"}) == {"ok": True}
    assert control.asked == [("ask_devices", {"node": NODES[0], "content": {"device": "mock0", "fault": "die"}})]
    with pytest.raises(KeyError, match="no node 'node9'"):
        guests.ask_device_server("node9", {"list": True})


def test_silent_guests_are_distinguished_from_errors(paths: ClusterPaths) -> None:
    answers = {NODES[0]: {"error": "no answer in 2 s", "silent": True}, NODES[1]: {"return": {"status": "running"}}}
    found = attach(Control(look=answers)).guests.look("query-status", 2)
    assert (found[NODES[0]].error, found[NODES[0]].silent) == ("no answer in 2 s", True)
    assert (found[NODES[1]].value, found[NODES[1]].silent) == ({"status": "running"}, False)


@pytest.mark.parametrize(
    ("status", "alive"), [({"state": "running"}, True), ({"state": "failed"}, False), (StepError("no answer"), False)]
)
def test_cluster_is_alive_while_its_supervisor_says_that_it_runs(paths: ClusterPaths, status: Any, alive: bool) -> None:
    assert attach(Control(status=status)).alive() == alive


@pytest.mark.parametrize(
    ("starter", "stays", "waits"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_release_waits_for_the_end_of_a_cluster_that_ends_with_it(
    paths: ClusterPaths, monkeypatch: pytest.MonkeyPatch, starter: bool, stays: bool, waits: bool
) -> None:
    waited: list[str] = []
    monkeypatch.setattr(module, "wait_ended", waited.append)
    control = Control()
    cluster = attach(control, ends_here=starter)
    if stays:
        cluster.stay()
    cluster.release()
    assert control.closed
    assert waited == (["some"] if waits else [])


def test_cluster_of_guests_has_every_capability(paths: ClusterPaths) -> None:
    attach(Control()).check_offers(list(Capability))


def test_failed_cluster_ends_the_wait_with_the_supervisors_reason(paths: ClusterPaths) -> None:
    cluster = attach(Control(status={"state": "failed", "reason": "QEMU stopped guest node1 (internal-error)"}))
    server = FakeApiServer()
    try:
        nodes = client.CoreV1Api(client.ApiClient(client.Configuration(host=server.url))).list_node
        begin = time.monotonic()
        with pytest.raises(StepError, match="'some' has failed: QEMU stopped guest node1"), cluster.failing_fast():
            kubeclient.watch_until(nodes, lambda _: False, timeout=60)
        assert time.monotonic() - begin < 10
    finally:
        server.close()


def test_cluster_that_fails_during_a_watch_ends_it(paths: ClusterPaths) -> None:
    control = Control(status={"state": "running"})
    cluster = attach(control)
    server = FakeApiServer()
    server.add_node("node-1")
    try:
        nodes = client.CoreV1Api(client.ApiClient(client.Configuration(host=server.url))).list_node

        def fails_now(_: object) -> bool:
            control.answers["status"] = {"state": "failed", "reason": "qemu-node1 ended"}
            return False

        begin = time.monotonic()
        with pytest.raises(StepError, match="has failed: qemu-node1 ended"), cluster.failing_fast():
            kubeclient.watch_until(nodes, fails_now, timeout=60)
        assert time.monotonic() - begin < 10
    finally:
        server.close()


def test_consequence_of_a_failure_is_replaced_by_its_cause(paths: ClusterPaths) -> None:
    failed = attach(Control(status={"state": "failed", "reason": "the cause"}))
    with pytest.raises(StepError, match="the cause") as found, failed.failing_fast():
        raise StepError("a consequence")
    assert "a consequence" in str(found.value.__cause__)
    works = attach(Control(status={"state": "running"}))
    with pytest.raises(StepError, match="its own fault"), works.failing_fast():
        raise StepError("its own fault")


class Foreign(Cluster):
    """A cluster whose nodes the lab does not run."""

    name = "theirs"
    kubeconfig = log_dir = Path("/nowhere")

    def node(self, name: str) -> NodeAccess:
        raise KeyError(name)

    def report_activity(self, who: str) -> None: ...

    def record_drivers(self, found: Sequence[Driver]) -> None: ...

    def release(self) -> None: ...


def test_cluster_without_guests_says_what_it_lacks() -> None:
    foreign = Foreign()
    foreign.check_offers({Capability.API, Capability.NODES, Capability.TOPOLOGY})
    with pytest.raises(MissingCapabilityError, match="'theirs' has no power, which only clusters have whose nodes"):
        foreign.check_offers({Capability.API, Capability.POWER})
    with pytest.raises(MissingCapabilityError, match="'theirs' has no console, device-server, hotplug, power, which"):
        _ = foreign.guests
