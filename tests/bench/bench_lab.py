"""Measures how long clusters take and how much memory and CPU time they use.

Writes ``results/bench-lab.json`` and ``.txt``. Not a test: slowness is not a
failure. Run nothing else on the machine meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import psutil

from mock_device import topology as topologies
from mock_device.acceptance.history import commit
from mock_device.acceptance.report import SUMMARY, read_summary
from mock_device.checks.objects import kube, pods
from mock_device.checks.objects.claims import DeviceRequest, build
from mock_device.commands import options, overview
from mock_device.driver import current
from mock_device.lab.base import command_line, progress, tables
from mock_device.lab.base.defaults import DEFAULT_PROFILE
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.tables import Note, Table
from mock_device.lab.base.variables import topology_path
from mock_device.lab.cluster import client, deploy, golden, profile
from mock_device.lab.cluster.cluster import Cluster
from mock_device.lab.cluster.guest_cluster import start as start_bare
from mock_device.lab.cluster.launcher import RUN_PREFIX
from mock_device.lab.kube import kubeclient

RESULTS = PROJECT / "results"
POD_TIMEOUT = timedelta(seconds=300)
RUN_TIMEOUT_SECONDS = 7200.0
MIB = 1 << 20
IDLE_SECONDS = 30.0


@dataclass
class Start:
    """One start of a cluster, until a fresh pod with a device runs on each of its nodes."""

    topology: str
    how: str
    beside: int
    """Number of other clusters that ran."""
    usable_seconds: float = 0.0
    """Time until all devices were published."""
    pods_seconds: float = 0.0
    """Time until the pods ran."""
    memory_mib: int = 0
    steps: list[tuple[str, float]] = field(default_factory=list)


@dataclass
class Acceptance:
    """One run of suites on a pool."""

    clusters: int
    arguments: list[str]
    """Suites and options; empty for all suites."""
    seconds: float
    passed: int
    failed: int


@dataclass
class Bench:
    """All measurements."""

    machine: dict[str, str]
    starts: list[Start] = field(default_factory=list)
    publish_seconds: dict[str, float] = field(default_factory=dict)
    """Time from plugging the devices until all are in ResourceSlices, by topology."""
    idle_cores: dict[str, float] = field(default_factory=dict)
    """Number of cores that an idle cluster keeps busy, by topology."""
    acceptance: list[Acceptance] = field(default_factory=list)

    def ratio(self) -> float | None:
        """Ratio of restore to cold start of the default topology, each until the pods ran."""
        alone = {start.how: start.pods_seconds for start in self.starts if not start.beside}
        return alone["restored"] / alone["booted"] if {"restored", "booted"} <= alone.keys() else None

    def tables(self) -> list[Table]:
        """The machine, starts, publishing, idle clusters, runs of the suites, steps of each start."""
        starts: list[tuple[str, ...] | Note] = [
            (
                start.how,
                start.topology,
                str(start.beside),
                f"{start.usable_seconds:.1f}",
                f"{start.pods_seconds:.1f}",
                str(start.memory_mib),
            )
            for start in self.starts
        ]
        if ratio := self.ratio():
            starts.append(Note("restored : booted", f"{ratio:.3f}"))
        runs = [
            (str(run.clusters), f"{run.seconds:.0f}", str(run.passed), str(run.failed), " ".join(run.arguments))
            for run in self.acceptance
        ]
        return [
            Table((), [Note(name, value) for name, value in self.machine.items()]),
            Table(("start", "topology", "beside", "devices published s", "pods run s", "memory MiB"), starts),
            _figures(("devices plugged until published, s",), self.publish_seconds.items()),
            _figures(("cores that an idle cluster takes",), self.idle_cores.items()),
            Table(("acceptance run on clusters", "s", "passed", "failed", "arguments"), runs),
            *(
                _figures((f"steps: {start.how} {start.topology} beside {start.beside}", "s"), start.steps)
                for start in self.starts
            ),
        ]


def _figures(headings: tuple[str, ...], figures: Iterable[tuple[str, float]]) -> Table:
    return Table(headings, [(name, f"{figure:.2f}") for name, figure in figures])


def machine() -> dict[str, str]:
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": f"{os.cpu_count()} × {cpu.partition(': ')[2]}",
        "memory": f"{psutil.virtual_memory().total >> 30} GiB",
        "accelerator": profile.load(DEFAULT_PROFILE).accelerator,
        "kernel": platform.release(),
    }


def start(topology: str, name: str, beside: int, *, cold: bool = False) -> tuple[Cluster, Start]:
    """Start a cluster and a pod with a device on each node; return the cluster and the times."""
    measured = Start(topology, "booted" if cold else "restored", beside)
    begin = time.monotonic()
    with progress.recorded() as steps:
        cluster = client.up(topology, f"{RUN_PREFIX}bench-{name}-{os.getpid()}", "bench", cold=cold)
    measured.usable_seconds = time.monotonic() - begin
    try:
        with progress.recorded() as more, progress.step("a pod with a device on each node"):
            run_pods(cluster)
    except BaseException:
        cluster.release()
        raise
    measured.pods_seconds = time.monotonic() - begin
    measured.steps = [*steps, *more]
    measured.memory_mib = overview.view(cluster.guests.status()).memory.total // MIB
    return cluster, measured


def run_pods(cluster: Cluster) -> None:
    """Run a pod with a device on each node. Raises CheckError if one does not run."""
    api = kubeclient.connect(cluster.kubeconfig)
    for node in cluster.topology.nodes:
        kube.create_claim(api, build(node.name, [DeviceRequest("device")], None, kube.LABELS))
        kube.create_pod(api, pods.build(node.name, [node.name], node.name, kube.LABELS))
    for node in cluster.topology.nodes:
        kube.wait_pod(api, node.name, pods.runs, POD_TIMEOUT, "Running")


def publish(topology: str) -> float:
    """Seconds from plugging all devices of a restored cluster until all are published."""
    loaded, embedded = topologies.load(topology_path(topology)), profile.load(DEFAULT_PROFILE)
    folder = golden.with_driver(loaded, embedded)
    cluster = start_bare(f"{RUN_PREFIX}bench-{os.getpid()}", loaded, embedded, "bench", golden=folder)
    try:
        begin = time.monotonic()
        deploy.plug_devices(cluster)
        deploy.wait_published(cluster, current.driver(), 600)
        return time.monotonic() - begin
    finally:
        cluster.release()


def idle(cluster: Cluster, seconds: float) -> float:
    """Number of cores that the processes of an idle cluster keep busy."""
    processes = [psutil.Process(pid) for pid in cluster_pids(cluster)]

    def busy() -> float:
        times = [process.cpu_times() for process in processes]
        return sum(spent.user + spent.system for spent in times)

    begin = busy()
    time.sleep(seconds)
    return (busy() - begin) / seconds


def cluster_pids(cluster: Cluster) -> set[int]:
    """Process IDs of the cluster in this process's PID namespace, without duplicates."""
    directory = str(cluster.log_dir.parent)
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(directory in word for word in process.cmdline()):
                found |= {process.pid, *(child.pid for child in process.children(recursive=True))}
    return found


def measure_starts(bench: Bench) -> None:
    cluster, measured = start("numa-cluster", "cold", 0, cold=True)
    bench.starts.append(measured)
    cluster.release()


def measure_side_by_side(bench: Bench, most: int) -> None:
    clusters: list[Cluster] = []
    try:
        for number in range(most):
            cluster, measured = start("numa-cluster", str(number), number)
            clusters.append(cluster)
            bench.starts.append(measured)
            if number == 0:
                with progress.step("an idle cluster"):
                    bench.idle_cores["numa-cluster"] = idle(cluster, IDLE_SECONDS)
    finally:
        for cluster in clusters:
            cluster.release()


def measure_publishing(bench: Bench) -> None:
    for topology in ("numa-cluster", "dense"):
        bench.publish_seconds[topology] = publish(topology)


def measure_acceptance(bench: Bench, arguments: Sequence[str]) -> None:
    for clusters in (1, 2):
        folder = RESULTS / f"bench-{clusters}"
        shutil.rmtree(folder, ignore_errors=True)
        argv = [
            sys.executable,
            "-m",
            "mock_device.acceptance.cli",
            "--clusters",
            str(clusters),
            "--outputdir",
            str(folder),
        ]
        argv += ["--", *arguments]
        begin = time.monotonic()
        with progress.step(f"acceptance run on {clusters} clusters", speaks=True):
            ended = subprocess.run(argv, cwd=PROJECT, check=False, timeout=RUN_TIMEOUT_SECONDS)
        seconds = time.monotonic() - begin
        summary = read_summary(folder)
        if not summary:
            raise StepError(f"the acceptance run on {clusters} clusters ended with {ended.returncode} and no {SUMMARY}")
        bench.acceptance.append(Acceptance(clusters, list(arguments), seconds, summary.passed, summary.failed))


def _parts(most: int, arguments: Sequence[str]) -> dict[str, Callable[[Bench], None]]:
    """Measurements by the names of ``--only``."""
    return {
        "booted": measure_starts,
        "restored": lambda bench: measure_side_by_side(bench, most),
        "publish": measure_publishing,
        "acceptance": lambda bench: measure_acceptance(bench, arguments),
    }


@click.command("bench-lab", context_settings=command_line.SETTINGS)
@click.option(
    "--only", type=click.Choice(list(_parts(0, ()))), multiple=True, help="Just this part; repeat it for several."
)
@click.option("--most", type=int, default=4, metavar="N", help="Clusters side by side (default: 4).")
@options.suites_and_options
def bench_lab(only: Sequence[str], most: int, arguments: Sequence[str]) -> int:
    """Measure how long clusters take and what they cost; suites and options are for the acceptance runs.

    The figures of each part are kept; the exit code is 1 when a part failed.
    """
    bench = Bench(machine())
    for topology in ("numa-cluster", "dense"):
        golden.with_driver(topologies.load(topology_path(topology)), profile.load(DEFAULT_PROFILE))
    RESULTS.mkdir(exist_ok=True)
    failed = False
    parts = _parts(most, arguments)
    for name in only or parts:
        try:
            parts[name](bench)
        except (StepError, AssertionError, subprocess.TimeoutExpired) as error:
            print(f"bench-lab: {name}: {error}", file=sys.stderr)
            failed = True
        content: dict[str, Any] = {**asdict(bench), "restored_to_booted": bench.ratio()}
        write_file(RESULTS / "bench-lab.json", tables.to_json(content))
        write_file(RESULTS / "bench-lab.txt", tables.text(*bench.tables(), between="\n\n") + "\n")
    tables.print_tables(*bench.tables(), between="\n\n")
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; exit code 1 when a part failed, 2 for bad usage, 130 after Ctrl-C."""
    return command_line.run(bench_lab, argv)


if __name__ == "__main__":
    sys.exit(main())
