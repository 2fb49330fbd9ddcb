"""Robot Framework library: measured durations, their limits, and the file that keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from robot.api import logger
from robot.api.deco import keyword, library
from robot.libraries.BuiltIn import BuiltIn

from mock_device.checks.nodes import session
from mock_device.checks.performance import chart, interrupt_latency, job_figures, measuring, performance
from mock_device.checks.performance.chart import Bar
from mock_device.checks.performance.performance import Figure, Measured
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.base.variables import LIMITS


@dataclass(frozen=True)
class PodFigures:
    """Figures of pods that were started and deleted together."""

    all_run: Figure
    """From the first request until all pods ran."""
    start: Figure
    end: Figure
    each: Figure
    """``all_run``, divided by the number of pods: comparable for different numbers."""


@dataclass(frozen=True)
class JobFigures:
    """Figures of jobs, for each device while all are busy."""

    latency: Figure
    """Of a copy of 4 KiB, alone in the ring: two DMA accesses and an interrupt."""
    rate: Figure
    """Such copies a second."""
    bandwidth: Figure
    """Of copies of 1 MiB."""


@library(scope="GLOBAL", auto_keywords=False)
class PerformanceLibrary:
    """Measures, checks limits, and keeps all figures in ``performance.json`` beside the log.

    ``variables/limits/performance.yaml`` has the limits, and the
    factor by which they are multiplied without hardware virtualisation.
    """

    def __init__(self) -> None:
        self._suite = ""
        self._began = ""
        self._figures: list[Figure] = []

    @keyword(tags=["wait"])
    def measure_agent_starts(self, node: str, times: int = 3) -> Figure:
        """Restart the node agent of ``node`` ``times`` times, and read the duration of each start from its metrics.

        A start lasts from the process's start until its devices are published and the kubelet has registered it.
        """
        current = session.current()
        size = len(current.topology.node(node).pfs)
        values = measuring.agent_starts(current, node, times)
        return self._keep(performance.figure("agent-start", size, values, _limit("agent-start", size)))

    @keyword
    def measure_scans(self, node: str, times: int = 10) -> Figure:
        """Let the node agent of ``node`` scan its devices ``times`` times, and read the durations from its metrics."""
        current = session.current()
        size = len(current.topology.node(node).pfs)
        values = measuring.scans(current, node, times)
        return self._keep(performance.figure("scan", size, values, _limit("scan", size)))

    @keyword
    def measure_sysfs_reads(self, node: str, times: int = 10) -> Figure:
        """Read all attributes of each device of ``node`` ``times`` times. The figure is for one device."""
        values = measuring.sysfs_reads(session.current(), node, times)
        return self._keep(performance.figure("sysfs-read", 1, values, _limit("sysfs-read", 1)))

    @keyword(tags=["wait"])
    def measure_pods_without_claims(self, count: int) -> PodFigures:
        """Start ``count`` pods at once, wait until they run, delete them, wait until they are gone.

        Fails when start or end takes longer than the limit for pods with claims.
        """
        return self._measure_pods(count, with_claims=False)

    @keyword(tags=["wait"])
    def measure_pods_with_a_claim_each(self, count: int) -> PodFigures:
        """Like `Measure Pods Without Claims`, with a claim for one device for each pod.

        Also keeps the node agents' durations of prepare and unprepare.
        """
        return self._measure_pods(count, with_claims=True)

    @keyword(tags=["wait"])
    def measure_jobs(
        self, *pods: str, by_cpu: bool = False, timeout: timedelta = Timeout.MEASURED_JOBS.nominal
    ) -> JobFigures:
        """Let the devices of all ``pods``, one each, copy memory at once; ``by_cpu`` lets their CPUs do the same.

        The pods are of `Create Job Pod`.
        """
        api, suffix = session.current().api, "-by-cpu" if by_cpu else ""
        small = job_figures.measure(api, pods, job_figures.SMALL, timeout, by_cpu=by_cpu)
        large = job_figures.measure(api, pods, job_figures.LARGE, timeout, by_cpu=by_cpu)

        def keep(name: str, values: Sequence[float], unit: str) -> Figure:
            return self._keep(performance.figure(f"{name}{suffix}", len(pods), values, unit=unit))

        return JobFigures(
            keep("job-latency", [one.median for one in small], performance.SECONDS),
            keep("job-rate", [one.jobs_per_second for one in small], performance.JOBS_PER_SECOND),
            keep("copy-bandwidth", [one.bytes_per_second for one in large], performance.BYTES_PER_SECOND),
        )

    @keyword(tags=["wait"])
    def measure_interrupts(self, pod: str, timeout: timedelta = Timeout.MEASURED_JOBS.nominal) -> Figure:
        """Let the device of ``pod`` run small jobs one by one, and measure each interrupt on the pod's node.

        From the doorbell of a job to the module's interrupt handler, by events of the node's kernel. The pod is of
        `Create Job Pod`; no other device of its node may work meanwhile.
        """
        values = interrupt_latency.measure(session.current(), pod, timeout)
        return self._keep(performance.figure("interrupt-latency", 1, values))

    @keyword
    def figure_should_be_within_limit(self, figure: Figure) -> None:
        """Check that the figure's median is within its limit."""
        performance.check(figure)

    @keyword
    def show_chart(self, title: str, *figures: Figure) -> None:
        """Draw figures of the same unit as bars into the log, with a line at the limit of each."""
        bars = [Bar(str(figure), figure.value, figure.limit) for figure in figures]
        logger.info(chart.svg(title, bars, figures[0].unit), html=True)

    def _measure_pods(self, count: int, *, with_claims: bool) -> PodFigures:
        limit = _limit("allocation", count)
        times = measuring.run_pods(session.current(), count, with_claims, timedelta(seconds=limit))
        suffix = "" if with_claims else "-without-claims"
        if with_claims:
            self._keep(performance.of_histogram("prepare", count, times.prepared))
            self._keep(performance.of_histogram("unprepare", count, times.unprepared))
        name = "allocation" if with_claims else "pods-without-claims"
        all_run = performance.figure(name, count, [times.all_run], limit if with_claims else None)
        return PodFigures(
            self._keep(all_run),
            self._keep(performance.figure(f"pod-start{suffix}", count, times.starts)),
            self._keep(performance.figure(f"pod-end{suffix}", count, times.ends)),
            self._keep(performance.figure(f"pod-time{suffix}", count, [times.all_run / count])),
        )

    def _keep(self, figure: Figure) -> Figure:
        """Write the figure to log and file."""
        builtin = BuiltIn()
        # Without the names of parent suites: they differ between `robot` and `make acceptance`.
        suite = str(builtin.get_variable_value("${SUITE_NAME}")).rpartition(".")[2]
        if suite != self._suite:
            self._suite, self._began, self._figures = suite, datetime.now(UTC).isoformat(timespec="seconds"), []
            builtin.set_suite_metadata("Figures", f"[{performance.FILE}|{performance.FILE}]", top=False)
        self._figures.append(figure)
        cluster = session.current().cluster
        measured = Measured(
            suite, self._began, cluster.name, cluster.topology.name, cluster.guests.accelerator, tuple(self._figures)
        )
        performance.write(Path(str(builtin.get_variable_value("${OUTPUT_DIR}"))) / performance.FILE, measured)
        logger.info(performance.table([figure]).as_text())
        return figure


def _limit(name: str, size: int) -> float:
    return performance.load_limits(LIMITS).of(name, size, session.current().cluster.guests.accelerator)
