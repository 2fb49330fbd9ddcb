"""The node agent from the view of the kubelet and the API server: real sockets, real HTTP."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dra_fakes import strategy
from dra_fakes.agents import until
from dra_fakes.apiserver import SLICES, FakeApiServer
from dra_fakes.kubelet import FakeKubelet
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import agent, rpc, uevents
from mock_accel_dra.agent import NodeAgent
from mock_accel_dra.api import Client
from mock_accel_dra.settings import AgentSettings

PREFIX = "mock-accel.example.com-mock-cluster-node1-"
_DEADLINE_SECONDS = 20


@pytest.fixture
def running(settings: AgentSettings, api: FakeApiServer) -> Iterator[NodeAgent]:
    program = NodeAgent(settings, Client(api.url))
    thread = threading.Thread(target=program.run)
    thread.start()
    yield program
    program.stop()
    thread.join(_DEADLINE_SECONDS)
    assert not thread.is_alive()
    assert not settings.service_socket.exists()
    assert not settings.registration_socket.exists()


def published(names: str) -> set[str]:
    return {PREFIX + name for name in names.split()}


ALL = published("mock0 mock1 mock2 mock3 mock4 mock5")


def test_registration(running: NodeAgent, settings: AgentSettings, api: FakeApiServer) -> None:
    api.wait_for_slices(ALL)
    with FakeKubelet(settings.registration_socket) as kubelet:
        info = kubelet.get_info()
        assert info.type == "DRAPlugin"
        assert info.name == "mock-accel.example.com"
        assert info.endpoint == str(settings.service_socket)
        assert list(info.supported_versions) == ["v1.DRAPlugin", "v1.DRAResourceHealth"]
        assert not running.ready()
        kubelet.notify(True)
        assert running.ready()
        kubelet.notify(False, "no")
        assert not running.ready()


def test_every_claim_gets_its_own_answer(running: NodeAgent, settings: AgentSettings, api: FakeApiServer) -> None:
    driver, pool = "mock-accel.example.com", f"{settings.node_name}/mock1"
    allocated = {"request": "r", "driver": driver, "pool": pool, "device": "mock1"}
    api.add_claim("good", [allocated])
    api.add_claim("greedy", [allocated])
    api.add_claim("pending", None)
    claims = [("default", name, f"uid-{name}") for name in ("good", "greedy", "pending", "missing")]
    with FakeKubelet(settings.service_socket) as kubelet:
        answers = kubelet.prepare(claims)
        assert set(answers) == {uid for _, _, uid in claims}
        (device,) = answers["uid-good"].devices
        assert not answers["uid-good"].error
        assert list(device.request_names) == ["r"]
        assert (device.pool_name, device.device_name) == (pool, "mock1")
        assert list(device.cdi_device_ids) == ["example.com/mock-accel=mock1"]
        assert not device.HasField("share_id")
        assert "still prepared for claim default/good" in answers["uid-greedy"].error
        assert "not allocated" in answers["uid-pending"].error
        assert "404" in answers["uid-missing"].error
        assert (settings.cdi_root / "example.com_mock-accel-mock1.json").exists()
        answers = kubelet.unprepare(claims)
        assert {uid: answer.error for uid, answer in answers.items()} == {uid: "" for _, _, uid in claims}
    assert not list(settings.cdi_root.iterdir())


def test_devices_are_followed(running: NodeAgent, api: FakeApiServer, sysfs: SysfsTree) -> None:
    api.wait_for_slices(ALL)
    sysfs.remove("mock5")
    api.wait_for_slices(published("mock0 mock1 mock2 mock3 mock4"))
    sysfs.add("mock0_vf0", "0000:11:00.1", physfn="0000:11:00.0")
    api.wait_for_slices(published("mock0 mock0-vf0 mock0-counters mock1 mock2 mock3 mock4"))


def test_agent_is_ready_when_all_acceptable_devices_are_published(
    running: NodeAgent, settings: AgentSettings, api: FakeApiServer, sysfs: SysfsTree
) -> None:
    api.wait_for_slices(ALL)
    sysfs.write("mock0", "capabilities", "0x3ff")
    sysfs.write("mock1", "memory_size", f"{1 << 63}")
    (sysfs.add("mock6", "0000:19:00.0") / "uuid").write_bytes(b"\xff\n")
    api.refused = {"mock2": 422}
    sysfs.write("mock2", "uuid", "ANOTHER")
    api.wait_for_slices(published("mock3 mock4 mock5"))
    with FakeKubelet(settings.registration_socket) as kubelet:
        kubelet.notify(True)
    assert running.ready()
    # The agent knows them when it has written all slices, which the API server has a moment earlier.
    deadline = time.monotonic() + 10
    while set(running.devices_left_out()) != {"mock0", "mock1", "mock2", "mock6"}:
        assert time.monotonic() < deadline, running.devices_left_out()
        time.sleep(0.01)
    text = running._metrics().decode()
    assert 'mock_accel_devices_left_out{device="mock0",reason="attribute capabilities: expected at most' in text


def test_slices_that_the_api_server_changes_are_written_once(
    settings: AgentSettings, api: FakeApiServer, sysfs: SysfsTree
) -> None:
    """Even though every write wakes the agent."""
    api.gates_off = {strategy.PARTITIONABLE_DEVICES, strategy.DEVICE_TAINTS}
    for number in range(2):
        sysfs.add(f"mock0_vf{number}", f"0000:11:00.{number + 1}", physfn="0000:11:00.0")
    (sysfs.classes / "mock1" / "memory_size").write_text(f"{1 << 50}\n")
    program = NodeAgent(settings, Client(api.url))
    thread = threading.Thread(target=program.run)
    thread.start()
    try:
        api.wait_for_slices(published("mock0-vf0 mock0-vf1 mock1 mock2 mock3 mock4 mock5"))
        (sysfs.classes / "mock1" / "uuid").unlink()
        until(lambda: bool(program.fields_changed()[1:]), "the taint that was dropped")
        generations = api.generations()
        looks = api.requests.count(("GET", SLICES))
        until(lambda: api.requests.count(("GET", SLICES)) > looks + 5, "five more looks")
        assert generations == api.generations()
        text = program._metrics().decode()
        name = f"{PREFIX}mock1"
        assert f'mock_accel_slice_fields_changed{{field="spec.devices[0].taints",slice="{name}"}} 1.0' in text
    finally:
        program.stop()
        thread.join(_DEADLINE_SECONDS)


@pytest.mark.parametrize("wanted", [True, False])
def test_kernel_events_can_be_disabled(
    settings: AgentSettings, api: FakeApiServer, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    opened = threading.Event()

    def open_socket() -> None:
        opened.set()
        raise PermissionError("not here")

    monkeypatch.setattr(uevents, "open_socket", open_socket)
    program = NodeAgent(replace(settings, kernel_events=wanted), Client(api.url))
    thread = threading.Thread(target=program.run)
    thread.start()
    try:
        api.wait_for_slices(ALL)
        api.remove(f"{SLICES}/{PREFIX}mock2")
        api.wait_for_slices(ALL)  # by rescan; by then the helper threads run
        assert opened.is_set() == wanted
    finally:
        program.stop()
        thread.join(_DEADLINE_SECONDS)


def test_a_deleted_slice_is_restored_at_once(
    settings: AgentSettings, api: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = AgentSettings(**{**vars(settings), "rescan_interval": 600.0})
    program = NodeAgent(slow, Client(api.url))
    thread = threading.Thread(target=program.run)
    thread.start()
    try:
        api.wait_for_slices(ALL)
        api.remove(f"{SLICES}/{PREFIX}mock2")
        api.wait_for_slices(ALL)
    finally:
        program.stop()
        thread.join(_DEADLINE_SECONDS)


def test_serves_while_the_api_server_is_unreachable(
    settings: AgentSettings, api: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "_FIRST_PAUSE_SECONDS", 0.05)
    api.broken = 503
    program = NodeAgent(settings, Client(api.url))
    thread = threading.Thread(target=program.run)
    thread.start()
    try:
        with FakeKubelet(settings.registration_socket) as kubelet:
            kubelet.notify(True)
        assert not program.ready()
        with FakeKubelet(settings.service_socket) as kubelet:
            assert "503" in kubelet.prepare([("default", "one", "uid")])["uid"].error
            assert not kubelet.unprepare([("default", "one", "uid")])["uid"].error
        api.broken = None
        api.wait_for_slices(ALL)
    finally:
        program.stop()
        thread.join(_DEADLINE_SECONDS)


def test_a_stale_socket_is_replaced_and_a_long_path_refused(settings: AgentSettings, run_dir: Path) -> None:
    settings.registry_dir.mkdir()
    settings.registration_socket.touch()
    handler = rpc.registration_handler(settings.service_socket, lambda _: None)
    server = rpc.serve(settings.registration_socket, handler)
    assert stat.S_ISSOCK(settings.registration_socket.stat().st_mode)
    server.stop(None).wait()
    with pytest.raises(rpc.ServeError, match="at most 107 bytes"):
        rpc.serve(run_dir / ("x" * 100) / "dra.sock", handler)


def test_the_program_from_start_to_sigterm(settings: AgentSettings, api: FakeApiServer, run_dir: Path) -> None:
    flags = ["sysfs-root", "cdi-root", "plugin-dir", "registry-dir"]
    argv = [sys.executable, "-m", "mock_accel_dra", "node-agent", "--api-server", api.url, "--v", "5"]
    argv += [f"--{flag}={getattr(settings, flag.replace('-', '_'))}" for flag in flags]
    port = free_port()
    environment = {**os.environ, "NODE_NAME": settings.node_name, "HEALTH_PORT": str(port)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    begin = time.monotonic()
    log = run_dir / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(argv, env=environment, stderr=stderr)
    try:
        with FakeKubelet(settings.registration_socket) as kubelet:
            assert kubelet.get_info().name == "mock-accel.example.com"
            kubelet.notify(True)
        api.wait_for_slices(ALL)
        assert settings.service_socket.stat().st_mode & 0o077 == 0
        assert http_status(port, "/healthz") == 200
        assert http_status(port, "/readyz") == 200
        assert http_status(port, "/secret") == 404
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read()
        assert b'mock_accel_devices{state="free"} 6.0\n' in text
        start = re.search(rb"^mock_accel_start_seconds (.+)$", text, re.MULTILINE)
        # The kernel counts ticks of 10 ms.
        assert start is not None and 0 < float(start[1]) < time.monotonic() - begin + 0.01
        # A burst: signals arrive while others are handled. The kernel delivers the lowest number first.
        for verbosity in [5, 6] * 100:
            process.send_signal(signal.SIGRTMIN + verbosity)
        until(lambda: log.read_text().count('"Verbosity" v=6') == 100, "the last verbosity")
        process.send_signal(signal.SIGTERM)
        process.wait(_DEADLINE_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, log.read_text()
    assert '"Stopping" node="mock-cluster-node1"' in log.read_text()
    assert not settings.service_socket.exists()
    assert not settings.registration_socket.exists()


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def http_status(port: int, path: str) -> int:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            threading.Event().wait(0.05)
    raise AssertionError(f"no HTTP on port {port} after 10 s")
