"""Promises of the contract, from the suite and from Robot Framework's output of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from robot.api import ExecutionResult
from robot.errors import DataError
from robot.result import Result as RobotResult
from robot.result import TestCase
from robot.running import TestSuite

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT

SUITE = PROJECT / "suites" / "conformance.robot"
_PROMISE, _NEEDS, _SOURCE = "promise-", "needs-", "Source: "
NOT_OFFERED = "not offered"
"""Beginning of a skipped test's message if the driver does not offer what the test checks."""


class State(StrEnum):
    """How a driver keeps a promise."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_OFFERED = NOT_OFFERED
    NOT_CHECKED = "not checked"
    """The cluster cannot check it, or the run has left it out."""


@dataclass(frozen=True)
class Promise:
    """One promise of the contract."""

    name: str
    """From the tag ``promise-NAME`` of its test."""
    title: str
    text: str
    source: str
    """Where the contract says so."""
    state: State
    reason: str = ""
    """Why it is not passed; of a passed one, what the test reported."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Conformance:
    """How a driver keeps all promises."""

    driver: str
    kubernetes: str
    """Version of the cluster; empty if no suite got one."""
    cluster: str
    time: str
    """Start of the run, ISO 8601, to a second."""
    promises: tuple[Promise, ...] = field(default_factory=tuple)

    def count(self, state: State) -> int:
        """Number of promises in ``state``."""
        return Counter(promise.state for promise in self.promises)[state]


def read(output: Path, offers: Collection[str], known: Collection[str], suite: Path = SUITE) -> Conformance:
    """How a driver keeps the promises of ``suite``, by the file ``output`` (Robot Framework's output.xml) of a run.

    ``offers`` is what the driver offers of the ``known`` things that tests can need by a tag ``needs-…``. Promises
    whose test has not run are not checked. Raises StepError if the file cannot be read.
    """
    try:
        result: RobotResult = ExecutionResult(str(output))
    except DataError as error:
        raise StepError(f"expected an output of Robot Framework, found {error}") from error
    ran = {name: test for test in result.suite.all_tests if (name := _promise_of(test.tags))}
    metadata: dict[str, str] = {}
    times: list[datetime] = []
    for test in ran.values():
        metadata |= dict(test.parent.metadata)
        times += [test.start_time] if test.start_time else []
    lacking = set(known) - set(offers)
    promises = []
    for test in TestSuite.from_file_system(str(suite)).all_tests:
        if name := _promise_of(test.tags):
            text, _, source = test.doc.rpartition(_SOURCE)
            promises.append(
                Promise(
                    name, test.name, " ".join(text.split()), " ".join(source.split()), *_end(ran.get(name), lacking)
                )
            )
    return Conformance(
        driver=metadata.get("Driver", ""),
        kubernetes=metadata.get("Kubernetes", ""),
        cluster=metadata.get("Cluster", ""),
        time=min(times).isoformat(timespec="seconds") if times else "",
        promises=tuple(promises),
    )


def _promise_of(tags: Iterable[str]) -> str:
    """The promise that a test checks; empty if it checks none."""
    return next((tag.removeprefix(_PROMISE) for tag in map(str, tags) if tag.startswith(_PROMISE)), "")


def _end(test: TestCase | None, lacking: Collection[str]) -> tuple[State, str, float]:
    """State, reason and seconds of a promise, by its test; ``lacking`` is what the driver does not offer."""
    if test is None:
        return State.NOT_CHECKED, "its test has not run", 0.0
    seconds = round(test.elapsed_time.total_seconds(), 1)
    reason = _plain(test.message)
    if test.passed:
        return State.PASSED, reason, seconds
    if not test.skipped:
        return State.FAILED, reason, seconds
    if missing := sorted(
        {str(tag).removeprefix(_NEEDS) for tag in test.tags if str(tag).startswith(_NEEDS)} & {*lacking}
    ):
        return State.NOT_OFFERED, f"the driver's description does not promise {', '.join(missing)}", seconds
    if reason.startswith(NOT_OFFERED):
        return State.NOT_OFFERED, reason.removeprefix(NOT_OFFERED).removeprefix(": "), seconds
    return State.NOT_CHECKED, reason, seconds


def _plain(message: str) -> str:
    """A message in one line."""
    return " ".join(message.removeprefix("*HTML*").split())
