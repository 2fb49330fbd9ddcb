"""Tests of what Kubernetes itself fails are skipped with the issue, and fail when it is mended."""

from __future__ import annotations

import pytest
from robot.running import TestSuite

from mock_device.lab.base.paths import PROJECT

SUITE = f"""
*** Settings ***
Resource    {PROJECT}/resources/features.resource

*** Test Cases ***
Still Broken
    Expect Failure Of Kubernetes    some#1    Fail    it was evicted

Mended
    Expect Failure Of Kubernetes    some#1    Should Be Equal    a    a
"""


@pytest.mark.slow
def test_failure_is_a_skip_and_success_a_failure() -> None:
    broken, mended = TestSuite.from_string(SUITE).run(output=None, console="none").suite.tests
    assert (broken.status, broken.message) == ("SKIP", "Kubernetes itself fails here (some#1): it was evicted")
    assert mended.status == "FAIL"
    assert mended.message.startswith("expected Should Be Equal to fail because of some#1, it passed: remove the tag")
