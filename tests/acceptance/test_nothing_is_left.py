"""Whoever dies in whatever way: nothing of a cluster outlives its holder, and the next start finds no trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.artifacts import PROJECT, StepError, cache_root
from lab.cluster import Cluster
from lab.control import Control, NoClusterError
from traces import Traces

pytestmark = pytest.mark.acceptance

START_SECONDS = 120.0
END_SECONDS = 10.0


class Run:
    """A robot run that has started a cluster of its own."""

    def __init__(self, folder: Path, topology: Path) -> None:
        argv = [sys.executable, "-m", "robot", "--outputdir", str(folder), "--variable", f"TOPOLOGY:{topology}"]
        self.process = subprocess.Popen(
            [*argv, "suites/numa.robot"], cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.begin = time.time()
        self.cluster = f"run-{self.process.pid}"
        self.traces = Traces(self.cluster)

    def wait_guest_runs(self) -> None:
        """Wait until a guest and the control plane run, and learn who the supervisor is."""
        deadline = time.monotonic() + START_SECONDS
        while not {"qemu-miswired-node", "kube-apiserver"} <= self._running():
            assert self.process.poll() is None, "robot ended before its cluster started"
            assert time.monotonic() < deadline, f"no guest after {START_SECONDS:.0f} s"
            time.sleep(0.2)
        self.traces.learn()

    def _running(self) -> set[str]:
        try:
            with Control(self.cluster) as control:
                return {process["name"] for process in control.request("status")["processes"]}
        except StepError:
            return set()


@pytest.fixture
def run(tmp_path: Path, miswired: Path) -> Iterator[Run]:
    run = Run(tmp_path, miswired)
    try:
        run.wait_guest_runs()
        assert run.traces.found(), "the search for traces does not find a cluster that runs"
        yield run
    finally:
        run.process.kill()
        run.process.wait()


@pytest.mark.parametrize("victim", ["robot", "supervisor"])
def test_kill_leaves_nothing(run: Run, victim: str) -> None:
    process = {"robot": run.process.pid, "supervisor": run.traces.supervisor}[victim]
    os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + END_SECONDS
    while (left := run.traces.found()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, "\n".join(left)
    with pytest.raises(NoClusterError):
        Control(run.cluster)
    assert run.process.wait(END_SECONDS) != 0
    set_aside = [path for kind in cache_root().glob("golden-*") for path in kind.glob("*.failed-*")]
    assert not [path for path in set_aside if path.stat().st_ctime > run.begin], "the golden cluster is not to blame"


def test_borrowed_cluster_survives_the_death_of_its_borrower(cluster: Cluster) -> None:
    """A cluster of ``lab up`` belongs to nobody who borrows it."""
    script = "from lab import client; held = client.attach(who='victim'); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"held\n"
        assert "victim" in cluster.supervisor_status()["holders"]
        victim.kill()
    deadline = time.monotonic() + END_SECONDS
    while "victim" in (holders := cluster.supervisor_status()["holders"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "victim" not in holders
    assert cluster.supervisor_status()["state"] == "running"
