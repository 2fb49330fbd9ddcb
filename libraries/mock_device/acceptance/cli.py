"""The ``acceptance`` command: all suites, side by side on a pool of clusters, and one report."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click
from robot.errors import DataError

from mock_device import topology as topologies
from mock_device.acceptance import pabot_run, report
from mock_device.acceptance.arguments import suites_and_options
from mock_device.acceptance.memory import check_memory
from mock_device.acceptance.pool import Pool, Retired, ValueSet, resource_file, value_sets
from mock_device.acceptance.pool_server import PoolServer, address
from mock_device.acceptance.report import OUTPUT, SUMMARY, Summary
from mock_device.acceptance.slowest import Slowest
from mock_device.commands import options
from mock_device.lab.base import command_line, progress, timeouts
from mock_device.lab.base.defaults import DEFAULT_PROFILE, DEFAULT_TOPOLOGY
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.tables import Note, Table, print_tables, to_json
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.base.variables import topology_path
from mock_device.lab.build import prerequisites
from mock_device.lab.cluster import client, deploy, drivers, golden, kvm, launcher
from mock_device.lab.cluster import profile as profiles
from mock_device.lab.cluster.guest_cluster import GuestCluster
from mock_device.lab.cluster.launcher import RUN_PREFIX
from mock_device.topology import Topology

_MAX_CLUSTERS = 8
_TOPOLOGIES = (DEFAULT_TOPOLOGY, "dense")
_AGAIN = "rerun"
"""Folder of the second run, beside the results of the first."""


def _start(profile: str, cold: bool, name: str, topology: Topology) -> GuestCluster:
    """Start a cluster for the pool, with one line of progress because several may start at once."""
    with progress.one_line(f"cluster {name} ({topology.name})"):
        return client.up(str(topology.path), name, "pool", profile, cold=cold)


def _prepare(found: Sequence[Topology], profile: str, cold: bool) -> None:
    """Build what clusters of these topologies start from, before the suites start."""
    loaded = profiles.load(profile)
    timeouts.use_profile(loaded.timeout_factor)
    loaded = kvm.with_working_accelerator(loaded)
    deploy.build_images()
    if not cold:
        for topology in found:
            golden.with_driver(topology, loaded)


class Run:
    """One run of suites over a pool."""

    def __init__(
        self, sets: Sequence[ValueSet], clusters: int, profile: str, cold: bool, seed: int | None, folder: Path
    ) -> None:
        self._clusters = clusters
        self._seed = seed
        self._folder = folder
        self.pool = Pool(
            sets, clusters, f"{RUN_PREFIX}pool-{os.getpid()}-", partial(_start, profile, cold), launcher.stop
        )

    async def run(
        self, paths: Sequence[Path], options: Sequence[str], variables: Mapping[str, str]
    ) -> tuple[int, bool]:
        """Run pabot on ``paths`` with ``options``, and ``variables`` for the suites.

        Returns its exit code, and whether it was interrupted. All clusters have ended then, or a line says why not.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)
        server = PoolServer(self.pool, pabot_run.release_value_set, lambda: report.number_of_suites(self._folder))
        await server.start()
        resources = self._folder / "value-sets.ini"
        write_file(resources, resource_file([*self.pool.sets.values()]))
        order = self._folder / "order.txt"
        write_file(order, pabot_run.order(paths, self._seed))
        argv = [*options, *map(str, paths)]
        of_pool = {"POOL": address(), "POOL_TIMEOUT": f"{Timeout.VALUE_SET.seconds:.0f}s"}
        command = pabot_run.argv(self._clusters, resources, order, {**of_pool, **variables}, argv)
        try:
            return await pabot_run.run(command, self._folder, stop), stop.is_set()
        finally:
            server.close()
            for reason in await self.pool.close():
                progress.say(reason)


@click.command(context_settings=command_line.SETTINGS)
@options.clusters(_MAX_CLUSTERS)
@options.topologies(many=True, default=", ".join(_TOPOLOGIES))
@options.profile
@options.driver
@click.option("--cold", is_flag=True, help="Boot clusters instead of restoring saved ones.")
@click.option("--rerun", is_flag=True, help="Run what failed last time, and merge the results.")
@click.option(
    "--seed", type=options.number(0), default=None, metavar="N", help="Random order of suites and of their tests."
)
@options.outputdir(PROJECT / "results")
@options.suites_and_options
def acceptance(
    clusters: int,
    topology: Sequence[str],
    profile: str,
    driver: str | None,
    cold: bool,
    rerun: bool,
    seed: int | None,
    outputdir: Path,
    arguments: Sequence[str],
) -> int:
    """Run the suites (default: all) side by side on a pool of clusters, and write one report.

    Options for robot stand after --.
    """
    paths, robot_options = suites_and_options(arguments)
    prerequisites.check()
    outputdir = outputdir.absolute()
    first = outputdir / OUTPUT
    if rerun and not _anything_to_run_again(first):
        return 0
    found = [topologies.load(topology_path(name)) for name in topology or _TOPOLOGIES]
    chosen = drivers.choose(driver)
    check_memory(found, clusters)
    _prepare(found, profile, cold)
    folder = outputdir / _AGAIN if rerun else outputdir
    if rerun:
        shutil.rmtree(folder, ignore_errors=True)
        robot_options += ["--rerunfailed", str(first)]
    variables = report.prepare(folder, outputdir)
    output = folder / OUTPUT
    run = Run(value_sets(found, clusters), clusters, profile, cold, seed, folder)
    robot_options += ["--outputdir", str(folder), *report.OPTIONS]
    if seed is not None:
        robot_options += ["--randomize", f"tests:{seed}", "--metadata", f"Seed:{seed}"]
    if profile != DEFAULT_PROFILE:
        robot_options += ["--metadata", f"Profile:{profile}"]
    if chosen:
        robot_options += ["--metadata", f"Driver:{chosen.name}"]
    code, interrupted = asyncio.run(run.run(paths, robot_options, variables))
    if interrupted and not output.is_file():
        raise KeyboardInterrupt
    if not output.is_file():
        raise StepError(f"pabot ended with {code} and left no {output}", folder / "pabot_manager.log")
    if rerun:
        report.merge(first, output)
    expected = report.names_of_suites(folder)
    summary = report.summarise(first, expected)
    _tell(summary, run.pool.retired, report.write_extras(folder, outputdir), outputdir)
    if interrupted:
        raise KeyboardInterrupt
    if code and not summary.failed and not rerun:
        raise StepError(f"no test failed, but pabot ended with {code}", folder / "pabot_manager.log")
    return 1 if summary.failed else 0


def _anything_to_run_again(output: Path) -> bool:
    if not output.is_file():
        raise StepError(f"nothing to run again: there is no {output}; run: make acceptance")
    if report.failed_tests(output):
        return True
    print(f"nothing to run again: no test failed in {output}")
    return False


def _tell(summary: Summary, retired: Sequence[Retired], slowest: Slowest, outputdir: Path) -> None:
    """Print the results, and write them for scripts."""
    places = [Note("retired", f"{item}; logs: {item.logs}") for item in retired]
    places.append(Note("report", str(outputdir / "report.html")))
    print_tables(summary.table(), Table((), places))
    content = {
        **asdict(summary),
        "ratio": summary.ratio,
        "retired": [asdict(item) for item in retired],
        "slowest": slowest,
    }
    write_file(outputdir / SUMMARY, to_json(content))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suites; exit code 1 for failed tests or a step that failed, 2 for bad usage, 130 after Ctrl-C."""
    return command_line.run(acceptance, argv, failures=(DataError,), interrupted="interrupted")


if __name__ == "__main__":
    sys.exit(main())
