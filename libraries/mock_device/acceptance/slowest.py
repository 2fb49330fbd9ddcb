"""Where the time of a run goes: its slowest tests, and the keywords with the largest total time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from robot.api import ExecutionResult, ResultVisitor
from robot.result import Keyword, TestCase

from mock_device.lab.base.tables import Table, text

FILE = "slowest.txt"
MOST = 15
"""Rows of each table."""


@dataclass(frozen=True)
class SlowTest:
    """A test, with its setup and teardown."""

    seconds: float
    name: str
    """Suite and test."""
    status: str


@dataclass
class SlowKeyword:
    """All calls of a leaf keyword, that is, one that calls no other keyword."""

    name: str
    seconds: float = 0.0
    """Total of all calls."""
    calls: int = 0
    longest: float = 0.0
    where: str = ""
    """Suite and test of the longest call; only the suite for a call in suite setup or teardown."""


@dataclass(frozen=True)
class Slowest:
    """The slowest tests and keywords of a run, slowest first."""

    tests: list[SlowTest] = field(default_factory=list)
    keywords: list[SlowKeyword] = field(default_factory=list)

    def as_text(self) -> str:
        """Two tables as tab-separated lines, each with headings."""
        tests = Table(
            ("seconds", "status", "test"),
            [(f"{test.seconds:.1f}", test.status, test.name) for test in self.tests],
        )
        keywords = Table(
            ("seconds", "calls", "longest", "keyword", "longest in"),
            [
                (f"{item.seconds:.1f}", str(item.calls), f"{item.longest:.1f}", item.name, item.where)
                for item in self.keywords
            ],
        )
        return text(tests, keywords, between="\n\n") + "\n"


T = TypeVar("T", SlowTest, SlowKeyword)


class _Collector(ResultVisitor):  # type: ignore[misc]
    """Collects all tests and leaf keywords."""

    def __init__(self) -> None:
        self.tests: list[SlowTest] = []
        self.keywords: dict[str, SlowKeyword] = {}

    def start_test(self, test: TestCase) -> None:
        self.tests.append(SlowTest(test.elapsed_time.total_seconds(), _place(test), test.status))

    def end_keyword(self, keyword: Keyword) -> None:
        # Keywords that call others, also as setup or teardown, would count the same time twice.
        if any(item.type != item.MESSAGE for item in keyword.body) or keyword.has_setup or keyword.has_teardown:
            return
        seconds = keyword.elapsed_time.total_seconds()
        entry = self.keywords.setdefault(keyword.full_name, SlowKeyword(keyword.full_name))
        entry.seconds, entry.calls = entry.seconds + seconds, entry.calls + 1
        if seconds >= entry.longest:
            entry.longest, entry.where = seconds, _place(keyword)


def _place(item: Keyword | TestCase) -> str:
    """Suite and test to which ``item`` belongs."""
    while not isinstance(item, TestCase) and not hasattr(item, "suites"):
        item = item.parent
    return f"{item.parent.name}: {item.name}" if isinstance(item, TestCase) else str(item.name)


def find(output: Path) -> Slowest:
    """The slowest tests and keywords in ``output`` (Robot Framework's output.xml)."""
    found = _Collector()
    ExecutionResult(str(output)).visit(found)
    return Slowest(_most(found.tests), _most(found.keywords.values()))


def _most(items: Iterable[T]) -> list[T]:
    return sorted(items, key=lambda item: item.seconds, reverse=True)[:MOST]
