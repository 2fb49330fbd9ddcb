"""What is left of a cluster, wherever it may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import psutil
from lab.artifacts import try_lock
from lab.spec import ClusterPaths

_KINDS = ("net", "mnt", "pid", "ipc")


@dataclass
class Traces:
    """A cluster that runs or ran; its supervisor and namespaces are known since ``learn``."""

    cluster: str
    namespaces: dict[str, str] = field(default_factory=dict)
    supervisor: int = 0

    @property
    def paths(self) -> ClusterPaths:
        return ClusterPaths.of(self.cluster)

    def learn(self) -> None:
        """Find the supervisor of the cluster, which runs."""
        module = ["-m", "lab.supervisor", str(self.paths.spec)]
        (self.supervisor,) = (process.pid for process in psutil.process_iter() if _cmdline(process)[1:] == module)
        self.namespaces = {kind: _namespace(self.supervisor, kind) for kind in _KINDS}

    def found(self) -> list[str]:
        """What there is of the cluster outside its folder of logs."""
        found = []
        for pid in psutil.pids():
            try:
                inside = [kind for kind, name in self.namespaces.items() if _namespace(pid, kind) == name]
            except OSError:
                continue
            if inside:
                found.append(f"process {pid} is in its namespaces {inside}")
        directory = str(self.paths.root)
        found += [
            f"process {process.pid}: {line}"
            for process in psutil.process_iter()
            if directory in (line := " ".join(_cmdline(process)))
        ]
        for table in ("/proc/self/mountinfo", "/proc/net/unix"):
            found += [
                f"{table}: {line}"
                for line in Path(table).read_text().splitlines()
                if directory in line or self.cluster in line
            ]
        if self.paths.lock.exists():
            with self.paths.lock.open() as lock:
                if not try_lock(lock):
                    found.append(f"{self.paths.lock} is locked")
        return found


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _namespace(pid: int, kind: str) -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
