"""A supervisor and its clients: holding, following, status, bad requests."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from support.fake_supervisor import SPEC
from support.topologies import SINGLE_NODE

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.processes import ProcessState
from mock_device.lab.base.spec import Access, ClusterPaths, ClusterSpec
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.supervisor import supervisor as module
from mock_device.lab.supervisor.cluster_processes import Step
from mock_device.lab.supervisor.supervisor import Supervisor

TIMEOUT_SECONDS = 10.0
(NODE,) = (node.name for node in SINGLE_NODE.nodes)


class Client:
    """A connection to a supervisor."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, **request: Any) -> Any:
        """The answer: ``result``, or the text of the error."""
        self._writer.write(json.dumps(request).encode() + b"\n")
        message = await self.message()
        return message["error"] if "error" in message else message["result"]

    async def send(self, **request: Any) -> None:
        self._writer.write(json.dumps(request).encode() + b"\n")
        await self._writer.drain()

    async def message(self) -> Any:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return json.loads(await self._reader.readline())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()


class Processes:
    """Fake processes of a cluster whose start has one step."""

    api_address = "192.168.122.1"

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self.children = self
        self._work = work
        self.killed = False

    def steps(self) -> list[Step]:
        return [Step("the only step", self._work, golden=True)]

    def states(self) -> list[ProcessState]:
        return [ProcessState("etcd", 7, None, False, 1 << 20)]

    async def kill_all(self) -> None:
        self.killed = True


class Running:
    """A running supervisor, and how to reach it."""

    def __init__(self, spec: ClusterSpec, address: Path, work: Callable[[], Awaitable[None]]) -> None:
        self._address = address
        self.supervisor = Supervisor(spec)
        processes: Any = Processes(work)
        self.processes: Processes = processes
        self.supervisor.processes = processes
        self.task = asyncio.create_task(self.supervisor.run())

    async def client(self) -> Client:
        return Client(*await asyncio.open_unix_connection(self._address))

    async def ended(self) -> None:
        """Wait until the supervisor and all its processes have ended."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self.task
        assert self.processes.killed
        assert not self.supervisor.paths.data.exists()
        assert not self.supervisor.paths.access.exists()


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a supervisor whose start does ``work``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = ClusterPaths.of("some")
    paths.data.mkdir(parents=True)
    paths.logs.mkdir()
    paths.topology.write_text(SINGLE_NODE.text)
    Access(6443, {NODE: 2222}, 5001).save(paths.access)

    async def succeed() -> None:
        return None

    @asynccontextmanager
    async def run(work: Callable[[], Awaitable[None]] = succeed) -> AsyncIterator[Running]:
        control = socket.socket(socket.AF_UNIX)
        control.bind(str(tmp_path / "control.sock"))
        control.listen()
        tcp = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        spec = replace(
            SPEC,
            topology=str(SINGLE_NODE.path),
            directory=str(paths.root),
            control_fd=control.detach(),
            api_fd=tcp[0].detach(),
            ssh_fds={NODE: tcp[1].detach()},
            registry_fd=tcp[2].detach(),
        )
        found = Running(spec, tmp_path / "control.sock", work)
        yield found
        found.task.cancel()
        await asyncio.wait([found.task])

    return run


def test_cluster_ends_when_its_last_holder_leaves(running: Callable[..., Any]) -> None:
    async def check() -> None:
        async with running() as cluster:
            async with await cluster.client() as one:
                async with await cluster.client() as two:
                    assert await one.ask(do="hold", who="suite one")
                    assert await two.ask(do="hold", who="suite two")
                    assert (await one.ask(do="status"))["holders"] == ["suite one", "suite two"]
                while (await one.ask(do="status"))["holders"] != ["suite one"]:
                    pass
            await cluster.ended()

    asyncio.run(asyncio.wait_for(check(), TIMEOUT_SECONDS))


def test_cluster_with_stay_runs_until_it_is_stopped(running: Callable[..., Any]) -> None:
    async def check() -> None:
        async with running() as cluster:
            async with await cluster.client() as holder:
                await holder.ask(do="hold", who="lab up")
                assert await holder.ask(do="stay")
            async with await cluster.client() as other:
                while (status := await other.ask(do="status"))["holders"]:
                    pass
                assert (status["state"], status["stays"]) == ("running", True)
                assert await other.ask(do="stop")
            await cluster.ended()

    asyncio.run(asyncio.wait_for(check(), TIMEOUT_SECONDS))


def test_cluster_without_a_holder_ends(running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timeout.FIRST_HOLDER, "nominal", timedelta(seconds=0.05))

    async def check() -> None:
        async with running() as cluster:
            await cluster.ended()

    asyncio.run(check())


def test_status_of_a_cluster(running: Callable[..., Any]) -> None:
    async def check() -> Any:
        async with running() as cluster, await cluster.client() as client:
            await client.send(do="follow")
            messages = [await client.message() for _ in range(3)]
            assert [message["event"]["state"] for message in messages[:2]] == ["running", "done"]
            assert messages[2]["result"] == {"state": "running", "reason": "", "golden": False}
            return await client.ask(do="status")

    status = asyncio.run(check())
    assert status.pop("started") > 0
    assert status == {
        "name": "some",
        "topology": str(SINGLE_NODE.path),
        "kubernetes": "v1.37",
        "state": "running",
        "reason": "",
        "step": "",
        "stays": False,
        "internet": "off",
        "holders": [],
        "stopped guests": {},
        "processes": [{"name": "etcd", "pid": 7, "exit_code": None, "ending": False, "memory": 1 << 20}],
    }


def test_client_hears_that_a_long_step_goes_on(running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SIGN_OF_LIFE_SECONDS", 0.01)

    async def check() -> None:
        go_on = asyncio.Event()

        async def slow() -> None:
            await go_on.wait()

        async with running(slow) as cluster, await cluster.client() as client:
            await client.send(do="follow")
            assert (await client.message())["event"]["state"] == "running"
            assert (await client.message())["event"] == {}
            go_on.set()
            messages = [await client.message()]
            while "result" not in messages[-1]:
                messages.append(await client.message())
            assert next(message["event"] for message in messages[:-1] if message["event"])["state"] == "done"
            assert messages[-1]["result"]["state"] == "running"

    asyncio.run(asyncio.wait_for(check(), TIMEOUT_SECONDS))


@pytest.mark.parametrize(
    ("error", "reason", "golden"),
    [
        (StepError("the disk is full"), "the disk is full", True),
        (OSError(5, "Input/output error"), "[Errno 5] Input/output error", True),
        (LookupError("where is it?"), "bug in the supervisor: LookupError('where is it?'), log: ", False),
    ],
)
def test_failed_start_is_reported_to_late_clients_as_well(
    running: Callable[..., Any], error: Exception, reason: str, golden: bool
) -> None:
    async def fail() -> None:
        raise error

    async def check() -> None:
        async with running(fail) as cluster, await cluster.client() as early, await cluster.client() as late:
            for client in (early, late):
                await client.send(do="follow")
                assert (await client.message())["event"] == {"step": "the only step", "state": "running"}
                result = (await client.message())["result"]
                assert result["reason"].startswith(reason)
                assert (result["state"], result["golden"]) == ("failed", golden)

    asyncio.run(asyncio.wait_for(check(), TIMEOUT_SECONDS))


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("etcd", "failed", "etcd ended unexpectedly with 1, log: /logs/etcd.log"),
        # Guests run on with a dead device, as with real hardware.
        ("devices-mock-cluster-node1", "running", ""),
    ],
)
def test_process_that_ends(running: Callable[..., Any], name: str, state: str, reason: str) -> None:
    async def check() -> Any:
        async with running() as cluster, await cluster.client() as client:
            await client.send(do="follow")
            while "result" not in await client.message():
                pass
            process = SimpleNamespace(returncode=1)
            child = SimpleNamespace(name=name, process=process, log=Path(f"/logs/{name}.log"))
            cluster.supervisor._child_ended(child)
            return await client.ask(do="status")

    status = asyncio.run(asyncio.wait_for(check(), TIMEOUT_SECONDS))
    assert (status["state"], status["reason"]) == (state, reason)


@pytest.mark.parametrize(
    ("request_fields", "error"),
    [
        ({"do": "dance"}, 'unknown request: {"do": "dance"}'),
        ({"do": "hold", "who": 7}, 'unknown request: {"do": "hold", "who": 7}'),
        ({"do": "serve_devices", "node": "node9"}, "no node 'node9' in topology single-node; it has"),
        ({"do": "ask_devices", "node": "node9", "content": {}}, "no node 'node9' in topology single-node; it has"),
    ],
)
def test_bad_request_is_refused_without_side_effects(
    running: Callable[..., Any], request_fields: dict[str, Any], error: str
) -> None:
    async def check() -> None:
        async with running() as cluster, await cluster.client() as client:
            assert error in await client.ask(**request_fields)
            assert (await client.ask(do="status"))["state"] in {"starting", "running"}

    asyncio.run(asyncio.wait_for(check(), TIMEOUT_SECONDS))


UPGRADE = {
    "do": "upgrade",
    "binaries": "/new",
    "kubernetes": "v1.37",
    "feature_gates": "B=true",
    "runtime_config": "some/v1=true",
}


def test_upgrade_is_in_status_and_specification(running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that waits for a long upgrade gets signs of life."""
    monkeypatch.setattr(module, "_SIGN_OF_LIFE_SECONDS", 0.05)

    async def check() -> None:
        asked: list[ClusterSpec] = []

        async def upgrade(spec: ClusterSpec) -> None:
            asked.append(spec)
            await asyncio.sleep(0.3)

        async with running() as cluster, await cluster.client() as client:
            cluster.processes.upgrade = upgrade
            await client.ask(do="hold", who="test")
            await client.send(**UPGRADE)
            assert await client.message() == {"event": {}}
            while (message := await client.message()) == {"event": {}}:
                pass
            assert message == {"result": True}
            (spec,) = asked
            assert (spec.binaries, spec.feature_gates, spec.runtime_config) == ("/new", "B=true", "some/v1=true")
            assert ClusterSpec.load(cluster.supervisor.paths.spec) == spec
            assert (await client.ask(do="status"))["kubernetes"] == "v1.37"

    asyncio.run(check())


def test_cluster_has_failed_after_an_upgrade_that_failed(running: Callable[..., Any]) -> None:
    async def check() -> None:
        async def upgrade(_: ClusterSpec) -> None:
            raise StepError("etcd is not ready after 60 s")

        async with running() as cluster, await cluster.client() as client:
            cluster.processes.upgrade = upgrade
            await client.ask(do="hold", who="test")
            assert await client.ask(**UPGRADE) == "etcd is not ready after 60 s"
            status = await client.ask(do="status")
            assert (status["state"], status["kubernetes"]) == ("failed", SPEC.kubernetes)
            assert status["reason"] == "upgrade to Kubernetes v1.37: etcd is not ready after 60 s"

    asyncio.run(check())
