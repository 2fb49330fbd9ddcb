"""Running clusters, by fake supervisors, and how they are shown."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_supervisor import MIB, SPEC, STATUS, TIMEOUT, FakeSupervisor

from mock_device.commands import cli, overview, watching
from mock_device.commands.overview import ClusterView, Memory, Overview
from mock_device.lab.base import processes
from mock_device.lab.base.spec import ClusterPaths, control_address


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def supervisor(stack: ExitStack, name: str, **changes: Any) -> FakeSupervisor:
    fake = FakeSupervisor(name, **changes)
    stack.callback(fake.end)
    return fake


def test_no_cluster_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mock-device" / "clusters" / "ended").mkdir(parents=True)
    assert overview.look() == []
    assert cli.main(["clusters"]) == 0
    assert capsys.readouterr().out == "no cluster runs; start one: lab up\n"
    assert cli.main(["clusters", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_clusters_of_this_cache_are_found(stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other:
        other.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
        supervisor(stack, "elsewhere")
    supervisor(stack, "with a space")
    supervisor(stack, "pool/17")
    supervisor(stack, "default")
    client = stack.enter_context(socket.socket(socket.AF_UNIX))
    client.connect(control_address("default"))
    assert overview.running() == ["default", "with a space"]


def test_cluster_is_found_if_the_path_of_the_cache_is_long(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of Unix sockets have at most 108 bytes (unix(7)); the path of a home folder may be longer."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "long" / ("x" * 120)))
    supervisor(stack, "default")
    assert overview.running() == ["default"]


def test_connection_of_a_client_is_no_cluster(tmp_path: Path) -> None:
    address = control_address("gone").replace("\0", "@")
    table = tmp_path / "unix"
    head = "Num       RefCount Protocol Flags    Type St Inode Path\n"
    table.write_text(f"{head}0000000000000000: 00000003 00000000 00000000 0001 03 25543 {address}\n")
    assert overview.running(table) == []
    table.write_text(f"{head}0000000000000000: 00000002 00000000 00010000 0001 01 25543 {address}\n")
    assert overview.running(table) == ["gone"]


def test_view_of_a_supervisors_answer(stack: ExitStack) -> None:
    supervisor(stack, "default")
    supervisor(stack, "run-1", state="starting", step="control plane", holders=["robot"], processes=[])
    supervisor(stack, "run-2", state="failed", reason="etcd ended")
    default, starting, failed = overview.look()
    assert default.topology == "numa-cluster"
    assert default.memory == Memory(guests=1300 * MIB, control_plane=40 * MIB, device_servers=0)
    assert default.died == ["devices-node1 (-9)"]
    assert (starting.state, starting.detail) == ("starting", "control plane")
    assert (failed.state, failed.detail) == ("failed", "etcd ended")


def test_guest_that_qemu_stopped_has_died(stack: ExitStack) -> None:
    supervisor(stack, "default", state="failed", **{"stopped guests": {"qemu-node2": "internal-error"}})
    (found,) = overview.look()
    assert found.died == ["devices-node1 (-9)", "qemu-node2 (internal-error)"]


def test_hanging_supervisor_does_not_stall_the_others(stack: ExitStack) -> None:
    hanging = supervisor(stack, "hangs", hangs=True)
    good = supervisor(stack, "good")
    paths = ClusterPaths.of("hangs")
    paths.root.mkdir(parents=True)
    replace(SPEC, topology="/some/single-node.yaml").save(paths.spec)

    async def look_thrice() -> list[list[ClusterView]]:
        async with Overview() as seen:
            looks = [await seen.look(), await seen.look()]
            hanging.go_on.set()
            return [*looks, await seen.look()]

    begin = time.monotonic()
    first, second, third = asyncio.run(look_thrice())
    assert time.monotonic() - begin < 5
    assert [(view.name, view.state) for view in first] == [("good", "running"), ("hangs", "no answer")]
    assert first[1].topology == "single-node"
    assert "silent for 2 s" in second[1].detail
    assert [(view.name, view.state) for view in third] == [("good", "running"), ("hangs", "running")]
    assert (hanging.connections, hanging.requests) == (1, 1)
    assert (good.connections, good.requests) == (1, 3)


@pytest.mark.parametrize("content", ["", "[]", '{"topology": 7}', b"\xff"])
def test_cluster_with_a_damaged_spec_does_not_hide_the_others(
    stack: ExitStack, content: str | bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor(stack, "bad")
    supervisor(stack, "good")
    paths = ClusterPaths.of("bad")
    paths.root.mkdir(parents=True)
    paths.spec.write_bytes(content.encode() if isinstance(content, str) else content)
    assert cli.main(["clusters"]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["cluster", "bad", "good"]


def test_invalid_answer_does_not_hide_other_clusters(stack: ExitStack) -> None:
    supervisor(stack, "bad", processes=7)
    supervisor(stack, "good")
    bad, good = overview.look()
    assert (bad.state, good.state) == ("no answer", "running")


def test_clusters_come_and_go(stack: ExitStack) -> None:
    async def look_between() -> list[list[str]]:
        async with Overview() as seen:
            found = [[view.state for view in await seen.look()]]
            for _ in range(2):
                fake = FakeSupervisor("short")
                found.append([view.state for view in await seen.look()])
                fake.end()
                found.append([view.state for view in await seen.look()])
            return found

    assert asyncio.run(look_between()) == [[], ["running"], [], ["running"], []]


def test_supervisor_that_closes_its_connection_is_stopping(stack: ExitStack) -> None:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(control_address("ends"))
    listener.listen()

    def accept_and_close() -> None:
        listener.accept()[0].close()

    thread = threading.Thread(target=accept_and_close)
    thread.start()
    assert [view.state for view in overview.look()] == ["stopping"]
    thread.join(TIMEOUT)


def test_text(stack: ExitStack) -> None:
    supervisor(stack, "default", holders=["two\nlines\there", "lab ssh"])
    supervisor(stack, "stays", holders=[], processes=[])
    heading, line, held_by_nobody = watching.table(overview.look()).as_text().splitlines()
    cells = dict(zip(heading.split("\t"), line.split("\t"), strict=True))
    assert cells["held by"] == "two lines here; lab ssh"
    assert (cells["memory"], cells["guests"], cells["control plane"]) == ("1340 MiB", "1300 MiB", "40 MiB")
    assert cells["died"] == "devices-node1 (-9)"
    assert "nobody, stays" in held_by_nobody.split("\t")


def watch_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mock_device.commands.cli", "status", "--watch", *arguments]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch_without_a_terminal_writes_json_lines(stack: ExitStack, number: signal.Signals) -> None:
    supervisor(stack, "default")
    with subprocess.Popen(watch_command("--json", "--interval", "0.5"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        documents = [json.loads(process.stdout.readline()) for _ in range(2)]
        # On a busy machine the first answers may be late.
        while documents[-1]["clusters"][0]["state"] != "running" and len(documents) < TIMEOUT:
            documents.append(json.loads(process.stdout.readline()))
        process.send_signal(number)
        assert process.wait(TIMEOUT) == 0
    assert documents[0]["time"] < documents[1]["time"]
    (cluster,) = documents[-1]["clusters"]
    assert cluster["memory"]["total"] == 1340 * MIB
    assert cluster["holders"] == STATUS["holders"]


def test_watch_ends_when_its_reader_leaves() -> None:
    with subprocess.Popen(
        watch_command("--interval", "0.5"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        assert process.stdout.readline() == b"no cluster runs; start one: lab up\n"
        process.stdout.close()
        assert process.wait(TIMEOUT) == 0
        assert process.stderr.read() == b""


def test_live_table_restores_the_terminal(stack: ExitStack) -> None:
    supervisor(stack, "default")
    master, slave = pty.openpty()
    stack.callback(os.close, master)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 40, 200, 0, 0))
    before = termios.tcgetattr(slave)
    environment = os.environ | {"TERM": "xterm"}
    environment.pop("COLUMNS", None)  # it would win over the terminal's own width
    process = subprocess.Popen(
        watch_command(), stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    stack.callback(process.kill)
    seen = b""
    deadline = time.monotonic() + TIMEOUT
    while seen.count(b"Two Devices Share A NUMA Node") < 2:
        assert time.monotonic() < deadline, seen
        seen += os.read(master, 65536)
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 0
    os.set_blocking(master, False)
    with suppress(BlockingIOError):
        seen += os.read(master, 65536)
    assert b"1340 MiB" in seen
    hide, show = b"\x1b[?25l", b"\x1b[?25h"
    assert seen.count(hide) == seen.count(show) == 1
    assert seen.index(hide) < seen.index(show)
    assert termios.tcgetattr(slave) == before
    os.close(slave)


@pytest.mark.parametrize("text", ["0", "0.4", "-1", "nan", "inf", "soon"])
def test_interval_is_bounded(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--watch", f"--interval={text}"]) == 2
    assert f"expected 0.5 s or more, found '{text}'" in capsys.readouterr().err


def test_memory_counts_anonymous_and_shmem_pages() -> None:
    script = (
        "import mmap, os, sys; fd = os.memfd_create('guest'); os.ftruncate(fd, 64 << 20); m = mmap.mmap(fd, 64 << 20)\n"
        "m.write(b'x' * (32 << 20)); print(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 32 * MIB < processes.own_memory(process.pid) < 60 * MIB
        process.kill()
    assert processes.own_memory(process.pid) == 0
