"""Performance figures, limits, the file that stores them, and charts."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from support.schema_check import objections

from mock_device.checks.driver.metrics import Histogram
from mock_device.checks.errors import CheckError
from mock_device.checks.performance import chart, performance
from mock_device.checks.performance.chart import Bar
from mock_device.checks.performance.performance import Measured
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.variables import LIMITS

STARTS = [3.0, 1.0, 2.0, 10.0]


@pytest.mark.parametrize(("percent", "expected"), [(1, 1), (50, 50), (95, 95), (100, 100)])
def test_percentile_is_the_nearest_rank(percent: int, expected: int) -> None:
    assert performance.percentile(range(100, 0, -1), percent) == expected


def test_percentile_of_few_values_and_without_values() -> None:
    assert performance.percentile([7.0], 95) == 7.0
    assert performance.percentile(STARTS, 95) == 10.0
    with pytest.raises(ValueError, match="at least one value"):
        performance.percentile([], 95)


def test_median_is_compared_with_the_limit() -> None:
    found = performance.figure("pod-start", 4, STARTS, limit=2.5)
    assert (found.value, found.mean, found.longest, found.count) == (2.5, 4.0, 10.0, 4)
    performance.check(found)
    with pytest.raises(CheckError) as caught:
        performance.check(performance.figure("pod-start", 4, STARTS, limit=2.4))
    assert str(caught.value).startswith("pod-start (4): expected at most 2.4 s, found 2.5 s (median of 4); limits are")


def test_figure_of_a_histogram_has_no_median() -> None:
    found = performance.of_histogram("prepare", 10, Histogram(2, 0.5, {0.25: 1, 0.5: 2}))
    assert (found.value, found.median, found.p95) == (0.25, None, 0.5)
    above = performance.of_histogram("prepare", 10, Histogram(2, 50.0, {10.0: 1}))
    assert above.p95 is None
    assert performance.table([found, above]).as_text().splitlines() == [
        "figure\tsize\tunit\tcount\tmedian\tmean\tp95\tlongest\tlimit",
        "prepare\t10\ts\t2\t-\t0.25\t0.5\t-\t-",
        "prepare\t10\ts\t2\t-\t25\t-\t-\t-",
    ]


def test_limits_of_the_project_are_valid() -> None:
    limits = performance.load_limits(LIMITS)
    assert limits.of("scan", 6, "kvm") == 0.1
    assert limits.of("scan", 7, "kvm") == limits.of("scan", 100, "kvm") == 1
    assert limits.of("sysfs-read", 1, "kvm") == 0.005
    assert limits.of("allocation", 10, "kvm") == 30
    assert limits.of("allocation", 100, "tcg") == 300 * limits.factor
    with pytest.raises(CheckError, match="expected a limit of allocation for 101, found limits for 10, 100"):
        limits.of("allocation", 101, "kvm")
    with pytest.raises(CheckError, match="expected a limit of teardown for 1, found limits for no size"):
        limits.of("teardown", 1, "kvm")


# The JSON schema finds these faults, too.
BAD_LIMITS = [
    ("scan: {6: 0.1}", "expected a mapping with a number above 0 for 'factor-without-hardware-virtualisation'"),
    ("factor-without-hardware-virtualisation: true", "expected a mapping with a number above 0"),
    ("factor-without-hardware-virtualisation: 2\nscan: 3", "scan: expected seconds by size, found 3"),
    ("factor-without-hardware-virtualisation: 2\nscan: {6: fast}", "scan: expected seconds by size, found {6: 'f"),
    ("factor-without-hardware-virtualisation: 2\nscan: {6: 0}", "scan: expected seconds by size, found {6: 0}"),
    ("factor-without-hardware-virtualisation: 2\nother: {a: 1}", "other: expected seconds by size, found {'a': 1}"),
]


@pytest.mark.parametrize(("text", "message"), [("scan: [", "cannot be read"), *BAD_LIMITS])
def test_invalid_limits_are_rejected_with_file_and_reason(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text(text)
    with pytest.raises(StepError) as caught:
        performance.load_limits(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(("text", "message"), BAD_LIMITS)
def test_schema_rejects_invalid_limits(text: str, message: str) -> None:
    assert objections(LIMITS.parents[1] / "limits.schema.json", text), message


def measured(suite: str, *values: float) -> Measured:
    figures = tuple(performance.figure("scan", 6, [value], 1.0) for value in values)
    return Measured(suite, "2026-01-01T00:00:00+00:00", "one", "numa-cluster", "tcg", figures)


def suites(path: Path) -> dict[str, list[float]]:
    entries = json.loads(path.read_text())["suites"]
    return {entry["suite"]: [figure["median"] for figure in entry["figures"]] for entry in entries}


def test_file_keeps_the_last_figures_of_each_suite(tmp_path: Path) -> None:
    path = tmp_path / performance.FILE
    for item in (measured("A", 1), measured("B", 2), measured("A", 3, 4)):
        performance.write(path, item)
    assert suites(path) == {"B": [2], "A": [3, 4]}
    assert json.loads(path.read_text())["suites"][0]["accelerator"] == "tcg"
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_parallel_suites_are_merged(tmp_path: Path) -> None:
    path = tmp_path / performance.FILE
    performance.merge([], path)
    assert not path.exists()
    performance.write(path, measured("A", 1))
    for number, item in enumerate((measured("A", 2), measured("B", 3))):
        (tmp_path / str(number)).mkdir()
        performance.write(tmp_path / str(number) / performance.FILE, item)
    performance.merge(tmp_path.glob(f"*/{performance.FILE}"), path)
    assert suites(path) == {"A": [2], "B": [3]}


def test_invalid_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / performance.FILE
    path.write_text("[]")
    with pytest.raises(StepError, match=r"performance.json: expected figures of suites, found something else"):
        performance.write(path, measured("A", 1))
    assert path.read_text() == "[]"


def test_bars_have_one_scale() -> None:
    image = ElementTree.fromstring(chart.svg("Scan <6>", [Bar("a & b", 0.5, 1.0), Bar("slow", 2.0, 1.0)], "s"))
    name = "{http://www.w3.org/2000/svg}"
    first, second = image.iter(f"{name}rect")
    assert float(second.get("width", 0)) == 4 * float(first.get("width", 0))
    assert first.get("fill") != second.get("fill")
    lines = [line.get("x1") for line in image.iter(f"{name}line")]
    assert len(lines) == 2 and lines[0] == lines[1]
    texts = [text.text for text in image.iter(f"{name}text")]
    assert texts == ["Scan <6>", "a & b", "0.5 s of 1", "slow", "2 s of 1"]


def test_chart_without_values_is_empty() -> None:
    assert 'width="0.0"' in chart.svg("None", [Bar("zero", 0.0)], "s")
    assert "<rect" not in chart.svg("None", [], "s")
