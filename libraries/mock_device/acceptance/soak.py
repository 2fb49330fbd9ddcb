"""Runs suites again and again in random order, every second round beside a neighbour that takes CPU time.

A test that is not red in every round is flaky: a defect of the product or of the test.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from mock_device.acceptance import nightly, rounds
from mock_device.acceptance.nightly import Plan
from mock_device.acceptance.rounds import Verdict
from mock_device.commands import options
from mock_device.lab.base import command_line, progress
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.tables import Table, print_tables

NAME = "soak"
"""Name of the rounds, in the place of a topology."""
_LARGEST_SEED = 1 << 31


@contextlib.contextmanager
def neighbour(cores: int, seconds: float) -> Iterator[None]:
    """Keep half of ``cores`` busy, at least one; each ends after ``seconds`` of CPU time at the latest."""
    # Programs that replace each other: a process in between could end without its child.
    argv = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "prlimit",
        f"--cpu={math.ceil(seconds)}",
        "sh",
        "-c",
        "while :; do :; done",
    ]
    children = [subprocess.Popen(argv, stdin=subprocess.DEVNULL) for _ in range(max(1, cores // 2))]
    try:
        yield
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()


def has_neighbour(number: int) -> bool:
    """Whether round ``number`` (from 1) has a neighbour."""
    return number % 2 == 0


def command(clusters: int, seed: int, folder: Path, arguments: Sequence[str]) -> list[str]:
    """Command line of one round; the kernel ends it when this process is killed."""
    argv = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "mock_device.acceptance.cli"]
    argv += ["--clusters", str(clusters), "--seed", str(seed), "--outputdir", str(folder)]
    if not any(Path(argument).exists() for argument in arguments):
        arguments = ["--exclude", "long", *arguments]
    return [*argv, "--", *arguments]


def table(plan: Plan, seed: int) -> Table:
    """One row per round."""
    rows = []
    for name, number in plan.each():
        found = rounds.read(plan.outputdir, name, number)
        counts = (str(found.count(status)) for status in ("PASS", "FAIL", "SKIP"))
        beside = "yes" if has_neighbour(number) else "no"
        rows.append((str(number), str(seed + number), beside, *counts, f"{found.seconds:.0f}", found.crash))
    columns = ("round", "seed", "neighbour", "passed", "failed", "skipped", "seconds", "crash")
    return Table(columns, rows, right=(*columns[:2], *columns[3:7]))


@click.command(context_settings=command_line.SETTINGS)
@click.option("--rounds", "count", type=options.number(1), default=5, metavar="N", help="How often (default: 5).")
@click.option(
    "--seed",
    type=options.number(0, _LARGEST_SEED),
    default=None,
    metavar="N",
    help="Round K has the order of seed N + K (default: a random one, which the table shows).",
)
@options.clusters()
@options.minutes_of_a_round
@options.outputdir(PROJECT / "results" / NAME)
@options.suites_and_options
def soak(count: int, seed: int | None, clusters: int, minutes: float, outputdir: Path, arguments: Sequence[str]) -> int:
    """Run suites (default: all without the tag long) N times in random order, and list the flaky tests.

    Every second round runs beside a neighbour that keeps half of the cores busy. To repeat the order of a round:
    acceptance --seed SEED. Options for robot stand after --.
    """
    outputdir = outputdir.absolute()
    outputdir.mkdir(parents=True, exist_ok=True)
    first = random.randrange(_LARGEST_SEED) if seed is None else seed
    plan = Plan([NAME], count, outputdir)
    seconds = minutes * 60

    def beside(number: int) -> AbstractContextManager[None]:
        return neighbour(os.cpu_count() or 1, seconds) if has_neighbour(number) else nullcontext()

    progress.say(f"seed {first}")
    nightly.run(plan, seconds, lambda _, number, folder: command(clusters, first + number, folder, arguments), beside)
    rows = rounds.table([rounds.read(outputdir, NAME, number) for _, number in plan.each()])
    rounds.write_table(outputdir, rows)
    bad = [row for row in rows if row.verdict in (Verdict.CRASHED, Verdict.FAILING, Verdict.FLAKY)]
    print_tables(rounds.as_table(bad), table(plan, first))
    return 1 if bad else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds; exit code 1 when a test failed or a round crashed, 2 for bad usage, 130 after Ctrl-C."""
    return command_line.run(soak, argv)


if __name__ == "__main__":
    sys.exit(main())
