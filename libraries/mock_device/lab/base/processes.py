"""Child processes of a cluster's supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mock_device.lab.base.commands import search_path
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout


@dataclass(frozen=True)
class ProcessState:
    """State of a child process, for ``lab status``."""

    name: str
    pid: int
    """In the cluster's PID namespace."""
    exit_code: int | None
    ending: bool
    """Whether the supervisor has asked it to end."""
    memory: int
    """Resident memory of this process alone, in bytes: its anonymous pages, and a guest's memory, which only its QEMU
    maps. Pages of files (programs, libraries, etcd's data) are not counted: processes share them, and the kernel
    drops them when memory is short. A sum over processes counts no page twice."""


def own_memory(pid: int) -> int:
    """Resident anonymous and shared memory of a process, in bytes; 0 if there is no process ``pid``.

    Sum of ``RssAnon`` and ``RssShmem`` (proc_pid_status(5)), which the kernel counts anyway; the proportional set size
    (``smaps_rollup``) would cost 50 ms per guest.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = dict(line.split(":", 1) for line in lines)
    return sum(int(fields[name].split()[0]) << 10 for name in ("RssAnon", "RssShmem") if name in fields)


class Child:
    """One process and its log."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.ending = False

    def state(self) -> ProcessState:
        memory = 0 if self.process.returncode is not None else own_memory(self.process.pid)
        return ProcessState(self.name, self.process.pid, self.process.returncode, self.ending, memory)


class Children:
    """All processes of a cluster; calls ``on_exit`` for each that ends unasked."""

    def __init__(self, logs: Path, on_exit: Callable[[Child], None]) -> None:
        self._logs = logs
        self._on_exit = on_exit
        self._children: dict[str, Child] = {}
        self._watchers: set[asyncio.Task[None]] = set()

    async def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdout: int | None = None,
    ) -> Child:
        """Start a process; its output goes to ``<name>.log``. Raises StepError if it cannot be run."""
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *argv,
                    cwd=cwd,
                    env={**os.environ, "PATH": search_path(), **(env or {})},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output if stdout is None else stdout,
                    stderr=output,
                )
            except OSError as error:
                raise StepError(f"{name}: cannot run {argv[0]}: {error}", log) from error
        child = Child(name, process, log)
        self._children[name] = child
        watcher = asyncio.create_task(self._watch(child))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return child

    async def _watch(self, child: Child) -> None:
        await child.process.wait()
        if not child.ending:
            self._on_exit(child)

    def __getitem__(self, name: str) -> Child:
        return self._children[name]

    def states(self) -> list[ProcessState]:
        return [child.state() for child in self._children.values()]

    async def end(self, name: str, signal_number: int = signal.SIGTERM) -> None:
        """End one process; kill it if that takes longer than Timeout.KILLED."""
        child = self._children[name]
        child.ending = True
        if child.process.returncode is not None:
            return
        child.process.send_signal(signal_number)
        try:
            await asyncio.wait_for(child.process.wait(), Timeout.KILLED.seconds)
        except TimeoutError:
            child.process.kill()
            await child.process.wait()

    async def kill_all(self) -> None:
        """Kill all processes at once: nothing of a cluster that ends needs to be saved."""
        for child in self._children.values():
            child.ending = True
            if child.process.returncode is None:
                child.process.kill()
        await asyncio.gather(*(child.process.wait() for child in self._children.values()))
