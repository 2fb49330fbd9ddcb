"""All suites over all topologies, several times, and a table of the tests that pass one time and fail another.

Each round is a run of ``acceptance`` in a process of its own, with results in ``OUTPUTDIR/TOPOLOGY-ROUND``. A round
that crashes is a row of the table, and the next one runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mock_device.acceptance import history, rounds
from mock_device.acceptance.report import read_summary
from mock_device.acceptance.rounds import Verdict
from mock_device.lab.base import progress
from mock_device.lab.base.output import while_it_is_read
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.variables import topology_names

_MINUTES = 180.0
_END_SECONDS = 60.0
"""What ``acceptance`` may take to end its clusters and write a report after SIGINT."""
_INTERRUPTED = 130
_FAILED = 1
_LOG = "acceptance.log"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nightly", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=3, help="how often (default: 3)")
    parser.add_argument(
        "--topology", type=_topology, action="append", metavar="NAME", help="of variables/topologies; default: all"
    )
    parser.add_argument("--clusters", type=_positive, default=2, help="how many may run at once (default: 2)")
    parser.add_argument(
        "--minutes", type=_minutes, default=_MINUTES, help="after which a round is ended (default: %(default)s)"
    )
    parser.add_argument("--outputdir", type=Path, default=PROJECT / "results" / "nightly", help="results/nightly")
    parser.add_argument("--history", type=Path, metavar="FILE", help="default: history.jsonl in OUTPUTDIR")
    parser.add_argument(
        "--table", action="store_true", help="run nothing: make the table of the rounds that are in OUTPUTDIR"
    )
    parser.add_argument("--json", action="store_true", help="print table and counts machine-readable")
    parser.add_argument(
        "arguments", nargs="*", metavar="SUITE|OPTION", help="suites (default: all), and options for robot after --"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, found {text!r}")
    return int(text)


def _topology(text: str) -> str:
    if text not in topology_names():
        raise argparse.ArgumentTypeError(f"expected {', '.join(topology_names())}, found {text!r}")
    return text


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes <= 24 * 60:
        raise argparse.ArgumentTypeError(f"expected minutes, up to a day, found {text!r}")
    return minutes


@dataclass(frozen=True)
class Plan:
    """Which rounds there are to be."""

    topologies: Sequence[str]
    rounds: int
    outputdir: Path

    def each(self) -> list[tuple[str, int]]:
        """Topology and number of every round; each topology once before any runs again: flakiness shows over time."""
        return [(topology, number) for number in range(1, self.rounds + 1) for topology in self.topologies]


def command(topology: str, clusters: int, folder: Path, arguments: Sequence[str]) -> list[str]:
    """Command line of one round; the kernel ends it, as Ctrl-C would not, when this process is killed."""
    acceptance = [
        sys.executable,
        "-m",
        "mock_device.acceptance.cli",
        "--topology",
        topology,
        "--clusters",
        str(clusters),
    ]
    return ["setpriv", "--pdeathsig", "TERM", *acceptance, "--outputdir", str(folder), "--", *arguments]


def run_round(argv: Sequence[str], folder: Path, seconds: float) -> str:
    """Run one round, with what it says in ``folder``, for at most ``seconds``; why it crashed, empty when it did not.

    Raises KeyboardInterrupt after Ctrl-C, when the round has ended, too.
    """
    log = folder / _LOG
    with log.open("wb") as output:
        # Unbuffered, so that what it says is in the log in the order in which it says it.
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
            _end(child)
    return late or crash_of(child.returncode, folder)


def crash_of(code: int, folder: Path) -> str:
    """Why a run of ``acceptance`` that ended with ``code`` is not a whole one; empty when it is.

    Exit code 1 with failed tests in its summary is a whole run; otherwise a step failed.
    """
    try:
        summary = read_summary(folder)
    except (OSError, ValueError):
        summary = None
    if summary and (code == 0 or (code == _FAILED and summary.failed)):
        return ""
    lines = (folder / _LOG).read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    # Its own last words, which may be several lines; else, of a traceback, the error.
    start = max((number for number, line in enumerate(lines) if line.startswith("acceptance: ")), default=-1)
    return f"acceptance ended with {code}: {' '.join(' '.join(lines[start:]).split())}"


def _end(child: subprocess.Popen[bytes]) -> None:
    """Tell a process to end if it runs, and kill it when it does not."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
    try:
        child.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def run(plan: Plan, clusters: int, seconds: float, arguments: Sequence[str]) -> None:
    """Run all rounds, one after the other. A round that crashes is written down like one that did not."""
    for topology, number in plan.each():
        # All of them first: a round that is not run must not show yesterday's results.
        shutil.rmtree(rounds.folder_of(plan.outputdir, topology, number), ignore_errors=True)
    for topology, number in plan.each():
        folder = rounds.folder_of(plan.outputdir, topology, number)
        folder.mkdir(parents=True)
        start = time.monotonic()
        with progress.step(f"{topology}, round {number} of {plan.rounds}", folder / _LOG):
            crash = run_round(command(topology, clusters, folder, arguments), folder, seconds)
        rounds.record(folder, time.monotonic() - start, crash)
        progress.say(f"  {crash or _said(rounds.read(plan.outputdir, topology, number))}")


def _said(item: rounds.Round) -> str:
    return f"{item.count('PASS')} passed, {item.count('FAIL')} failed, {item.count('SKIP')} skipped"


def tell(plan: Plan, history_file: Path, *, as_json: bool) -> int:
    """Make table and history of the planned rounds, and print what is not well; exit code 1 when anything is not."""
    found = [rounds.read(plan.outputdir, topology, number) for topology, number in plan.each()]
    rows = rounds.table(found)
    rounds.write_table(plan.outputdir, rows)
    line = history.entry(found, rows)
    history.append(history_file, line)
    bad = [row for row in rows if row.verdict in (Verdict.CRASHED, Verdict.FAILING, Verdict.FLAKY)]
    if as_json:
        print(json.dumps({**line, "table": [row.as_dict() for row in rows]}, indent=1))
    else:
        counts = [f"{name}\t{line[name]}" for name in ("rounds", "crashed", "passed", "failed", "skipped", "seconds")]
        places = [f"table\t{plan.outputdir / rounds.TABLE}", f"history\t{history_file}"]
        print("\n".join([rounds.as_text(bad), *counts, *places]))
    return _FAILED if bad else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds; exit code 1 when a test failed or a round crashed, 2 for bad usage, 130 after Ctrl-C."""
    return while_it_is_read(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    outputdir: Path = arguments.outputdir.absolute()
    outputdir.mkdir(parents=True, exist_ok=True)
    plan = Plan(arguments.topology or topology_names(), arguments.rounds, outputdir)
    try:
        if not arguments.table:
            run(plan, arguments.clusters, arguments.minutes * 60, arguments.arguments)
        return tell(plan, arguments.history or outputdir / "history.jsonl", as_json=arguments.json)
    except KeyboardInterrupt:
        print(f"nightly: interrupted; what had ended is in {outputdir}: make nightly-table", file=sys.stderr)
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
