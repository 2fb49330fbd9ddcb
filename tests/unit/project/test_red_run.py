"""A suite that notices a seeded fault pauses before its teardown, until the fault is removed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from suites_notice.seeding.red_run import RedRun
from support import suite_run
from support.suite_run import Ended

from mock_device.lab.base.errors import StepError

KEYWORDS = """
*** Settings ***
Library           OperatingSystem
Test Teardown     Create File    {folder}/${{TEST NAME}}
Suite Teardown    Create File    {folder}/suite-torn-down
{settings}

*** Keywords ***
Keyword With Teardown
    Log    one
    [Teardown]    Log    not the test's

*** Test Cases ***
"""
FAILS = """
Passes
    Keyword With Teardown

Fails
    Keyword With Teardown
    Fail    expected 1, found 2

Comes Later
    Log    not run
"""
PASSES = """
Passes
    Keyword With Teardown
"""


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite_run, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("suites_notice.seeding.red_run.PROJECT", tmp_path)
    (tmp_path / "suites").mkdir()


def start(tmp_path: Path, tests: str, settings: str = "") -> RedRun:
    text = KEYWORDS.format(folder=tmp_path, settings=settings) + tests
    (tmp_path / "suites/some.robot").write_text(text)
    return RedRun("some", "fault", variables={})


def test_teardown_of_failed_test_waits_until_the_fault_is_removed(tmp_path: Path) -> None:
    with closing(start(tmp_path, FAILS)) as run:
        run.wait_red()
        assert not (tmp_path / "Fails").exists()
        ended = run.finish()
    assert ended == {"Passes": Ended("PASS", ""), "Fails": Ended("FAIL", "expected 1, found 2")}
    assert all((tmp_path / name).exists() for name in ("Passes", "Fails", "suite-torn-down"))


def test_suite_without_failure_does_not_wait(tmp_path: Path) -> None:
    with closing(start(tmp_path, PASSES)) as run:
        run.wait_red()
        assert run.finish() == {"Passes": Ended("PASS", "")}


def test_teardown_of_a_suite_waits_when_its_setup_failed(tmp_path: Path) -> None:
    with closing(start(tmp_path, PASSES, "Suite Setup    Fail    no cluster")) as run:
        run.wait_red()
        assert not (tmp_path / "suite-torn-down").exists()
        ended = run.finish()
    assert ended["Passes"].status == "FAIL"
    assert "no cluster" in ended["Passes"].message
    assert (tmp_path / "suite-torn-down").exists()


def test_killed_run_has_no_result(tmp_path: Path) -> None:
    with closing(start(tmp_path, FAILS)) as run:
        run.wait_red()
        run.kill()
        with pytest.raises(StepError, match="robot was ended by signal 9"):
            run.finish()


def test_closed_run_has_ended(tmp_path: Path) -> None:
    run = start(tmp_path, FAILS)
    run.wait_red()
    run.close()
    assert not (tmp_path / "suite-torn-down").exists()


def test_tests_that_take_too_long_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite_run, "TIMEOUT_SECONDS", 0)
    with closing(start(tmp_path, PASSES)) as run, pytest.raises(StepError, match="have not ended after 0 s"):
        run.wait_red()
