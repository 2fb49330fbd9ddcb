"""Finds traces of a cluster outside its log folder: processes, namespaces, mounts, sockets, locks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from mock_device.lab.base.locks import try_lock
from mock_device.lab.base.spec import ClusterPaths

_POLL_SECONDS = 0.2
_KINDS = ("net", "mnt", "pid", "ipc")


class Traces:
    """Traces of one running cluster."""

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster
        self.paths = ClusterPaths.of(cluster)
        module = ["-m", "mock_device.lab.supervisor.supervisor", str(self.paths.spec)]
        (self.supervisor,) = (process.pid for process in psutil.process_iter() if cmdline(process)[1:] == module)
        self._namespaces = {kind: namespace(self.supervisor, kind) for kind in _KINDS}
        assert list(self.find()), "the search for traces does not find a running cluster"

    def left_after(self, seconds: float) -> list[str]:
        """Wait until no trace is left; returns what is left after ``seconds``."""
        deadline = time.monotonic() + seconds
        while (left := list(self.find())) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return left

    def find(self) -> Iterator[str]:
        for pid in psutil.pids():
            try:
                inside = [kind for kind, name in self._namespaces.items() if namespace(pid, kind) == name]
            except OSError:
                continue
            if inside:
                yield f"process {pid} is in its namespaces {inside}"
        directory = str(self.paths.root)
        for process in psutil.process_iter():
            if directory in (line := " ".join(cmdline(process))):
                yield f"process {process.pid}: {line}"
        for table in ("/proc/self/mountinfo", "/proc/net/unix"):
            for line in Path(table).read_text().splitlines():
                if directory in line or self.cluster in line:
                    yield f"{table}: {line}"
        if self.paths.lock.exists():
            with self.paths.lock.open() as lock:
                if not try_lock(lock):
                    yield f"{self.paths.lock} is locked"


def cmdline(process: psutil.Process) -> list[str]:
    """Command line of a process; empty if it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def namespace(pid: int, kind: str) -> str:
    """Name of a process's namespace. Raises OSError if the process has ended."""
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def python_module(process: psutil.Process) -> str:
    """Module that a process runs by ``python -m`` or by the module's command; empty for other processes."""
    match cmdline(process):
        case [_, "-m", module, *_]:
            return module
        case [interpreter, script, *_] if Path(interpreter).parent == Path(sys.executable).parent:
            return Path(script).name
    return ""
