"""Progress of long work without a terminal."""

from __future__ import annotations

import io
import re
import threading
from pathlib import Path

import pytest
from rich.console import Console

from mock_device.lab.base import progress


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(progress, "_stderr", stream)
    monkeypatch.setattr(progress, "_console", Console(file=stream, highlight=False, soft_wrap=True))
    return stream


def lines(output: io.StringIO) -> list[str]:
    return re.sub(r"\d+\.\d s", "N s", output.getvalue()).splitlines()


def test_nested_steps_are_indented(output: io.StringIO) -> None:
    with progress.step("outer"), progress.step("inner [1]"):
        pass
    assert lines(output) == ["» outer", "  » inner [1]", "  ✓ inner [1] (N s)", "✓ outer (N s)"]


def test_failed_step_names_its_log(output: io.StringIO) -> None:
    with pytest.raises(ValueError), progress.step("work", Path("/logs/work.log")):
        raise ValueError
    assert lines(output)[-1] == "✗ work (N s), log: /logs/work.log"


def test_step_with_its_own_progress_is_not_interrupted(output: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_REMINDER_SECONDS", 0.01)
    with progress.step("robot", speaks=True):
        with progress.step("inner"):
            while "… inner" not in output.getvalue():
                pass
        begin = len(output.getvalue())
        threading.Event().wait(0.1)
        assert output.getvalue()[begin:] == ""


def test_only_the_innermost_step_reports_its_time(output: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_REMINDER_SECONDS", 0.01)
    with progress.step("outer"):
        with progress.step("inner"):
            while "… inner" not in output.getvalue():
                pass
            begin = len(output.getvalue())
            while output.getvalue().count("… inner") < 3:
                pass
            assert "… outer" not in output.getvalue()[begin:]
        while "… outer" not in output.getvalue():
            pass
