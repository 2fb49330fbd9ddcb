"""``make all-tests``: the ``acceptance`` command with a summary as its last output."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from mock_device.acceptance import cli
from mock_device.acceptance.report import SUMMARY, SuiteEnd, Summary, read_summary
from mock_device.lab.base import command_line
from mock_device.lab.base.tables import Note, Table, print_tables

REPORT = "report.html"


def tables(summary: Summary, seconds: float, report: Path) -> list[Table]:
    """One row per suite (scenario), then the sums.

    ``seconds`` is the wall time of the whole run; suites run side by side, so
    their own times add up to more.
    """
    rows = [
        (
            suite.name,
            _result(suite),
            str(suite.passed),
            str(suite.failed),
            str(suite.skipped),
            _duration(suite.seconds),
        )
        for suite in summary.suites
    ]
    rows += [(name, "lost", "0", "1", "0", "-") for name in summary.lost]
    skipped = sum(suite.skipped for suite in summary.suites)
    sums = {
        "passed": str(summary.passed),
        "failed": str(summary.failed),
        "skipped": str(skipped),
        "total": str(summary.passed + summary.failed + skipped),
        "duration": _duration(seconds),
        "report": str(report),
    }
    numbers = ("passed", "failed", "skipped", "duration")
    styles = {"passed": "green", "failed": "red", "lost": "red"}
    return [
        Table(("scenario", "result", *numbers), rows, right=numbers, styles=styles),
        Table((), [Note(name, value) for name, value in sums.items()]),
    ]


def _result(suite: SuiteEnd) -> str:
    if suite.failed:
        return "failed"
    return "passed" if suite.passed else "skipped"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``acceptance`` with the same arguments, print the summary last, and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def run(outputdir: Path, **_: object) -> int:
        folder = outputdir.absolute()
        # A run that does not complete must not show the summary of an earlier one.
        (folder / SUMMARY).unlink(missing_ok=True)
        start = time.monotonic()
        code = cli.main(arguments)
        if summary := read_summary(folder):
            print()
            print_tables(*tables(summary, time.monotonic() - start, folder / REPORT), between="\n\n")
        else:
            print(f"no summary: acceptance ended with {code} before any result, see above", file=sys.stderr)
        return code

    command = click.Command(
        "all-tests",
        params=cli.acceptance.params,
        callback=run,
        help="Run the acceptance command, and print a summary of all suites last.",
        context_settings=command_line.SETTINGS,
    )
    return command_line.run(command, arguments)


if __name__ == "__main__":
    sys.exit(main())
