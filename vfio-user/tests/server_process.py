"""``python -m mock_accel_server`` as a separate process, for tests that may block it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
TOPOLOGY = PROJECT / "variables/topologies/numa-cluster.yaml"
NODE = "mock-cluster-node1"
_TIMEOUT_SECONDS = 20.0


class ServerProcess:
    """Serves a node of a topology at ``folder/<device>.sock``; its stderr goes to ``log``."""

    def __init__(self, folder: Path, topology: Path = TOPOLOGY, node: str = NODE) -> None:
        argv = [sys.executable, "-m", "mock_accel_server", "--topology", str(topology), "--node", node]
        argv += ["--socket-dir", str(folder)]
        paths = os.pathsep.join([str(PROJECT / "vfio-user"), str(PROJECT / "libraries")])
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            env = os.environ | {"PYTHONPATH": paths}
            self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, env=env)
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline().decode()
        self._starved: dict[str, int] = {}

    def open_fds(self) -> int:
        """Number of open file descriptors of the process."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208 (names are enough, and they come and go)

    def processor_seconds(self) -> float:
        """Processor time that the process has used; independent of other load."""
        return time.clock_gettime(~self.process.pid << 3 | 2)  # clock_getcpuclockid(3) of another process

    def starved_seconds(self) -> float:
        """Time that its threads and those of this process were runnable without a processor; 0 if unknown.

        A thread without a processor may hold Python's global lock, for which the others wait.
        """
        for pid in (self.process.pid, os.getpid()):
            for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 (often, and there may be a hundred)
                path = f"/proc/{pid}/task/{thread}/schedstat"  # exists with CONFIG_SCHED_INFO
                with suppress(FileNotFoundError, ProcessLookupError), Path(path).open("rb", buffering=0) as file:
                    self._starved[path] = int(file.read().split()[1])
        return sum(self._starved.values()) / 1e9  # of threads that have ended, too

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the process, so that messages to it wait in its queues."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop the process with SIGTERM, or kill it if a test has blocked it; fails unless it exits with 0."""
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(_TIMEOUT_SECONDS) == 0, self.log.read_text()
        finally:
            self.process.kill()
            self.process.wait(_TIMEOUT_SECONDS)
