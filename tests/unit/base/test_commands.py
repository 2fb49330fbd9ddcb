"""Running commands."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mock_device.lab.base import commands
from mock_device.lab.base.errors import StepError


def test_run_reports_the_failure_and_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(StepError) as caught:
        commands.run(["sh", "-c", "echo broken >&2; exit 3"], log=log, timeout=10)
    assert "ended with 3: broken" in str(caught.value)
    assert str(log) in str(caught.value)
    assert "broken" in log.read_text()


def test_run_kills_the_process_group_after_the_timeout(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(StepError, match="did not end within 1 s"):
        commands.run(["sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait"], timeout=1)
    deadline = time.monotonic() + 5
    state = Path(f"/proc/{int(pid_file.read_text())}/stat")
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_unknown_command_is_a_step_error() -> None:
    with pytest.raises(StepError, match="cannot run no-such-command"):
        commands.run(["no-such-command"], timeout=1)


def test_commands_are_found_outside_an_ordinary_users_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin")
    assert commands.run(["sh", "-c", "echo $PATH"], timeout=10) == b"/bin:/usr/sbin:/sbin\n"
