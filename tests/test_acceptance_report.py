"""What a run of suites came to, from real output of Robot Framework."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import run
from textwrap import dedent

import pytest
from acceptance import report
from acceptance.report import OUTPUT

FIRST = """\
    *** Settings ***
    Suite Setup    Set Suite Metadata    Cluster    pool-1 (topology small)

    *** Test Cases ***
    Always Passes
        No Operation
    Passes At Last
        Should Be Equal    ${ROUND}    second    first failure
    Always Fails
        Fail    as ever
    """
SECOND = """\
    *** Settings ***
    Suite Setup    Set Suite Metadata    Cluster left unhealthy    node1 is gone

    *** Test Cases ***
    Is Skipped
        Skip    no such thing
    """


def robot(folder: Path, suites: Path, *options: str) -> Path:
    argv = [sys.executable, "-m", "robot", "--outputdir", str(folder), "--report", "none", "--log", "none", *options]
    run([*argv, str(suites)], check=False, capture_output=True, timeout=60)
    return folder / OUTPUT


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suites")
    (folder / "first.robot").write_text(dedent(FIRST))
    (folder / "second.robot").write_text(dedent(SECOND))
    return folder


@pytest.fixture
def output(suites: Path, tmp_path: Path) -> Path:
    return robot(tmp_path / "out", suites, "--variable", "ROUND:first", "--name", "Suites")


def test_counts_of_each_suite(output: Path, suites: Path) -> None:
    found = report.summarise(output, [])
    first, second = found.suites
    assert (first.name, first.passed, first.failed, first.skipped) == ("First", 1, 2, 0)
    assert first.cluster == "pool-1 (topology small)"
    assert (second.name, second.skipped, second.unhealthy) == ("Second", 1, "node1 is gone")
    assert (found.passed, found.failed) == (1, 2)
    lines = found.as_text().splitlines()
    assert lines[0] == "suite\tpassed\tfailed\tskipped\tseconds\tcluster"
    assert lines[1].startswith("First\t1\t2\t0\t")
    assert "unhealthy\tSecond: node1 is gone" in lines


def test_suite_without_a_result_is_lost_and_counts_as_a_failure(output: Path, suites: Path, tmp_path: Path) -> None:
    alone = robot(tmp_path / "alone", suites / "second.robot", "--name", "Second")
    found = report.summarise(alone, ["Second", "First"])
    assert found.lost == ["First"]
    assert found.failed == 1
    assert "lost\tFirst: its process ended without a result" in found.as_text()


def test_names_of_suites_are_those_that_pabot_was_to_run(tmp_path: Path) -> None:
    (tmp_path / ".pabotsuitenames").write_text(
        "datasources:d6c6\nfile:8b23\n--suite Suites.NUMA\n--suite Suites.SR-IOV\n"
    )
    assert report.names_of_suites(tmp_path) == ["Suites.NUMA", "Suites.SR-IOV"]


def test_merge_keeps_the_first_failure_and_marks_the_test_flaky(output: Path, suites: Path, tmp_path: Path) -> None:
    options = ("--variable", "ROUND:second", "--name", "Suites", "--rerunfailed", str(output))
    again = robot(tmp_path / "again", suites, *options)
    report.merge(output, again)
    found = report.summarise(output, [])
    assert (found.passed, found.failed) == (2, 1)
    assert found.suites[0].flaky == ["Passes At Last"]
    assert "flaky\tFirst: Passes At Last" in found.as_text()
    assert report.failed_tests(output) == {"Suites.First.Always Fails"}
    assert "first failure" in output.read_text()
    for page in ("report.html", "log.html", "xunit.xml"):
        assert (output.parent / page).stat().st_size > 100
    assert not list(output.parent.glob(".*"))
