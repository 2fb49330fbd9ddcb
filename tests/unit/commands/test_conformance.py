"""The command `lab conformance`: from the options to the files and the exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mock_device.commands import cli
from mock_device.conformance import run
from mock_device.conformance.results import Conformance, Promise, State

PASSED = Promise("works", "It Works", "", "KEP-1", State.PASSED)
FOUND = Conformance("go-accel.example.com", "v1.37.2", "default", "2026-11-28T12:00:00", (PASSED,))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Command lines of Robot Framework, which leaves an output."""
    commands: list[list[str]] = []

    def pretend(command: list[str], folder: Path) -> Path:
        commands.append(command)
        return folder / "output.xml"

    monkeypatch.setattr(run, "run", pretend)
    monkeypatch.setattr(run, "read", lambda *_: FOUND)
    return commands


def test_driver_is_run_and_reported(runs: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["conformance", "--driver", "go-driver", "--short", "--outputdir", str(tmp_path)]) == 0
    (command,) = runs
    assert command[command.index("--exclude") + 1] == "long"
    assert command[command.index("--variable") + 1].endswith("/variables/drivers/go-driver.yaml")
    assert {path.name for path in tmp_path.iterdir()} == {f"conformance.{ending}" for ending in ("json", "html", "md")}
    assert "passed\tIt Works" in capsys.readouterr().out


def test_recorded_run_is_reported_as_json(
    runs: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output.xml"
    output.touch()
    argv = ["conformance", "--driver", "go-driver", "--from", str(output), "--json", "--outputdir", str(tmp_path)]
    assert cli.main(argv) == 0
    assert runs == []
    assert json.loads(capsys.readouterr().out)["counts"]["passed"] == 1


@pytest.mark.usefixtures("runs")
def test_failed_promise_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failed = replace(FOUND, promises=(PASSED, replace(PASSED, state=State.FAILED)))
    monkeypatch.setattr(run, "read", lambda *_: failed)
    assert cli.main(["conformance", "--outputdir", str(tmp_path)]) == 1


def test_unknown_driver_is_an_error_before_anything_runs(
    runs: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["conformance", "--driver", "nobody", "--outputdir", str(tmp_path)]) == 1
    assert runs == []
    assert "no driver 'nobody'; available: go-driver, mock-accel" in capsys.readouterr().err
