"""Runs an acceptance suite that is expected to fail, and returns how each of its tests ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from robot.api import ExecutionResult

from mock_device.lab.base.paths import PROJECT

RESULTS = PROJECT / "results" / "broken-on-purpose"
TIMEOUT_SECONDS = 900


@dataclass(frozen=True)
class Ended:
    """How one test ended."""

    status: str
    """``PASS``, ``FAIL`` or ``SKIP``."""
    message: str


def run_suite(
    suite: str,
    fault: str,
    *options: str,
    prefix: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> dict[str, Ended]:
    """Run ``suites/<suite>.robot`` until its first failure; returns how each test ended, by name.

    Tests that did not run because of the first failure are left out. The report
    is in ``results/broken-on-purpose/<fault>``. ``prefix`` is a command that runs the robot command after it,
    ``variables`` are added to its environment.
    """
    argv = [*prefix, *command(suite, fault, *options)]
    environment = {**os.environ, **(variables or {})}
    run = subprocess.run(
        argv, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    return ended(fault, run.stdout + run.stderr)


def command(suite: str, fault: str, *options: str) -> list[str]:
    """Command that runs ``suites/<suite>.robot`` until its first failure, for ``ended``; an older report is removed."""
    folder = RESULTS / fault
    shutil.rmtree(folder, ignore_errors=True)
    argv = [sys.executable, "-m", "robot", "--outputdir", str(folder), "--exitonfailure", *options]
    return [*argv, f"suites/{suite}.robot"]


def ended(fault: str, output: str) -> dict[str, Ended]:
    """How each test ended, by name, from the report of a ``command`` that printed ``output``."""
    report = RESULTS / fault / "output.xml"
    assert report.exists(), output
    return {
        test.name: Ended(test.status, test.message)
        for test in ExecutionResult(str(report)).suite.all_tests
        if not test.tags.match("robot:exit")
    }


def statuses(tests: dict[str, Ended]) -> dict[str, str]:
    """Status of each test, by name."""
    return {name: test.status for name, test in tests.items()}
