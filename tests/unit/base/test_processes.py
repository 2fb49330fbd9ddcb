"""Child processes of a supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.processes import Children, own_memory
from mock_device.lab.base.timeouts import Timeout

SLEEP = [sys.executable, "-c", "print('ready', flush=True); import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)",
]


def with_children(tmp_path: Path, work: Callable[[Children], Awaitable[None]]) -> list[str]:
    """Run ``work``; returns the names of the children that ended unexpectedly."""
    ended: list[str] = []

    async def run() -> None:
        children = Children(tmp_path, lambda child: ended.append(child.name))
        try:
            await work(children)
        finally:
            await children.kill_all()
            await asyncio.sleep(0)

    asyncio.run(run())
    return ended


async def ready(log: Path) -> None:
    async with asyncio.timeout(30):
        while "ready" not in log.read_text():
            await asyncio.sleep(0.01)


def test_unexpected_end_is_reported_and_shown_in_the_state(tmp_path: Path) -> None:
    async def work(children: Children) -> None:
        child = await children.start("short", [sys.executable, "-c", "print('said'); exit(7)"], cwd=tmp_path)
        await child.process.wait()
        await asyncio.sleep(0)
        (state,) = children.states()
        assert (state.name, state.exit_code, state.ending, state.memory) == ("short", 7, False, 0)

    assert with_children(tmp_path, work) == ["short"]
    assert (tmp_path / "short.log").read_text() == "said\n"


def test_requested_end_is_not_reported(tmp_path: Path) -> None:
    async def work(children: Children) -> None:
        await children.start("asked", SLEEP, cwd=tmp_path)
        assert children.states()[0].memory > 0
        await children.end("asked")
        (state,) = children.states()
        assert (state.exit_code, state.ending) == (-signal.SIGTERM, True)
        await children.end("asked")
        await children.start("all", SLEEP, cwd=tmp_path)
        await children.kill_all()
        assert children["all"].process.returncode == -signal.SIGKILL

    assert with_children(tmp_path, work) == []


def test_child_that_ignores_the_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timeout.KILLED, "nominal", timedelta(seconds=0.2))

    async def work(children: Children) -> None:
        child = await children.start("stubborn", STUBBORN, cwd=tmp_path)
        await ready(child.log)
        await children.end("stubborn")
        assert child.process.returncode == -signal.SIGKILL

    assert with_children(tmp_path, work) == []


def test_command_that_cannot_run_is_named_with_its_log(tmp_path: Path) -> None:
    async def work(children: Children) -> None:
        await children.start("absent", ["/no/such/command"], cwd=tmp_path)

    with pytest.raises(StepError, match=r"absent: cannot run /no/such/command: .*\n  log: .*absent\.log"):
        with_children(tmp_path, work)


def test_memory_of_a_process_is_measured() -> None:
    before = own_memory(os.getpid())
    block = bytearray(os.urandom(1 << 20) * 32)
    assert own_memory(os.getpid()) >= before + len(block) // 2
    assert own_memory(2**22 + 1) == 0
