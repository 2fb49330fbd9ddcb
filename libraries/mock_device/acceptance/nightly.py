"""Runs all suites on all topologies several times, and makes a table of flaky tests.

Each round is a run of ``acceptance`` in a separate process, with results in ``OUTPUTDIR/TOPOLOGY-ROUND``. A round
that crashes is a row of the table; the next round runs nevertheless.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import click

from mock_device.acceptance import history, rounds
from mock_device.acceptance.report import read_summary
from mock_device.acceptance.rounds import Verdict
from mock_device.commands import options
from mock_device.lab.base import command_line, progress
from mock_device.lab.base.commands import interrupt
from mock_device.lab.base.defaults import DEFAULT_PROFILE, DEFAULT_TOPOLOGY
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.tables import Note, Table, print_tables, to_json
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.base.variables import topology_names

_SHORT = ("environment", "numa", "allocation")
_RUNTIME = ("environment", "security", "sriov", "pcie", "allocation", "guide")
_ANY_DRIVER = ("conformance", "environment", "numa", "pcie", "allocation")
_NO_HOTPLUG = (*_SHORT, "security", "discovery", "sriov", "pcie", "operation", "guide")


@dataclass(frozen=True)
class OtherCluster:
    """A cluster of another make, of the default topology."""

    profile: str
    suites: Sequence[str]
    """Suites that run on it, unless others are named."""
    attached: bool = False
    """Whether it is attached as if somebody else had made it."""
    driver: str = ""
    """Name of its DRA driver in ``variables/drivers``; empty for this project's."""


OTHER_CLUSTERS = {
    "control-plane-on-node": OtherCluster("control-plane-on-node", _SHORT),
    "runc": OtherCluster("runc", _RUNTIME),
    "existing": OtherCluster(DEFAULT_PROFILE, _NO_HOTPLUG, attached=True),
    "existing-runc": OtherCluster("runc", _RUNTIME, attached=True),
    "other-driver": OtherCluster(DEFAULT_PROFILE, _ANY_DRIVER, driver="go-driver"),
}
"""Clusters of other makes on which suites run as well, by the names of their rounds."""
_FAILED = 1
_LOG = "acceptance.log"


@dataclass(frozen=True)
class Plan:
    """The rounds to run."""

    topologies: Sequence[str]
    """Names of topologies, and of clusters in OTHER_CLUSTERS."""
    rounds: int
    outputdir: Path

    def each(self) -> list[tuple[str, int]]:
        """Topology and number of every round. All topologies run once before any repeats: flakiness shows over time."""
        return [(topology, number) for number in range(1, self.rounds + 1) for topology in self.topologies]


def command(topology: str, clusters: int, folder: Path, arguments: Sequence[str]) -> list[str]:
    """Command line of one round; the kernel ends it when this process is killed."""
    other = OTHER_CLUSTERS.get(topology)
    module = "existing" if other and other.attached else "cli"
    argv = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", f"mock_device.acceptance.{module}"]
    if module == "cli":
        argv += ["--clusters", str(clusters), "--topology", DEFAULT_TOPOLOGY if other else topology]
    if other:
        argv += ["--profile", other.profile]
        if other.driver:
            argv += ["--driver", other.driver]
        if not any(Path(argument).exists() for argument in arguments):
            arguments = [*(str(PROJECT / "suites" / f"{suite}.robot") for suite in other.suites), *arguments]
    return [*argv, "--outputdir", str(folder), "--", *arguments]


def run_round(argv: Sequence[str], folder: Path, seconds: float) -> str:
    """Run one round for at most ``seconds``, with its output in ``folder``; the reason of a crash, else empty.

    Raises KeyboardInterrupt after Ctrl-C, when the round has ended, too.
    """
    log = folder / _LOG
    with log.open("wb") as output:
        # Unbuffered, so that standard output and error are in order in the log.
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        late = ""
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            late = f"did not end within {seconds / 60:.0f} min"
        finally:
            interrupt(child, Timeout.INTERRUPTED_RUN.seconds)
    return late or crash_of(child.returncode, folder)


def crash_of(code: int, folder: Path) -> str:
    """Why a run of ``acceptance`` that ended with ``code`` is incomplete; empty if it is complete.

    Exit code 1 with failed tests in its summary is a complete run; otherwise a step failed.
    """
    try:
        summary = read_summary(folder)
    except (OSError, ValueError):
        summary = None
    if summary and (code == 0 or (code == _FAILED and summary.failed)):
        return ""
    lines = (folder / _LOG).read_text(errors="replace").strip().splitlines() or ["no output"]
    # Its last message, which may be several lines; of a traceback, the error.
    start = max((number for number, line in enumerate(lines) if line.startswith("acceptance: ")), default=-1)
    return f"acceptance ended with {code}: {' '.join(' '.join(lines[start:]).split())}"


def run(
    plan: Plan,
    seconds: float,
    command_of: Callable[[str, int, Path], Sequence[str]],
    beside: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> None:
    """Run all rounds one after the other, and record each, crashed or not.

    ``command_of`` is called with topology, number and folder of a round; the round runs within ``beside`` its number.
    """
    for topology, number in plan.each():
        # Remove all of them first: a round that does not run must not show old results.
        shutil.rmtree(rounds.folder_of(plan.outputdir, topology, number), ignore_errors=True)
    for topology, number in plan.each():
        folder = rounds.folder_of(plan.outputdir, topology, number)
        folder.mkdir(parents=True)
        start = time.monotonic()
        with progress.step(f"{topology}, round {number} of {plan.rounds}", folder / _LOG), beside(number):
            crash = run_round(command_of(topology, number, folder), folder, seconds)
        rounds.record(folder, time.monotonic() - start, crash)
        progress.say(f"  {crash or _counts(rounds.read(plan.outputdir, topology, number))}")


def _counts(item: rounds.Round) -> str:
    return f"{item.count('PASS')} passed, {item.count('FAIL')} failed, {item.count('SKIP')} skipped"


def tell(plan: Plan, history_file: Path, *, as_json: bool) -> int:
    """Write table and history of the planned rounds; print crashes, failures and flaky tests. Exit code 1 if any."""
    found = [rounds.read(plan.outputdir, topology, number) for topology, number in plan.each()]
    rows = rounds.table(found)
    rounds.write_table(plan.outputdir, rows)
    line = history.entry(found, rows)
    history.append(history_file, line)
    bad = [row for row in rows if row.verdict in (Verdict.CRASHED, Verdict.FAILING, Verdict.FLAKY)]
    if as_json:
        print(to_json({**line, "table": rows}))
    else:
        counts = ("rounds", "crashed", "passed", "failed", "skipped", "seconds")
        notes = [Note(name, str(line[name])) for name in counts]
        notes += [Note("table", str(plan.outputdir / rounds.TABLE)), Note("history", str(history_file))]
        print_tables(rounds.as_table(bad), Table((), notes))
    return _FAILED if bad else 0


@click.command(context_settings=command_line.SETTINGS)
@click.option("--rounds", "count", type=options.number(1), default=3, metavar="N", help="How often (default: 3).")
@click.option(
    "--topology",
    type=click.Choice([*topology_names(), *OTHER_CLUSTERS]),
    multiple=True,
    metavar="NAME",
    help=f"Name in variables/topologies, or {', '.join(OTHER_CLUSTERS)}; repeat it for several (default: all).",
)
@options.clusters()
@options.minutes_of_a_round
@options.outputdir(PROJECT / "results" / "nightly")
@click.option(
    "--history",
    "history_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File to which a line is added (default: history.jsonl in the folder of the results).",
)
@click.option("--table", is_flag=True, help="Run nothing: make the table of the rounds in the folder of the results.")
@options.as_json("Print table and counts as JSON.")
@options.suites_and_options
def nightly(
    count: int,
    topology: Sequence[str],
    clusters: int,
    minutes: float,
    outputdir: Path,
    history_file: Path | None,
    table: bool,
    as_json: bool,
    arguments: Sequence[str],
) -> int:
    """Run the suites (default: all) on each topology several times, and list the flaky tests.

    Options for robot stand after --.
    """
    outputdir = outputdir.absolute()
    outputdir.mkdir(parents=True, exist_ok=True)
    plan = Plan(topology or [*topology_names(), *OTHER_CLUSTERS], count, outputdir)
    try:
        if not table:
            run(plan, minutes * 60, lambda name, _, folder: command(name, clusters, folder, arguments))
        return tell(plan, history_file or outputdir / "history.jsonl", as_json=as_json)
    except KeyboardInterrupt:
        print(f"nightly: interrupted; completed rounds are in {outputdir}; see: make nightly-table", file=sys.stderr)
        return command_line.INTERRUPTED


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds; exit code 1 when a test failed or a round crashed, 2 for bad usage, 130 after Ctrl-C."""
    return command_line.run(nightly, argv)


if __name__ == "__main__":
    sys.exit(main())
