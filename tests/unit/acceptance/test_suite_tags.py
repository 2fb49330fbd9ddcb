"""Suites that run alone on the machine."""

from __future__ import annotations

import pytest
from robot.running import TestSuite

from mock_device.acceptance.suite_tags import runs_alone


@pytest.mark.parametrize(
    ("tags", "alone"), [([["alone", "dense"], ["alone"]], True), ([["alone"], ["dense"]], False), ([], False)]
)
def test_all_tests_of_a_suite_need_the_tag(tags: list[list[str]], alone: bool) -> None:
    suite = TestSuite("Some")
    for number, found in enumerate(tags):
        suite.tests.create(name=f"Test {number}", tags=found)
    assert runs_alone(suite) is alone
