"""``make all-tests``: the ``acceptance`` command, and at its end what came of it, for people who read only the end."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mock_device.acceptance import cli
from mock_device.acceptance.report import SUMMARY, SuiteEnd, Summary, read_summary
from mock_device.lab.base.paths import PROJECT

REPORT = "report.html"


def as_text(summary: Summary, seconds: float, report: Path) -> str:
    """Tab-separated lines: each scenario (a suite) with its result, then the sums.

    ``seconds`` is the wall time of the whole run; suites run side by side, so
    their own times add up to more.
    """
    lines = ["scenario\tresult\tpassed\tfailed\tskipped\tduration"]
    for suite in summary.suites:
        counts = f"{suite.passed}\t{suite.failed}\t{suite.skipped}"
        lines.append(f"{suite.name}\t{_result(suite)}\t{counts}\t{_duration(suite.seconds)}")
    lines += [f"{name}\tlost\t0\t1\t0\t-" for name in summary.lost]
    skipped = sum(suite.skipped for suite in summary.suites)
    total = summary.passed + summary.failed + skipped
    lines += ["", f"passed\t{summary.passed}", f"failed\t{summary.failed}", f"skipped\t{skipped}", f"total\t{total}"]
    return "\n".join([*lines, f"duration\t{_duration(seconds)}", f"report\t{report}"])


def _result(suite: SuiteEnd) -> str:
    if suite.failed:
        return "failed"
    return "passed" if suite.passed else "skipped"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``acceptance`` with the same arguments, print the summary last, and return its exit code."""
    options = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--outputdir", type=Path, default=PROJECT / "results")
    folder = parser.parse_known_args(options)[0].outputdir.absolute()
    # So that a run that does not come to its end does not show an earlier one.
    (folder / SUMMARY).unlink(missing_ok=True)
    start = time.monotonic()
    code = cli.main(options)
    if summary := read_summary(folder):
        print("\n" + as_text(summary, time.monotonic() - start, folder / REPORT))
    else:
        print(f"no summary: acceptance ended with {code} before any result, see above", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
