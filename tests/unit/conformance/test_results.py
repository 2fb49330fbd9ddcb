"""Promises and how they are kept, from real output of Robot Framework."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from robot import running

from mock_device.conformance import report, results, run
from mock_device.conformance.results import Conformance, State
from mock_device.driver import description
from mock_device.lab.base.errors import StepError

SUITE = """\
    *** Settings ***
    Suite Setup    Describe

    *** Test Cases ***
    It Works
        [Documentation]    As it should,
        ...    always.
        ...
        ...    Source: any/file.go, Function | part
        [Tags]    promise-works
        No Operation
    It Fails
        [Documentation]    Source: KEP-1
        [Tags]    promise-fails    needs-health
        Fail    expected 1,\\nfound <2>
    It Is Not Promised
        [Tags]    promise-absent    needs-taints    needs-health
        Skip    the driver does not do that
    It Cannot Be Seen
        [Tags]    promise-invisible
        Skip    not offered: nothing to see
    No Such Cluster
        [Tags]    promise-power    needs-power
        Skip    cluster 'x' has no power
    It Takes Long
        [Tags]    promise-slow    long
        No Operation
    No Promise
        No Operation

    *** Keywords ***
    Describe
        Set Suite Metadata    Driver    any.example.com
        Set Suite Metadata    Kubernetes    v1.37.2
        Set Suite Metadata    Cluster    default (topology single-node)
    """
KNOWN, OFFERS = {"taints", "health"}, {"health"}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suites") / "conformance.robot"
    path.write_text(dedent(SUITE))
    return path


@pytest.fixture(scope="module")
def output(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    argv = [sys.executable, "-m", "robot", "--outputdir", str(folder), "--report", "none", "--log", "none"]
    subprocess.run([*argv, "--exclude", "long", str(suite)], check=False, capture_output=True, timeout=60)
    return folder / "output.xml"


@pytest.fixture
def found(output: Path, suite: Path) -> Conformance:
    return results.read(output, OFFERS, KNOWN, suite)


def test_each_promise_has_its_state_and_reason(found: Conformance) -> None:
    assert [(item.name, item.state, item.reason) for item in found.promises] == [
        ("works", State.PASSED, ""),
        ("fails", State.FAILED, "expected 1, found <2>"),
        ("absent", State.NOT_OFFERED, "the driver's description does not promise taints"),
        ("invisible", State.NOT_OFFERED, "nothing to see"),
        ("power", State.NOT_CHECKED, "cluster 'x' has no power"),
        ("slow", State.NOT_CHECKED, "its test has not run"),
    ]
    assert [found.count(state) for state in State] == [1, 1, 2, 2]


def test_promise_has_title_text_and_source(found: Conformance) -> None:
    works = found.promises[0]
    assert (works.title, works.text) == ("It Works", "As it should, always.")
    assert works.source == "any/file.go, Function | part"


def test_run_is_described(found: Conformance) -> None:
    described = (found.driver, found.kubernetes, found.cluster)
    assert described == ("any.example.com", "v1.37.2", "default (topology single-node)")
    assert found.time.startswith("20")


def test_file_that_is_no_output_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "output.xml"
    path.write_text("<nothing/>")
    with pytest.raises(StepError, match="expected an output of Robot Framework"):
        results.read(path, OFFERS, KNOWN)


def test_table_has_a_row_for_each_promise_and_counts(found: Conformance) -> None:
    table = report.table(found)
    assert ("failed", "It Fails", "expected 1, found <2>") in table.cells
    assert len(table.cells) == len(found.promises)
    assert table.notes[-1].text == "1 passed, 1 failed, 2 not offered, 2 not checked"


def test_long_reason_is_cut_in_the_table_and_whole_in_the_files(found: Conformance) -> None:
    from dataclasses import replace

    long = replace(found.promises[1], reason="x" * 1000)
    changed = replace(found, promises=(long,))
    assert report.table(changed).cells[0][2] == "x" * 300 + "…"
    assert json.loads(report.as_json(changed))["promises"][0]["reason"] == "x" * 1000


def test_files_have_all_promises(found: Conformance, tmp_path: Path) -> None:
    files = {path.suffix: path.read_text() for path in report.write(found, tmp_path / "new")}
    content = json.loads(files[".json"])
    assert content["counts"] == {"passed": 1, "failed": 1, "not offered": 2, "not checked": 2}
    assert content["promises"][0]["source"] == "any/file.go, Function | part"
    for item in found.promises:
        assert f"<b>{item.title}</b>" in files[".html"]
    assert "expected 1, found &lt;2&gt;" in files[".html"]
    assert "| It Works. As it should, always. | **passed** | any/file.go, Function \\| part |" in files[".md"]
    assert "**failed**: expected 1, found <2>" in files[".md"]


def test_run_with_another_driver_is_an_error(output: Path, tmp_path: Path) -> None:
    with pytest.raises(
        StepError, match=r"expected a run with mock-accel\.example\.com .*, found one with any\.example"
    ):
        run.read(output, "mock-accel")
    without = tmp_path / "output.xml"
    without.write_text(output.read_text().replace("any.example.com", ""))
    with pytest.raises(StepError, match="no test had a cluster with the driver"):
        run.read(without, "mock-accel")


def test_command_line_of_a_run() -> None:
    argv = run.argv("any.yaml", Path("/out"), short=True, topology="single-node")
    assert argv[1:] == [
        *("-m", "robot", "--outputdir", "/out", "--variable", "DRIVER:any.yaml", "--exclude", "long"),
        *("--variable", "TOPOLOGY:single-node", str(results.SUITE)),
    ]
    assert run.argv("any.yaml", Path("/out"), short=False, topology="")[-3:-1] == ["--variable", "DRIVER:any.yaml"]


def test_robot_without_output_is_an_error(tmp_path: Path) -> None:
    (tmp_path / run.OUTPUT).write_text("of an earlier run")
    with pytest.raises(StepError, match="robot ended with 3 and left no"):
        run.run([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)


def test_each_test_of_the_suite_is_one_promise_with_a_source() -> None:
    tests = list(running.TestSuite.from_file_system(str(results.SUITE)).all_tests)
    names = [[str(tag) for tag in test.tags if str(tag).startswith("promise-")] for test in tests]
    assert [test.name for test, found in zip(tests, names, strict=True) if len(found) != 1] == []
    assert len({name for (name,) in names}) == len(tests)
    assert [test.name for test in tests if "Source: " not in test.doc] == []


def test_needs_of_the_suite_are_known() -> None:
    tests = running.TestSuite.from_file_system(str(results.SUITE)).all_tests
    needs = {str(tag).removeprefix("needs-") for test in tests for tag in test.tags if str(tag).startswith("needs-")}
    assert needs - description.known_offers() == {"power"}
