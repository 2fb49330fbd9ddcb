"""The final summary of ``make all-tests``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from mock_device.acceptance import all_tests, cli, report
from mock_device.acceptance.report import SuiteEnd, Summary
from mock_device.lab.base import tables

SUITES = [
    SuiteEnd("NUMA", "pool-1", 9, 0, 0, 79.4, [], ""),
    SuiteEnd("SR-IOV", "pool-2", 10, 1, 2, 200.0, ["Flaky"], ""),
    SuiteEnd("Dense", "", 0, 0, 5, 0.2, [], ""),
]


def test_summary_has_each_scenario_and_the_sums() -> None:
    text = tables.text(
        *all_tests.tables(Summary(SUITES, ["Suites.PCIe"]), 3725, Path("/r/report.html")), between="\n\n"
    )
    assert text.splitlines() == [
        "scenario\tresult\tpassed\tfailed\tskipped\tduration",
        "NUMA\tpassed\t9\t0\t0\t1 min 19 s",
        "SR-IOV\tfailed\t10\t1\t2\t3 min 20 s",
        "Dense\tskipped\t0\t0\t5\t0 s",
        "Suites.PCIe\tlost\t0\t1\t0\t-",
        "",
        "passed\t19",
        "failed\t2",
        "skipped\t7",
        "total\t28",
        "duration\t62 min 5 s",
        "report\t/r/report.html",
    ]


def test_summary_written_by_acceptance_is_read(tmp_path: Path) -> None:
    summary = Summary(SUITES, ["Suites.PCIe"])
    assert report.read_summary(tmp_path) is None
    (tmp_path / "acceptance.json").write_text(json.dumps({**asdict(summary), "retired": []}))
    assert report.read_summary(tmp_path) == summary


def test_invalid_summary_is_rejected_with_its_file(tmp_path: Path) -> None:
    for content in ("", "[]", '{"suites": [{"odd": 1}], "lost": []}', '{"suites": []}'):
        (tmp_path / "acceptance.json").write_text(content)
        with pytest.raises(ValueError, match="acceptance.json: expected a summary of acceptance: "):
            report.read_summary(tmp_path)


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["--clusters", "0"], 2), (["--bad"], 2)])
def test_help_and_bad_usage_run_nothing(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "main", lambda _: pytest.fail("it would run the suites"))
    assert all_tests.main(arguments) == code
    said = capsys.readouterr()
    assert "no summary" not in said.err
    assert ("--outputdir" in said.out) == (code == 0)


def test_run_that_cannot_start_keeps_its_exit_code_and_shows_no_earlier_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "acceptance.json").write_text(json.dumps({**asdict(Summary(SUITES)), "retired": []}))
    code = all_tests.main(["--topology", "there-is-none", "--outputdir", str(tmp_path)])
    said = capsys.readouterr()
    assert code == 1
    assert "no topology 'there-is-none'" in said.err
    assert "no summary: acceptance ended with 1" in said.err
    assert said.out == ""
