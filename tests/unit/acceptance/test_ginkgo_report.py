"""Reports of ginkgo: how each test ended, and why a run is incomplete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mock_device.acceptance import ginkgo_report
from mock_device.acceptance.ginkgo_report import State, Test
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT

RECORD = PROJECT / "tests/support/data/e2e/ginkgo.json"
"""Written by ginkgo 2.32 for a suite of a few tests that end in all ways."""
KUBELET = "[sig-node] [DRA] kubelet [Feature:DynamicResourceAllocation]"


@pytest.fixture
def tests() -> dict[str, Test]:
    """The tests of the record by the end of their names."""
    return {test.name.removeprefix(KUBELET).strip(): test for test in ginkgo_report.read(RECORD).tests}


def changed(folder: Path, **changes: object) -> Path:
    """The record with other keys of its suite."""
    (suite,) = json.loads(RECORD.read_text())
    path = folder / "ginkgo.json"
    path.write_text(json.dumps([{**suite, **changes}]))
    return path


def test_every_end_of_a_test_is_read(tests: dict[str, Test]) -> None:
    assert {name: test.state for name, test in tests.items()} == {
        "registers plugin": State.PASSED,
        "must retry NodePrepareResources": State.FAILED,
        "panics": State.FAILED,
        "cleans up": State.FAILED,
        "hangs": State.FAILED,
        "uses all resources": State.SKIPPED,
        "is pending": State.NOT_RUN,
        "[sig-node] [DRA] control plane [FeatureGate:DRAResourcePoolStatus] [Alpha] should report": State.NOT_RUN,
    }


def test_messages_say_what_failed(tests: dict[str, Test]) -> None:
    retry = tests["must retry NodePrepareResources"].message
    assert "claim is ready" in retry
    assert "namespace is still there" in retry
    assert "out of range" in tests["panics"].message
    assert tests["cleans up"].message == "namespace is still there"
    assert "timed" in tests["hangs"].message.lower()
    assert "stopped late" in tests["hangs"].message
    assert tests["uses all resources"].message == "2 ready nodes required, only have 1"
    assert tests["registers plugin"].message == ""


def test_durations_are_seconds(tests: dict[str, Test]) -> None:
    assert 0.02 <= tests["registers plugin"].seconds < 5
    assert 0 < ginkgo_report.read(RECORD).seconds < 60


def test_images_that_could_not_be_pulled_are_named(tests: dict[str, Test]) -> None:
    assert tests["must retry NodePrepareResources"].missing_images == ("r.example/busybox:1", "r.example/other:2")
    assert tests["panics"].missing_images == ()


def test_feature_gates_are_labels(tests: dict[str, Test]) -> None:
    name = "[sig-node] [DRA] control plane [FeatureGate:DRAResourcePoolStatus] [Alpha] should report"
    assert tests[name].gates == {"DRAResourcePoolStatus"}
    assert tests["registers plugin"].labels == ("DRA", "Feature:DynamicResourceAllocation")
    assert tests["registers plugin"].gates == frozenset()


def test_a_complete_run_has_no_problems() -> None:
    assert ginkgo_report.read(RECORD).problems == ()


def test_time_that_is_over_is_a_problem(tmp_path: Path) -> None:
    path = changed(tmp_path, SpecialSuiteFailureReasons=["Suite Timeout\n Elapsed"])
    assert ginkgo_report.read(path).problems == ("Suite Timeout Elapsed",)


def test_a_failed_set_up_is_a_problem_and_no_test(tmp_path: Path) -> None:
    (suite,) = json.loads(RECORD.read_text())
    set_up = next(node for node in suite["SpecReports"] if node["LeafNodeType"] == "BeforeSuite")
    broken = {**set_up, "State": "failed", "Failure": {"Message": "no node is ready"}}
    found = ginkgo_report.read(changed(tmp_path, SpecReports=[broken]))
    assert found.problems == ("BeforeSuite: no node is ready",)
    assert found.tests == ()


def test_no_tests_are_read(tmp_path: Path) -> None:
    assert ginkgo_report.read(changed(tmp_path, SpecReports=None)).tests == ()


@pytest.mark.parametrize("content", ["", "{}", "[]", "[{}, {}]", '[{"SpecReports": [1]}]'])
def test_something_else_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "ginkgo.json"
    path.write_text(content)
    with pytest.raises(StepError, match="expected a JSON report of ginkgo with one suite"):
        ginkgo_report.read(path)


def test_an_unknown_state_is_an_error(tmp_path: Path) -> None:
    (suite,) = json.loads(RECORD.read_text())
    node: dict[str, Any] = next(node for node in suite["SpecReports"] if node["LeafNodeType"] == "It")
    path = changed(tmp_path, SpecReports=[{**node, "State": "asleep"}])
    with pytest.raises(StepError, match="unknown state 'asleep'"):
        ginkgo_report.read(path)
