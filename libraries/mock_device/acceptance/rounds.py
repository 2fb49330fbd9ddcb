"""Results of repeated rounds of the same suites: flaky and failing tests, crashed rounds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from robot.api import ExecutionResult, ResultVisitor
from robot.errors import DataError
from robot.result import TestCase

from mock_device.acceptance.report import OUTPUT, SUMMARY, read_summary
from mock_device.lab.base.files import write_file
from mock_device.lab.base.tables import Table, to_json

ROUND = "round.json"
"""File in a round's folder that says how ``acceptance`` ended; it is missing if the round was interrupted."""
TABLE = "flaky.tsv"
_NO_RESULT = "no result: its machine went away, or its folder was not collected"


class Verdict(Enum):
    """Verdict on a test over all rounds, worst first."""

    CRASHED = "crashed"
    FAILING = "failing"
    FLAKY = "flaky"
    PASSING = "passing"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Round:
    """One run of all suites on clusters of one topology."""

    topology: str
    number: int
    """From 1."""
    seconds: float = 0.0
    crash: str = ""
    """Why the round is incomplete; empty if it is complete."""
    tests: list[tuple[str, str]] = field(default_factory=list)
    """Full name and status (``PASS``, ``FAIL``, ``SKIP``) of each test; a lost suite counts as a failed test."""

    def count(self, status: str) -> int:
        return sum(found == status for _, found in self.tests)


@dataclass(frozen=True)
class Row:
    """A test in all rounds of a topology, or a crashed round."""

    topology: str
    test: str
    passed: int
    failed: int
    skipped: int
    verdict: Verdict


def folder_of(outputdir: Path, topology: str, number: int) -> Path:
    """Folder of the results of round ``number`` on ``topology``."""
    return outputdir / f"{topology}-{number}"


def record(folder: Path, seconds: float, crash: str) -> None:
    """Record the end of a round: ``seconds`` of wall time, and the reason if it crashed (else empty)."""
    write_file(folder / ROUND, json.dumps({"seconds": round(seconds, 1), "crash": crash}))


def read(outputdir: Path, topology: str, number: int) -> Round:
    """Read a round from its folder; one that is missing or unreadable counts as crashed."""
    folder = folder_of(outputdir, topology, number)
    try:
        ended: dict[str, Any] = json.loads((folder / ROUND).read_text())
        seconds, crash = float(ended["seconds"]), str(ended["crash"])
    except (OSError, ValueError, LookupError, TypeError):
        return Round(topology, number, crash=_NO_RESULT)
    tests: list[tuple[str, str]] = []
    try:
        tests = [*_tests(folder / OUTPUT), *_lost(folder)]
    except (DataError, OSError, ValueError) as error:
        crash = crash or f"its results cannot be read: {error}"
    return Round(topology, number, seconds, crash, tests)


class _Collector(ResultVisitor):  # type: ignore[misc]
    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def visit_test(self, test: TestCase) -> None:
        self.found.append((test.full_name, test.status))


def _tests(output: Path) -> list[tuple[str, str]]:
    collector = _Collector()
    ExecutionResult(str(output)).visit(collector)
    return collector.found


def _lost(folder: Path) -> Iterator[tuple[str, str]]:
    """Suites whose process was killed, which are missing in the output."""
    summary = read_summary(folder)
    if not summary:
        raise FileNotFoundError(f"no {SUMMARY}")
    for name in summary.lost:
        yield f"{name}: its process ended without a result", "FAIL"


def table(rounds: Sequence[Round]) -> list[Row]:
    """A row for each crashed round and for each test of each topology, worst first."""
    rows = [
        Row(item.topology, f"round {item.number}: {item.crash}", 0, 0, 0, Verdict.CRASHED)
        for item in rounds
        if item.crash
    ]
    found: dict[tuple[str, str], list[str]] = {}
    for item in rounds:
        for test, status in item.tests:
            found.setdefault((item.topology, test), []).append(status)
    for (topology, test), statuses in found.items():
        passed, failed, skipped = (statuses.count(status) for status in ("PASS", "FAIL", "SKIP"))
        rows.append(Row(topology, test, passed, failed, skipped, _verdict(passed, failed)))
    order = list(Verdict)
    return sorted(rows, key=lambda row: (order.index(row.verdict), row.topology, row.test))


def _verdict(passed: int, failed: int) -> Verdict:
    if failed:
        return Verdict.FLAKY if passed else Verdict.FAILING
    return Verdict.PASSING if passed else Verdict.SKIPPED


def as_table(rows: Sequence[Row]) -> Table:
    """One row per test or crashed round."""
    return Table(
        ("verdict", "topology", "passed", "failed", "skipped", "test"),
        [
            (row.verdict.value, row.topology, str(row.passed), str(row.failed), str(row.skipped), row.test)
            for row in rows
        ],
        right=("passed", "failed", "skipped"),
        wraps=("test",),
        styles={Verdict.CRASHED.value: "red", Verdict.FAILING.value: "red", Verdict.FLAKY.value: "yellow"},
    )


def write_table(outputdir: Path, rows: Sequence[Row]) -> None:
    """Write all rows to ``flaky.tsv`` and ``flaky.json``."""
    write_file(outputdir / TABLE, as_table(rows).as_text() + "\n")
    content = to_json(rows)
    write_file((outputdir / TABLE).with_suffix(".json"), content + "\n")
