"""What a supervisor reports about a failed start, and which topology file it reads."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.fake_supervisor import SPEC

from mock_device import topology
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.spec import Access, ClusterPaths, ClusterSpec
from mock_device.lab.cluster.guest_cluster import GuestCluster
from mock_device.lab.supervisor.cluster_processes import Step
from mock_device.lab.supervisor.supervisor import Supervisor

TEXT = (PROJECT / "variables/topologies/single-node.yaml").read_text().replace("name: single-node\n", "")


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterSpec:
    """A cluster ``some`` to be restored, with its folder, and the user's topology file ``mine.yaml``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    users_file = tmp_path / "mine.yaml"
    users_file.write_text(TEXT)
    paths = ClusterPaths.of("some")
    paths.logs.mkdir(parents=True)
    paths.topology.write_text(TEXT)
    ports = {node.name: 2222 for node in topology.load(users_file).nodes}
    Access(6443, ports, 5001).save(paths.access)
    golden = str(tmp_path / "golden")
    made = replace(SPEC, topology=str(users_file), directory=str(paths.root), golden=golden)
    made.save(paths.spec)
    return made


class Control:
    name = "some"


def test_topology_stays_as_it_was_at_the_start(spec: ClusterSpec) -> None:
    users_file = Path(spec.topology)
    loaded = topology.load(users_file)
    control: Any = Control()
    for text in (TEXT.replace("16G", "8G"), "nodes: ["):
        users_file.write_text(text)
        for found in (Supervisor(spec).topology, GuestCluster(control).topology):
            assert found == loaded
            assert (found.name, found.path) == ("mine", users_file)


def test_device_servers_read_the_copy(spec: ClusterSpec) -> None:
    supervisor = Supervisor(spec)
    argv: list[str] = []

    async def start(_: str, command: list[str], **__: object) -> Any:
        argv.extend(command)
        ready = asyncio.StreamReader()
        ready.feed_data(b"ready\t10\tx\n")
        return SimpleNamespace(process=SimpleNamespace(stdout=ready))

    supervisor.processes.children.start = start  # type: ignore[method-assign,assignment]
    asyncio.run(supervisor.processes.start_device_server(supervisor.topology.nodes[0]))
    assert argv[argv.index("--topology") + 1] == str(spec.paths.topology)


class Processes:
    """A start with one step, which runs ``work``."""

    def __init__(self, work: Callable[[], Awaitable[None]], *, golden: bool) -> None:
        self._step = Step("a step", work, golden=golden)

    def steps(self) -> list[Step]:
        return [self._step]


def end_of_start(supervisor: Supervisor, work: Callable[[], Awaitable[None]], *, golden: bool) -> Mapping[str, Any]:
    """Last message that a client which follows a start of one step receives."""
    sent: list[dict[str, Any]] = []

    class Writer:
        def write(self, line: bytes) -> None:
            sent.append(json.loads(line))

        async def drain(self) -> None:
            pass

    async def run() -> None:
        processes: Any = Processes(work, golden=golden)
        writer: Any = Writer()
        supervisor.processes = processes
        await supervisor._start()
        await supervisor._follow(writer)

    asyncio.run(run())
    result: Mapping[str, Any] = sent[-1]["result"]
    return result


async def _fails() -> None:
    raise StepError("it does not answer")


@pytest.mark.parametrize("golden", [False, True])
def test_golden_cluster_is_suspected_only_in_steps_that_read_it(spec: ClusterSpec, golden: bool) -> None:
    said = end_of_start(Supervisor(spec), _fails, golden=golden)
    assert said == {"state": "failed", "reason": "it does not answer", "golden": golden}


@pytest.mark.parametrize(("exit_code", "golden"), [(1, True), (-signal.SIGKILL, False)])
def test_killed_process_does_not_make_the_golden_cluster_suspect(
    spec: ClusterSpec, exit_code: int, golden: bool
) -> None:
    supervisor = Supervisor(spec)
    child: Any = SimpleNamespace(name="qemu-node1", process=SimpleNamespace(returncode=exit_code), log="qemu.log")

    async def ends() -> None:
        supervisor._child_ended(child)
        await _fails()

    assert end_of_start(supervisor, ends, golden=True)["golden"] is golden


def test_steps_that_read_the_golden_cluster_are_marked(spec: ClusterSpec) -> None:
    steps = {step.name: step.golden for step in Supervisor(spec).processes.steps()}
    assert [name for name, golden in steps.items() if not golden] == [
        "network of the cluster",
        "registry",
        "device servers",
        "guests",
    ]


@pytest.mark.parametrize(
    ("accelerator", "status", "said"),
    [
        ("kvm", "internal-error", "; KVM cannot run it on this machine: use a profile with accelerator: tcg"),
        ("tcg", "internal-error", ""),
        ("tcg", "io-error", "; it cannot write its disk: the disk is full"),
        ("kvm", "guest-panicked", ""),
    ],
)
def test_guest_that_qemu_stopped_fails_the_cluster(
    spec: ClusterSpec, monkeypatch: pytest.MonkeyPatch, accelerator: str, status: str, said: str
) -> None:
    monkeypatch.setattr("mock_device.lab.base.disk.shortage", lambda _: "the disk is full")
    supervisor = Supervisor(replace(spec, qemu=replace(spec.qemu, accelerator=accelerator)))
    node = supervisor.topology.nodes[0].name

    async def run() -> Mapping[str, Any]:
        children: Any = {f"qemu-{node}": SimpleNamespace(log="/logs/qemu.log")}
        processes: Any = SimpleNamespace(children=children)
        supervisor.processes = processes
        supervisor.state = "running"
        supervisor._guest_stopped(node, status)
        await asyncio.gather(*supervisor._tasks)
        children_of: Any = SimpleNamespace(states=list)
        supervisor.processes = SimpleNamespace(children=children_of, internet=False)  # type: ignore[assignment]
        return supervisor._status()

    found = asyncio.run(run())
    assert found["state"] == "failed"
    assert found["reason"] == f"QEMU stopped guest {node} ({status}), log: /logs/qemu.log{said}"
    assert found["stopped guests"] == {f"qemu-{node}": status}
