"""On a slow machine, the time-outs of tests and of keywords are longer, by Robot Framework itself."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from robot.running import TestSuite
from support.topologies import CLUSTER

from mock_device.checks.nodes import session
from mock_device.lab.base import timeouts
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.cluster import client

SUITE = f"""
*** Settings ***
Library    {PROJECT}/libraries/ClusterLibrary.py
Suite Setup    Start Session    numa-cluster
Test Timeout    2 minutes

*** Variables ***
${{LONG}}    1 hour

*** Test Cases ***
Short
    No Operation

Long
    [Timeout]    ${{LONG}}
    No Operation

Endless
    [Timeout]    NONE
    No Operation
"""


@pytest.fixture
def borrowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A cluster that `Start Session` borrows, whose profile has a factor."""
    monkeypatch.delenv(timeouts.VARIABLE, raising=False)
    monkeypatch.setattr(timeouts, "_profile_factor", 1.0)
    cluster: Any = SimpleNamespace(
        name="some",
        topology=CLUSTER,
        factor=1.0,
        report_activity=lambda _: None,
        check_offers=lambda _: None,
        release=lambda: None,
    )

    def borrow(*_: object) -> Any:
        timeouts.use_profile(cluster.factor)
        return cluster

    monkeypatch.setattr(client, "borrow", borrow)
    yield cluster
    session.end()


def run() -> dict[str, str | None]:
    """Time-out of each test of the suite, as it ran."""
    result = TestSuite.from_string(SUITE).run(output=None, console="none")
    assert {test.status for test in result.suite.tests} == {"PASS"}
    return {test.name: str(test.timeout) if test.timeout else None for test in result.suite.tests}


def test_time_outs_of_tests_are_as_the_suite_says(borrowed: SimpleNamespace) -> None:
    assert run() == {"Short": "2 minutes", "Long": "1 hour", "Endless": None}


def test_factor_multiplies_the_time_outs_of_tests(borrowed: SimpleNamespace) -> None:
    borrowed.factor = 2.5
    assert run() == {"Short": "5 minutes", "Long": "2 hours 30 minutes", "Endless": None}
