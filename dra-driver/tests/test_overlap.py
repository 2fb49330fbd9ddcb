"""Two node agents on one node, as in a rolling update, and leftovers of a killed one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from dra_fakes.apiserver import SLICES, FakeApiServer
from dra_fakes.kubelet import FakeKubelet, PluginWatcher
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import sockets
from mock_accel_dra.agent import NodeAgent
from mock_accel_dra.api import Client
from mock_accel_dra.protos import dra_health_v1_pb2 as health
from mock_accel_dra.settings import AgentSettings

OLD_UID, NEW_UID = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
_DEADLINE_SECONDS = 20


@pytest.fixture
def old(settings: AgentSettings) -> AgentSettings:
    """Settings of the agent that started first."""
    return replace(settings, kernel_events=False, pod_uid=OLD_UID, start_id="old")


@contextmanager
def running(settings: AgentSettings, api: FakeApiServer) -> Iterator[NodeAgent]:
    """A running agent that is registered with the kubelet."""
    program = NodeAgent(settings, Client(api.url))
    thread = threading.Thread(target=program.run)
    thread.start()
    try:
        with FakeKubelet(settings.registration_socket) as kubelet:
            kubelet.notify(True)
        yield program
    finally:
        program.stop()
        thread.join(_DEADLINE_SECONDS)
        assert not thread.is_alive()


def test_a_claim_prepared_by_the_old_one_is_unprepared_by_the_new_one(old: AgentSettings, api: FakeApiServer) -> None:
    new = replace(old, pod_uid=NEW_UID, start_id="new")
    results = {"request": "r", "driver": "mock-accel.example.com", "device": "mock1"}
    results["pool"] = f"{old.node_name}/mock1"
    api.add_claim("one", [results])
    api.add_claim("two", [results])
    claims = [("default", name, f"uid-{name}") for name in ("one", "two")]
    with running(old, api), FakeKubelet(old.service_socket) as to_old:
        assert not to_old.prepare(claims[:1])["uid-one"].error
        with running(new, api), FakeKubelet(new.service_socket) as to_new:
            assert old.service_socket.exists()
            assert "still prepared for claim default/one" in to_new.prepare(claims[1:])["uid-two"].error
            assert not to_new.unprepare(claims[:1])["uid-one"].error
            assert not to_new.prepare(claims[1:])["uid-two"].error
            assert "still prepared for claim default/two" in to_old.prepare(claims[:1])["uid-one"].error
        assert not new.registration_socket.exists()
        assert old.registration_socket.exists()


def test_only_the_new_one_publishes(old: AgentSettings, api: FakeApiServer) -> None:
    new = replace(old, pod_uid=NEW_UID, start_id="new")
    pattern = old.registration_pattern
    with running(old, api):
        names = set(api.slices())
        assert not sockets.replaced(old.registration_socket, pattern)
        with running(new, api):
            assert sockets.replaced(old.registration_socket, pattern)
            assert not sockets.replaced(new.registration_socket, pattern)
            api.remove(f"{SLICES}/{min(names)}")
            api.wait_for_slices(names)  # restored once, by one of the agents
            creations = [request for request in api.writes() if request[0] == "POST"]
            assert len(creations) == len(names) + 1
        # The old agent is alone again, as after a rollback.
        api.remove(f"{SLICES}/{min(names)}")
        api.wait_for_slices(names)


def test_sockets_of_a_killed_driver_are_removed(old: AgentSettings, api: FakeApiServer) -> None:
    killed = replace(old, pod_uid=NEW_UID, start_id="new")
    for path in (killed.registration_socket, killed.service_socket):
        path.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    foreign = old.registry_dir / "other.example.com-reg.sock"
    foreign.touch()
    with running(old, api):
        assert not killed.registration_socket.exists()
        assert not killed.service_socket.exists()
        assert foreign.exists()


def test_agent_after_a_power_cut_does_not_wait_for_its_old_socket(old: AgentSettings, api: FakeApiServer) -> None:
    """The kubelet has failed on the old socket for some minutes when the pod runs again with the same uid."""
    for path in (old.registration_socket, old.service_socket):
        path.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    again = AgentSettings(**{**vars(old), "start_id": AgentSettings(node_name="any").start_id})
    program = NodeAgent(again, Client(api.url))
    thread = threading.Thread(target=program.run)
    with PluginWatcher(old.registry_dir, pause=60) as watcher:
        watcher.wait_failed(old.registration_socket)
        thread.start()
        try:
            assert watcher.wait_registered(_DEADLINE_SECONDS) == {again.registration_socket}
            assert not old.registration_socket.exists()
        finally:
            program.stop()
            thread.join(_DEADLINE_SECONDS)
    assert not list(old.registry_dir.iterdir())


def test_socket_names_are_unique_per_start_and_short_enough() -> None:
    first, second = (AgentSettings(node_name="node1", pod_uid=OLD_UID) for _ in range(2))
    for one, other, pattern in (
        (first.service_socket, second.service_socket, first.service_pattern),
        (first.registration_socket, second.registration_socket, first.registration_pattern),
    ):
        assert one != other
        assert one.match(pattern) and other.match(pattern)
        assert OLD_UID[:8] in one.name
        assert len(str(one)) <= 107


def test_health_is_streamed(old: AgentSettings, api: FakeApiServer, sysfs: SysfsTree) -> None:
    with running(old, api), FakeKubelet(old.service_socket) as kubelet:
        stream = kubelet.watch_health()
        first = next(stream)
        assert {device.device.device_name for device in first.devices} == {f"mock{number}" for number in range(6)}
        assert {device.health for device in first.devices} == {health.HEALTHY}
        assert first.devices[1].device.pool_name == f"{old.node_name}/mock1"
        assert first.devices[1].health_check_timeout_seconds >= 30
        path = sysfs.classes / "mock1" / "uuid"
        uuid = path.read_text()
        path.unlink()
        sick = next(item for item in stream if any(device.health != health.HEALTHY for device in item.devices))
        (device,) = (device for device in sick.devices if device.health != health.HEALTHY)
        assert (device.device.device_name, device.health) == ("mock1", health.UNHEALTHY)
        assert "does not answer" in device.message
        taint = {"key": "mock-accel.example.com/unhealthy", "value": "NoAnswer", "effect": "NoSchedule"}
        path_of_slice = f"{SLICES}/mock-accel.example.com-{old.node_name}-mock1"
        api.wait_until(
            path_of_slice, lambda item: taint.items() <= item["spec"]["devices"][0].get("taints", [{}])[0].items()
        )
        path.write_text(uuid)
        next(item for item in stream if all(device.health == health.HEALTHY for device in item.devices))
        api.wait_until(path_of_slice, lambda item: not item["spec"]["devices"][0].get("taints"))


def test_failed_prepare_is_an_event_on_the_claim(old: AgentSettings, api: FakeApiServer) -> None:
    results = {"request": "r", "driver": "mock-accel.example.com", "device": "mock9"}
    results["pool"] = f"{old.node_name}/mock9"
    api.add_claim("greedy", [results])
    with running(old, api), FakeKubelet(old.service_socket) as kubelet:
        for _ in range(3):
            assert "mock9" in kubelet.prepare([("default", "greedy", "uid-greedy")])["uid-greedy"].error
        api.wait_for("/api/v1/namespaces/default/events/greedy.")
    events = [item for path, item in api.objects.items() if "/events/" in path]
    assert len(events) == 1
    assert (events[0]["reason"], events[0]["type"]) == ("PrepareFailed", "Warning")
    assert events[0]["involvedObject"]["uid"] == "uid-greedy"
    assert "device mock9 of pool" in events[0]["message"]
