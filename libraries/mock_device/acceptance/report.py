"""What a run of the suites came to: counts, suites that are lost, tests that are flaky."""

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
OUTPUT = "output.xml"
SUITE_NAMES = ".pabotsuitenames"
SUMMARY = "acceptance.json"
"""What ``acceptance`` writes when it has come to its end."""
_XUNIT = "xunit.xml"
# Robot Framework makes a link of [address|text] in metadata.
OPTIONS = ("--xunit", _XUNIT, "--metadata", f"Slowest tests and keywords:[{slowest.FILE}|{slowest.FILE}]")
"""Options of robot for a run whose reports are to have all that is written beside them."""


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
    """Names of tests that failed first and passed when they were run again."""
    unhealthy: str
    """What was wrong with its cluster when it gave it back; empty when nothing was."""


@dataclass(frozen=True)
class Summary:
    """How all suites ended."""

    suites: list[SuiteEnd] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Suites that were to run and are not in the output: their process was killed."""

    @property
    def passed(self) -> int:
        return sum(suite.passed for suite in self.suites)

    @property
    def failed(self) -> int:
        """Failed tests; a lost suite counts as one."""
        return sum(suite.failed for suite in self.suites) + len(self.lost)

    def table(self) -> Table:
        """A row a suite; notes about flaky tests, unhealthy clusters and lost suites."""
        rows: list[tuple[str, ...] | Note] = []
        for suite in self.suites:
            counts = (str(suite.passed), str(suite.failed), str(suite.skipped), f"{suite.seconds:.0f}")
            rows.append((suite.name, *counts, suite.cluster or "-"))
            rows += [Note("flaky", f"{suite.name}: {test}") for test in suite.flaky]
            rows += [Note("unhealthy", f"{suite.name}: {suite.unhealthy}")] if suite.unhealthy else []
        rows += [Note("lost", f"{name}: its process ended without a result") for name in self.lost]
        numbers = ("passed", "failed", "skipped", "seconds")
        return Table(("suite", *numbers, "cluster"), rows, right=numbers)


def summarise(output: Path, expected: Sequence[str]) -> Summary:
    """How the suites in ``output`` (Robot Framework's output.xml) ended; ``expected`` are the full names of all."""
    result: Result = ExecutionResult(str(output))
    ends = {suite.full_name: _suite_end(suite) for suite in _leaves(result.suite)}
    return Summary(list(ends.values()), [name for name in expected if name not in ends])


def read_summary(folder: Path) -> Summary | None:
    """What ``acceptance`` has written into ``folder``; None when it has not come to its end.

    Raises ValueError for a file that is no such summary.
    """
    try:
        said = json.loads((folder / SUMMARY).read_text())
        return Summary([SuiteEnd(**suite) for suite in said["suites"]], said["lost"])
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{folder / SUMMARY}: not what acceptance writes: {error}") from error


def names_of_suites(folder: Path) -> list[str]:
    """Full names of the suites that pabot was to run in ``folder``, from its ``.pabotsuitenames``."""
    lines = (folder / SUITE_NAMES).read_text().splitlines()
    return [line.removeprefix("--suite ") for line in lines if line.startswith("--suite ")]


def number_of_suites(folder: Path) -> int | None:
    """How many suites pabot runs in ``folder``; None when it has not written that yet, or runs single tests."""
    try:
        return len(names_of_suites(folder)) or None
    except FileNotFoundError:
        return None


def _leaves(suite: SuiteResult) -> Iterator[SuiteResult]:
    if suite.tests:
        yield suite
    for child in suite.suites:
        yield from _leaves(child)


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
    )


class _Failed(ResultVisitor):  # type: ignore[misc]
    """Collects the full names of failed tests."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_test(self, test: TestCase) -> None:
        if test.failed:
            self.names.add(test.full_name)


class _MarkFlaky(ResultVisitor):  # type: ignore[misc]
    """Marks tests that failed before and pass now. The merge keeps the first failure in their messages, as HTML.

    What the failed run logged is gone with it, so the message leads to its evidence in ``folder``.
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
    """Full names of the tests that failed."""
    failed = _Failed()
    ExecutionResult(str(output)).visit(failed)
    return failed.names


def merge(first: Path, again: Path) -> None:
    """Merge the results of tests that were run ``again`` into ``first``, and make the reports beside it anew.

    Log and report show each test's last result with its first failure; those
    that passed at last have the tag ``flaky``.
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
    """log.html, report.html and xunit.xml of ``output``, beside it."""
    rebot(str(output), outputdir=str(output.parent), xunit=_XUNIT)


def prepare(folder: Path, outputdir: Path) -> dict[str, str]:
    """Make ``folder`` for the output of a run, without what an earlier one left; variables for its suites.

    Reports are in ``outputdir``, which is ``folder`` unless something is run again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (OUTPUT, SUITE_NAMES, slowest.FILE, performance.FILE):
        (folder / name).unlink(missing_ok=True)
    kept = outputdir / evidence.FOLDER
    if folder == outputdir:
        shutil.rmtree(kept, ignore_errors=True)
    return {"EVIDENCE": str(kept)}


def write_extras(folder: Path, outputdir: Path) -> Slowest:
    """Put figures of performance of the suites in ``folder``, and the tables of what is slowest, into ``outputdir``."""
    performance.merge(folder.glob(f"pabot_results/**/{performance.FILE}"), outputdir / performance.FILE)
    found = slowest.find(outputdir / OUTPUT)
    write_file(outputdir / slowest.FILE, found.as_text())
    return found
