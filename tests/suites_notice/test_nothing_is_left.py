"""Nothing of a cluster outlives its holder, whichever process is killed and however."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.traces import Traces, python_module

from mock_device.acceptance.pool_server import DIED
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT, cache_root
from mock_device.lab.cluster.cluster import Cluster
from mock_device.lab.cluster.control import Control, NoClusterError

pytestmark = pytest.mark.acceptance

START_SECONDS = 120.0
END_SECONDS = 10.0
REPORT_SECONDS = 60.0
POLL_SECONDS = 0.1
SUITE = "suites/numa.robot"


class Run:
    """A run of a suite that starts its own cluster."""

    def __init__(self, cluster: str, *argv: str) -> None:
        """``cluster`` is the cluster's name, in which ``PID`` stands for the process ID."""
        self.begin = time.time()
        self.process = subprocess.Popen(
            [sys.executable, "-m", *argv],
            cwd=PROJECT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.cluster = cluster.replace("PID", str(self.process.pid))

    def wait_for(self, state: str, *processes: str) -> Traces:
        """Wait until the cluster is in ``state`` and has all these ``processes``."""
        self._wait(
            state,
            lambda status: (
                status["state"] == state and {item["name"] for item in status["processes"]}.issuperset(processes)
            ),
        )
        return Traces(self.cluster)

    def wait_for_suite(self) -> Traces:
        """Wait until the suite has its cluster."""
        self._wait("used by a suite", lambda status: any(who.startswith("robot") for who in status["holders"]))
        return Traces(self.cluster)

    def _wait(self, what: str, done: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while (status := self._status()) is None or not done(status):
            assert self.process.poll() is None, "the run ended before its cluster started"
            assert time.monotonic() < deadline, f"not {what} after {START_SECONDS:.0f} s"
            time.sleep(POLL_SECONDS)

    def _status(self) -> dict[str, Any] | None:
        try:
            with Control(self.cluster) as control:
                status: dict[str, Any] = control.request("status")
        except StepError:
            return None
        return status

    def pid_of(self, module: str) -> int:
        """Process ID of the descendant that runs a Python module."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        (pid,) = (child.pid for child in children if python_module(child) == module)
        return pid

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def robot(tmp_path: Path, miswired: Path) -> Iterator[Run]:
    run = Run("run-PID", "robot", "--outputdir", str(tmp_path), "--variable", f"TOPOLOGY:{miswired}", SUITE)
    yield run
    run.end()


@pytest.fixture
def pool(tmp_path: Path, miswired: Path) -> Iterator[Run]:
    options = ["--clusters", "1", "--topology", str(miswired), "--outputdir", str(tmp_path)]
    run = Run("run-pool-PID-1", "mock_device.acceptance.cli", *options, SUITE, "--", "--exitonfailure")
    yield run
    run.end()


def nothing_is_left(run: Run, traces: Traces) -> None:
    left = traces.left_after(END_SECONDS)
    assert not left, "\n".join(left)
    with pytest.raises(NoClusterError):
        Control(run.cluster)
    quarantined = [path for kind in cache_root().glob("golden-*") for path in kind.glob("*.failed-*")]
    assert not [path for path in quarantined if path.stat().st_ctime > run.begin], "no golden cluster is quarantined"


@pytest.mark.parametrize("victim", ["robot", "supervisor"])
def test_nothing_is_left_of_a_killed_robot_or_supervisor(robot: Run, victim: str) -> None:
    traces = robot.wait_for("starting", "qemu-miswired-node", "kube-apiserver")
    os.kill(robot.process.pid if victim == "robot" else traces.supervisor, signal.SIGKILL)
    nothing_is_left(robot, traces)
    assert robot.process.wait(END_SECONDS) != 0


@pytest.mark.parametrize("moment", ["its cluster starts", "its devices are plugged", "a suite runs"])
def test_nothing_is_left_of_an_interrupted_pool(pool: Run, moment: str) -> None:
    """Ctrl-C, which a terminal sends to the whole process group."""
    if moment == "a suite runs":
        traces = pool.wait_for_suite()
    else:
        traces = pool.wait_for("starting" if moment == "its cluster starts" else "running", "qemu-miswired-node")
    begin = time.monotonic()
    os.killpg(pool.process.pid, signal.SIGINT)
    assert pool.process.wait(END_SECONDS) == 130
    nothing_is_left(pool, traces)
    assert time.monotonic() - begin < END_SECONDS


@pytest.mark.parametrize("victim", ["acceptance", "pabot"])
def test_everything_ends_when_the_pools_process_is_killed(pool: Run, victim: str) -> None:
    traces = pool.wait_for("running")
    children = psutil.Process(pool.process.pid).children(recursive=True)
    os.kill(pool.process.pid if victim == "acceptance" else pool.pid_of("pabot.pabot"), signal.SIGKILL)
    nothing_is_left(pool, traces)
    assert pool.process.wait(END_SECONDS) != 0
    assert not psutil.wait_procs(children, timeout=END_SECONDS)[1]


def test_cluster_of_a_killed_suite_is_retired_and_reported(pool: Run, tmp_path: Path) -> None:
    traces = pool.wait_for_suite()
    os.kill(pool.pid_of("robot"), signal.SIGKILL)
    nothing_is_left(pool, traces)
    assert pool.process.wait(REPORT_SECONDS) == 1
    summary = json.loads((tmp_path / "acceptance.json").read_text())
    assert summary["lost"] == ["NUMA"]
    assert [(item["cluster"], item["reason"]) for item in summary["retired"]] == [(pool.cluster, DIED)]


def test_run_fails_and_only_one_cluster_ends_when_its_supervisor_is_killed(pool: Run, tmp_path: Path) -> None:
    traces = pool.wait_for_suite()
    os.kill(traces.supervisor, signal.SIGKILL)
    nothing_is_left(pool, traces)
    assert pool.process.wait(START_SECONDS) == 1
    summary = json.loads((tmp_path / "acceptance.json").read_text())
    assert [item["cluster"] for item in summary["retired"]] == [pool.cluster]
    assert summary["suites"][0]["failed"]


def test_borrowed_cluster_survives_the_death_of_its_borrower(cluster: Cluster) -> None:
    """A cluster of ``lab up`` does not end with a borrower."""
    script = (
        "from mock_device.lab.cluster import client; "
        "held = client.attach(who='victim'); print('held', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"held\n"
        assert "victim" in cluster.guests.status()["holders"]
        victim.kill()
    deadline = time.monotonic() + END_SECONDS
    while "victim" in (holders := cluster.guests.status()["holders"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "victim" not in holders
    assert cluster.guests.status()["state"] == "running"
