"""Which suites pass on which version of Kubernetes, from real output of Robot Framework."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import run
from textwrap import dedent

import pytest

from mock_device.acceptance import compatibility
from mock_device.acceptance.compatibility import NOT_RUN, Record, SuiteResult, merged, page, read_results
from mock_device.lab.base.errors import StepError

SUITE = """\
    *** Settings ***
    Suite Setup    Set Suite Metadata    Kubernetes    ${RELEASE}

    *** Test Cases ***
    Passes
        No Operation
    Fails Now And Then
        Should Be Equal    ${ROUND}    2
    Is Skipped
        Skip    expected Kubernetes 1.37 or newer, found ${RELEASE}
    Is Skipped First
        Skip If    ${ROUND} == 1    not yet
    """


def played(folder: Path, release: str, number: int) -> Path:
    """The output of one round of a suite on a cluster of ``release``."""
    suite, output = folder / "numa.robot", folder / f"{release}-{number}.xml"
    suite.write_text(dedent(SUITE))
    argv = [sys.executable, "-m", "robot", "--output", str(output), "--report", "none", "--log", "none"]
    argv += ["--variable", f"RELEASE:{release}", "--variable", f"ROUND:{number}", str(suite)]
    run(argv, check=False, capture_output=True, timeout=60)
    return output


def result(release: str = "v1.36.3", passed: int = 2) -> SuiteResult:
    return SuiteResult(release, "c0ffee", "2026-11-28", passed)


def test_rounds_of_a_version_are_counted_together(tmp_path: Path) -> None:
    outputs = [played(tmp_path, "v1.36.3", 1), played(tmp_path, "v1.36.3", 2), played(tmp_path, "v1.35.4", 2)]
    found = read_results(outputs, "c0ffee", "2026-11-28").versions
    assert found.keys() == {"v1.36", "v1.35"}
    both, one = found["v1.36"]["Numa"], found["v1.35"]["Numa"]
    assert (both.release, both.passed, both.failed) == ("v1.36.3", 2, ["Fails Now And Then"])
    assert both.skipped.keys() == {"Is Skipped"}
    assert str(both) == "2 passed, 1 failed, 1 skipped"
    assert str(one) == "3 passed, 1 skipped"


def test_clusters_of_other_versions_do_not_count(tmp_path: Path) -> None:
    assert read_results([played(tmp_path, "v1.33.1", 1)], "c0ffee", "2026-11-28") == Record()


def test_what_is_no_output_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text("<html/>")
    with pytest.raises(StepError, match=r"x\.xml: expected an output file of Robot Framework"):
        read_results([tmp_path / "x.xml"], "c0ffee", "2026-11-28")


def test_new_results_replace_those_of_the_same_suite_and_version() -> None:
    old = Record({"v1.36": {"NUMA": result(passed=1), "PCIe": result()}, "v1.37": {"NUMA": result("v1.37.2")}})
    new = Record({"v1.36": {"NUMA": result(passed=9)}, "v1.34": {"NUMA": result("v1.34.4")}})
    found = merged(old, new).versions
    assert list(found) == ["v1.34", "v1.36", "v1.37"]
    assert (found["v1.36"]["NUMA"].passed, found["v1.36"]["PCIe"].passed) == (9, 2)
    assert merged(Record(), old) == merged(old, Record()) == old


def test_page_says_what_has_not_run() -> None:
    assert f"| all | {NOT_RUN} | {NOT_RUN} | {NOT_RUN} | {NOT_RUN} |" in page(Record())
    skipped = {"Waits": "needs Kubernetes v1.37\nor later"}
    failing = SuiteResult("v1.36.3", "c0ffee", "2026-11-28", 1, ["Breaks"], skipped)
    text = page(Record({"v1.36": {"PCIe": failing}, "v1.37": {"NUMA": result("v1.37.2")}}))
    assert f"| NUMA | {NOT_RUN} | {NOT_RUN} | {NOT_RUN} | 2 passed |" in text
    assert f"| PCIe | {NOT_RUN} | {NOT_RUN} | 1 passed, 1 failed, 1 skipped | {NOT_RUN} |" in text
    assert "| v1.37 | v1.37.2 | 1 | `c0ffee` | 2026-11-28 |" in text
    assert "- v1.36, PCIe: **Breaks** failed" in text
    assert "- v1.36, PCIe: Waits: needs Kubernetes v1.37 or later" in text


def test_page_of_the_project_is_what_was_recorded() -> None:
    """To change it: make compatibility."""
    assert compatibility.PAGE.read_text() == page(compatibility.load(compatibility.RECORD))


def test_command_records_and_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "compatibility.json"
    monkeypatch.setattr(compatibility, "RECORD", record)
    compatibility.save(Record({"v1.34": {"NUMA": result("v1.34.4")}}), record)
    assert compatibility.main([str(played(tmp_path, "v1.37.2", 2))]) == 0
    assert capsys.readouterr().out == "v1.37\tNuma\t3 passed, 1 skipped\n"
    assert compatibility.load(record).versions.keys() == {"v1.34", "v1.37"}
    assert record.with_suffix(".md").read_text() == page(compatibility.load(record))


def test_run_without_a_cluster_records_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compatibility.main([str(played(tmp_path, "v1.33.1", 1))]) == 1
    assert "expected suites that ran on a cluster of Kubernetes, found none in 1 files" in capsys.readouterr().err
