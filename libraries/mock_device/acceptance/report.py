"""Results of a run of the suites: counts, lost suites, flaky tests."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robot.api import ExecutionResult, ResultVisitor
from robot.rebot import rebot
from robot.result import Result, TestCase
from robot.result import TestSuite as SuiteResult

from mock_device.acceptance import slowest
from mock_device.acceptance.slowest import Slowest
from mock_device.checks import evidence
from mock_device.checks.performance import performance
from mock_device.lab.base.files import write_file
from mock_device.lab.base.tables import Note, Table

FLAKY = "flaky"
_NUMA = "NUMA"
OUTPUT = "output.xml"
SUITE_NAMES = ".pabotsuitenames"
SUMMARY = "acceptance.json"
"""File that ``acceptance`` writes when it has finished."""
XUNIT = "xunit.xml"
# Robot Framework turns [address|text] in metadata into a link.
OPTIONS = ("--xunit", XUNIT, "--metadata", f"Slowest tests and keywords:[{slowest.FILE}|{slowest.FILE}]")
"""Options of robot that add the xunit file and a link to the table of slowest tests."""


@dataclass(frozen=True)
class SuiteEnd:
    """How one suite ended."""

    name: str
    cluster: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    flaky: list[str]
    """Names of tests that failed first and passed when they ran again."""
    unhealthy: str
    """What was wrong with its cluster at the end; empty if the cluster was healthy."""
    tests_seconds: float = 0.0
    """``seconds`` without setup and teardown of the suite, which may start a cluster."""


@dataclass(frozen=True)
class Summary:
    """How all suites ended."""

    suites: list[SuiteEnd] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Suites that should have run but are missing in the output, because their process was killed."""
    wall_seconds: float = 0.0
    """From the start of the first suite until the end of the last one."""

    @property
    def ratio(self) -> float | None:
        """``wall_seconds`` divided by the time of the tests of suite NUMA: comparable between machines.

        None if that suite did not run.
        """
        numa = sum(suite.tests_seconds for suite in self.suites if suite.name == _NUMA)
        return round(self.wall_seconds / numa, 1) if numa else None

    @property
    def passed(self) -> int:
        return sum(suite.passed for suite in self.suites)

    @property
    def failed(self) -> int:
        """Failed tests; a lost suite counts as one."""
        return sum(suite.failed for suite in self.suites) + len(self.lost)

    def table(self) -> Table:
        """One row per suite; notes about flaky tests, unhealthy clusters and lost suites."""
        rows: list[tuple[str, ...] | Note] = []
        for suite in self.suites:
            counts = (str(suite.passed), str(suite.failed), str(suite.skipped), f"{suite.seconds:.0f}")
            rows.append((suite.name, *counts, suite.cluster or "-"))
            rows += [Note("flaky", f"{suite.name}: {test}") for test in suite.flaky]
            rows += [Note("unhealthy", f"{suite.name}: {suite.unhealthy}")] if suite.unhealthy else []
        rows += [Note("lost", f"{name}: its process ended without a result") for name in self.lost]
        if self.ratio is not None:
            rows.append(Note("ratio", f"{self.ratio} (wall time {self.wall_seconds:.0f} s : tests of suite {_NUMA})"))
        numbers = ("passed", "failed", "skipped", "seconds")
        return Table(("suite", *numbers, "cluster"), rows, right=numbers)


def summarise(output: Path, expected: Sequence[str]) -> Summary:
    """Summarise ``output`` (Robot Framework's output.xml); ``expected`` are the full names of all suites."""
    result: Result = ExecutionResult(str(output))
    ends = {suite.full_name: _suite_end(suite) for suite in _leaves(result.suite)}
    lost = [name for name in expected if name not in ends]
    return Summary(list(ends.values()), lost, _wall_seconds(result.suite))


def read_summary(folder: Path) -> Summary | None:
    """Read the summary that ``acceptance`` wrote into ``folder``; None if it has not finished.

    Raises ValueError if the file is not a valid summary.
    """
    try:
        content = json.loads((folder / SUMMARY).read_text())
        suites = [SuiteEnd(**suite) for suite in content["suites"]]
        return Summary(suites, content["lost"], content.get("wall_seconds", 0.0))
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{folder / SUMMARY}: expected a summary of acceptance: {error}") from error


def names_of_suites(folder: Path) -> list[str]:
    """Full names of all suites of the run in ``folder``, from pabot's ``.pabotsuitenames``."""
    lines = (folder / SUITE_NAMES).read_text().splitlines()
    return [line.removeprefix("--suite ") for line in lines if line.startswith("--suite ")]


def number_of_suites(folder: Path) -> int | None:
    """Number of suites that pabot runs in ``folder``; None if it has not written it yet or runs single tests."""
    try:
        return len(names_of_suites(folder)) or None
    except FileNotFoundError:
        return None


def _leaves(suite: SuiteResult) -> Iterator[SuiteResult]:
    if suite.tests:
        yield suite
    for child in suite.suites:
        yield from _leaves(child)


def _wall_seconds(root: SuiteResult) -> float:
    """From the first start to the last end of a suite; 0 if none has both, as after a merge of two runs."""
    times = [(suite.start_time, suite.end_time) for suite in _leaves(root) if suite.start_time and suite.end_time]
    if not times:
        return 0.0
    seconds: float = (max(end for _, end in times) - min(start for start, _ in times)).total_seconds()
    return seconds


def _suite_end(suite: SuiteResult) -> SuiteEnd:
    counts = suite.statistics
    return SuiteEnd(
        name=suite.name,
        cluster=suite.metadata.get("Cluster", ""),
        passed=counts.passed,
        failed=counts.failed,
        skipped=counts.skipped,
        seconds=suite.elapsed_time.total_seconds(),
        flaky=[test.name for test in suite.tests if FLAKY in test.tags],
        unhealthy=suite.metadata.get("Cluster left unhealthy", ""),
        tests_seconds=sum(test.elapsed_time.total_seconds() for test in suite.tests),
    )


class _Failed(ResultVisitor):  # type: ignore[misc]
    """Collects the full names of failed tests."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_test(self, test: TestCase) -> None:
        if test.failed:
            self.names.add(test.full_name)


class _MarkFlaky(ResultVisitor):  # type: ignore[misc]
    """Tags tests that failed before and pass now. The merge keeps the first failure in their messages, as HTML.

    The log of the failed run is lost, so the message links to its evidence in ``folder``.
    """

    def __init__(self, failed_first: set[str], folder: Path) -> None:
        self._failed_first = failed_first
        self._folder = folder

    def visit_test(self, test: TestCase) -> None:
        if test.passed and test.full_name in self._failed_first:
            test.tags.add(FLAKY)
            kept = f"{evidence.FOLDER}/{evidence.folder_name(test.parent.name, test.name)}"
            if (self._folder / kept).is_dir():
                test.message += f'<hr>Evidence of the failure: <a href="{kept}">{kept}</a>'


def failed_tests(output: Path) -> set[str]:
    """Full names of the failed tests in ``output``."""
    failed = _Failed()
    ExecutionResult(str(output)).visit(failed)
    return failed.names


def merge(first: Path, again: Path) -> None:
    """Merge the results of the rerun ``again`` into ``first``, and rewrite the reports beside it.

    Log and report show each test's last result with its first failure; tests
    that passed in the rerun get the tag ``flaky``.
    """
    failed_first = failed_tests(first)
    result = ExecutionResult(str(first), str(again), merge=True)
    result.visit(_MarkFlaky(failed_first, first.parent))
    merged = first.with_name(f".{first.name}.{os.getpid()}")
    result.save(str(merged))
    with merged.open("rb") as file:
        os.fsync(file.fileno())
    merged.rename(first)
    write_reports(first)


def write_reports(output: Path) -> None:
    """Write log.html, report.html and xunit.xml of ``output`` beside it."""
    rebot(str(output), outputdir=str(output.parent), xunit=XUNIT)


def prepare(folder: Path, outputdir: Path) -> dict[str, str]:
    """Create ``folder`` for the output of a run, remove an earlier run's files, and return variables for the suites.

    Reports are in ``outputdir``, which is ``folder`` except in a rerun.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (OUTPUT, SUITE_NAMES, slowest.FILE, performance.FILE):
        (folder / name).unlink(missing_ok=True)
    kept = outputdir / evidence.FOLDER
    if folder == outputdir:
        shutil.rmtree(kept, ignore_errors=True)
    return {"EVIDENCE": str(kept)}


def write_extras(folder: Path, outputdir: Path) -> Slowest:
    """Write the performance measurements of the suites in ``folder``, and the slowest tests, into ``outputdir``."""
    performance.merge(folder.glob(f"pabot_results/**/{performance.FILE}"), outputdir / performance.FILE)
    found = slowest.find(outputdir / OUTPUT)
    write_file(outputdir / slowest.FILE, found.as_text())
    return found
