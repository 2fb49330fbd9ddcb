"""Summaries and reports of a run, from real output of Robot Framework."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import run
from textwrap import dedent

import pytest
from robot.api import ExecutionResult

from mock_device.acceptance import report, slowest
from mock_device.acceptance.report import OUTPUT
from mock_device.checks import evidence
from mock_device.checks.performance import performance
from mock_device.checks.performance.performance import Measured

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
    lines = found.table().as_text().splitlines()
    assert lines[0] == "suite\tpassed\tfailed\tskipped\tseconds\tcluster"
    assert lines[1].startswith("First\t1\t2\t0\t")
    assert "unhealthy\tSecond: node1 is gone" in lines


def test_wall_time_is_compared_with_the_tests_of_suite_numa(output: Path) -> None:
    found = report.summarise(output, [])
    assert found.ratio is None
    assert found.wall_seconds >= sum(suite.seconds for suite in found.suites) * 0.9
    first, second = found.suites
    assert 0 < first.tests_seconds <= first.seconds
    named = replace(found, suites=[replace(first, name="NUMA", tests_seconds=2.0), second], wall_seconds=31.0)
    assert named.ratio == 15.5
    assert "ratio\t15.5 (wall time 31 s : tests of suite NUMA)" in named.table().as_text()


def test_suite_without_a_result_is_lost_and_counts_as_a_failure(output: Path, suites: Path, tmp_path: Path) -> None:
    alone = robot(tmp_path / "alone", suites / "second.robot", "--name", "Second")
    found = report.summarise(alone, ["Second", "First"])
    assert found.lost == ["First"]
    assert found.failed == 1
    assert "lost\tFirst: its process ended without a result" in found.table().as_text()


def test_names_of_suites_come_from_pabots_file(tmp_path: Path) -> None:
    (tmp_path / ".pabotsuitenames").write_text(
        "datasources:d6c6\nfile:8b23\n--suite Suites.NUMA\n--suite Suites.SR-IOV\n"
    )
    assert report.names_of_suites(tmp_path) == ["Suites.NUMA", "Suites.SR-IOV"]
    assert report.number_of_suites(tmp_path) == 2


def test_number_of_suites_is_unknown_before_pabot_writes_it(tmp_path: Path) -> None:
    assert report.number_of_suites(tmp_path) is None
    (tmp_path / ".pabotsuitenames").write_text("datasources:d6c6\nfile:8b23\n--test Suites.NUMA.One\n")
    assert report.number_of_suites(tmp_path) is None


def test_merge_keeps_the_first_failure_and_marks_the_test_flaky(output: Path, suites: Path, tmp_path: Path) -> None:
    options = ("--variable", "ROUND:second", "--name", "Suites", "--rerunfailed", str(output))
    again = robot(tmp_path / "again", suites, *options)
    kept = "evidence/First.Passes-At-Last"
    (output.parent / kept).mkdir(parents=True)
    report.merge(output, again)
    found = report.summarise(output, [])
    assert (found.passed, found.failed) == (2, 1)
    assert found.suites[0].flaky == ["Passes At Last"]
    assert "flaky\tFirst: Passes At Last" in found.table().as_text()
    assert report.failed_tests(output) == {"Suites.First.Always Fails"}
    (flaky,) = (test for test in ExecutionResult(str(output)).suite.all_tests if test.name == "Passes At Last")
    assert "first failure" in flaky.message
    assert f'<a href="{kept}">' in flaky.message
    for page in ("report.html", "log.html", "xunit.xml"):
        assert (output.parent / page).stat().st_size > 100
    assert not list(output.parent.glob(".*"))


SLOW = """\
    *** Settings ***
    Suite Setup    Sleep    0.05s

    *** Test Cases ***
    Waits
        Sleep    0.4s
        Waits Twice
    Fails Soon
        Sleep    0.1s
        Fail    soon

    *** Keywords ***
    Waits Twice
        Sleep    0.1s
        FOR    ${number}    IN RANGE    1
            Sleep    0.1s
        END
    """


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    (tmp_path / "slow.robot").write_text(dedent(SLOW))
    return robot(tmp_path / "out", tmp_path / "slow.robot")


def test_slowest_tests_and_keywords(slow: Path) -> None:
    found = slowest.find(slow)
    assert [(test.name, test.status) for test in found.tests] == [("Slow: Waits", "PASS"), ("Slow: Fails Soon", "FAIL")]
    assert 0.6 <= found.tests[0].seconds < 5
    first = found.keywords[0]
    # Not `Waits Twice`, which only calls other keywords.
    assert [item.name for item in found.keywords] == ["BuiltIn.Sleep", "BuiltIn.Fail"]
    assert (first.calls, first.where) == (5, "Slow: Waits")
    # Sleeps of a loaded machine are longer.
    assert first.seconds > first.longest >= 0.4
    lines = found.as_text().splitlines()
    assert lines[0] == "seconds\tstatus\ttest"
    assert lines[3:5] == ["", "seconds\tcalls\tlongest\tkeyword\tlongest in"]
    assert lines[5].split("\t")[3:] == ["BuiltIn.Sleep", "Slow: Waits"]


def test_tables_have_a_maximum_length(slow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slowest, "MOST", 1)
    found = slowest.find(slow)
    assert (len(found.tests), len(found.keywords)) == (1, 1)


def measured(suite: str) -> Measured:
    figures = (performance.figure("scan", 6, [0.01]),)
    return Measured(suite, "2026-01-01T00:00:00+00:00", "one", "numa-cluster", "tcg", figures)


def test_prepare_removes_results_of_an_earlier_run(tmp_path: Path) -> None:
    left = [tmp_path / name for name in (OUTPUT, slowest.FILE, performance.FILE, f"{evidence.FOLDER}/a/events.tsv")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    again = tmp_path / "rerun"
    expected = {"EVIDENCE": str(tmp_path / evidence.FOLDER)}
    assert report.prepare(again, tmp_path) == expected
    assert all(path.exists() for path in left)
    assert report.prepare(tmp_path, tmp_path) == expected
    assert not any(path.exists() for path in left)


def test_measurements_of_parallel_suites_are_merged(suites: Path, tmp_path: Path) -> None:
    for number, suite in enumerate(("A", "B")):
        folder = tmp_path / "pabot_results" / str(number)
        folder.mkdir(parents=True)
        performance.write(folder / performance.FILE, measured(suite))
    found = report.write_extras(tmp_path, robot(tmp_path, suites, "--variable", "ROUND:first").parent)
    assert "Suites: " not in (tmp_path / slowest.FILE).read_text()
    assert (tmp_path / slowest.FILE).read_text() == found.as_text()
    assert len(found.tests) == 4
    assert (tmp_path / performance.FILE).read_text().count('"suite"') == 2


def test_merged_report_links_the_files_beside_it(suites: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "pabot.pabot", "--pabotlibport", "0", "--outputdir", str(tmp_path), *report.OPTIONS]
    # pabot looks up `robot` on PATH.
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    argv += ["--variable", "ROUND:first", str(suites)]
    run(argv, check=False, capture_output=True, timeout=100, cwd=tmp_path, env=env)
    assert "Slowest tests and keywords" in (tmp_path / OUTPUT).read_text()
    assert '<a href=\\"slowest.txt\\">slowest.txt' in (tmp_path / "report.html").read_text()
    assert (tmp_path / "xunit.xml").stat().st_size > 100
