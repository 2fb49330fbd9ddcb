"""What a run of Kubernetes' own tests leaves: its tables and its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mock_device.acceptance import e2e_results
from mock_device.acceptance.e2e_results import Run
from mock_device.acceptance.known_failures import Judged, Verdict

PASSED = Judged("[DRA] registers", Verdict.PASSED, 12.4)
LISTED = Judged("[DRA] retries", Verdict.UPSTREAM, 3.0, "it forgets", "https://issues.example/1")
UNKNOWN = Judged("[DRA] waits", Verdict.UNKNOWN, 60.0, "timed out <after> 60 s")
NOT_RUN = Judged("[DRA] reports", Verdict.NOT_RUN, 0.0, "feature gate X is off")


def of(*tests: Judged, problems: tuple[str, ...] = ()) -> Run:
    return Run("v1.37.2", "default", "numa-cluster", 125.0, tests, problems)


@pytest.mark.parametrize(
    ("run", "red"),
    [
        (of(PASSED, NOT_RUN), False),
        (of(LISTED, PASSED), False),
        (of(Judged("a", Verdict.FIXED, 1.0)), False),
        (of(UNKNOWN, PASSED), True),
        (of(PASSED, problems=("Suite Timeout Elapsed",)), True),
    ],
)
def test_only_what_nobody_has_explained_is_red(run: Run, red: bool) -> None:
    assert run.red is red


def test_terminal_lists_what_is_not_simply_passed(tmp_path: Path) -> None:
    listed, notes = e2e_results.tables(of(UNKNOWN, LISTED, PASSED, NOT_RUN, problems=("no disk",)), tmp_path)
    assert [row[0] for row in listed.cells] == ["unknown failure", "fails: upstream"]
    assert [(note.name, note.text) for note in notes.notes] == [
        ("problem", "no disk"),
        ("unknown failure", "1"),
        ("fails: upstream", "1"),
        ("passed", "1"),
        ("not run", "1"),
        ("kubernetes", "v1.37.2"),
        ("duration", "2 min"),
        ("all tests", str(tmp_path / "tests.tsv")),
    ]


def test_terminal_has_no_table_when_all_passed(tmp_path: Path) -> None:
    (notes,) = e2e_results.tables(of(PASSED), tmp_path)
    assert notes.notes[0].name == "passed"


def test_files_have_all_tests(tmp_path: Path) -> None:
    e2e_results.write(of(UNKNOWN, LISTED, PASSED), tmp_path)
    lines = (tmp_path / "tests.tsv").read_text().splitlines()
    assert lines[0] == "verdict\tseconds\ttest\treason\treference"
    assert lines[2] == "fails: upstream\t3\t[DRA] retries\tit forgets\thttps://issues.example/1"
    assert len(lines) == 4
    found = json.loads((tmp_path / "tests.json").read_text())
    assert found["kubernetes"] == "v1.37.2"
    assert found["tests"][0] == {
        "test": "[DRA] waits",
        "verdict": "unknown failure",
        "seconds": 60.0,
        "reason": "timed out <after> 60 s",
        "reference": "",
    }


def test_page_escapes_and_links(tmp_path: Path) -> None:
    text = e2e_results.page(of(UNKNOWN, LISTED, problems=("a < b",)))
    assert "timed out &lt;after&gt; 60 s" in text
    assert '<a href="https://issues.example/1">' in text
    assert '<p class="unknown">a &lt; b</p>' in text
    assert "1 unknown failure, 1 fails: upstream; cluster default (numa-cluster), 2 min" in text
