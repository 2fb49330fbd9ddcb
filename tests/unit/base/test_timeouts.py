"""The factor of all time-outs: where it comes from, and what it multiplies."""

from __future__ import annotations

import re
from datetime import timedelta

import click
import pytest

from mock_device.lab.base import command_line, timeouts
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _no_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(timeouts.VARIABLE, raising=False)
    monkeypatch.setattr(timeouts, "_profile_factor", 1.0)


def test_without_a_factor_time_outs_are_as_the_table_says() -> None:
    assert timeouts.factor() == 1
    assert Timeout.NODES_READY.seconds == Timeout.NODES_READY.nominal.total_seconds() == 400
    assert timeouts.seconds(MINUTE) == 60


def test_profile_multiplies_time_outs() -> None:
    timeouts.use_profile(2.5)
    assert Timeout.NODES_READY.seconds == 1000
    assert Timeout.NODES_READY.nominal == timedelta(seconds=400)
    assert timeouts.seconds(MINUTE) == 150


@pytest.mark.parametrize("value", ["0.5", "1", "3", "20", " 4 "])
def test_environment_takes_precedence_over_the_profile(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts.use_profile(2)
    monkeypatch.setenv(timeouts.VARIABLE, value)
    assert timeouts.seconds(MINUTE) == 60 * float(value)


def test_empty_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts.use_profile(2)
    monkeypatch.setenv(timeouts.VARIABLE, "")
    assert timeouts.factor() == 2


@pytest.mark.parametrize("value", ["fast", "0", "0.4", "20.1", "-1", "nan", "inf", "2x"])
def test_other_values_are_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(timeouts.VARIABLE, value)
    message = f"LAB_TIMEOUT_FACTOR: expected a number from 0.5 to 20, found '{value}'"
    with pytest.raises(StepError, match=re.escape(message)):
        timeouts.factor()


def test_child_processes_get_the_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts.use_profile(2.5)
    assert timeouts.environment() == {"LAB_TIMEOUT_FACTOR": "2.5"}
    monkeypatch.setenv(timeouts.VARIABLE, "3")
    assert timeouts.environment() == {"LAB_TIMEOUT_FACTOR": "3"}


def test_limit_of_a_test_is_not_multiplied() -> None:
    timeouts.use_profile(4)
    assert timeouts.seconds(timeouts.exactly(MINUTE)) == 60


def test_command_ends_at_once_with_a_wrong_factor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(timeouts.VARIABLE, "fast")
    done: list[str] = []

    @click.command("some")
    def some() -> None:
        done.append("work")

    assert command_line.run(some, []) == command_line.FAILED
    expected = "some: LAB_TIMEOUT_FACTOR: expected a number from 0.5 to 20, found 'fast'\n"
    assert (done, capsys.readouterr().err) == ([], expected)


def test_diagnosis_waits_less_for_a_guest_than_for_the_supervisor() -> None:
    assert Timeout.MONITOR_LOOK.nominal < Timeout.ANSWER.nominal
