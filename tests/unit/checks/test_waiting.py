"""Polling with a deadline."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from mock_device.checks import waiting
from mock_device.checks.errors import CheckError
from mock_device.checks.waiting import Deadline, until_no_complaints
from mock_device.lab.base import timeouts


class Answers:
    """Returns one list of complaints per call; the last list is repeated."""

    def __init__(self, *lists: list[str], seconds: float = 0.0) -> None:
        self.lists = list(lists)
        self.seconds = seconds
        self.asked = 0

    def __call__(self) -> list[str]:
        time.sleep(self.seconds)
        self.asked += 1
        return self.lists[min(self.asked, len(self.lists)) - 1]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_POLL_SECONDS", 0.001)


def test_wait_ends_with_the_first_answer_without_complaints() -> None:
    answers = Answers(["mock0"], ["mock0"], [], ["mock1"])
    until_no_complaints(answers, timedelta(seconds=60), "not free")
    assert answers.asked == 3


def test_error_has_the_last_complaints() -> None:
    answers = Answers(["mock0: 1", "mock3: 1"], ["mock3: 1", "mock4: 1"], seconds=0.01)
    with pytest.raises(CheckError) as caught:
        until_no_complaints(answers, timedelta(seconds=0.3), "devices that were not released")
    assert str(caught.value) == "devices that were not released after 0 s:\nmock3: 1\nmock4: 1"


@pytest.mark.parametrize("seconds", [0, -1])
def test_check_runs_once_without_time(seconds: float) -> None:
    answers = Answers(["mock0"], [])
    with pytest.raises(CheckError, match="\nmock0$"):
        until_no_complaints(answers, timedelta(seconds=seconds), "not free")
    assert answers.asked == 1


def test_check_runs_again_after_a_slow_answer() -> None:
    answers = Answers(["mock0"], [], seconds=0.35)
    until_no_complaints(answers, timedelta(seconds=0.3), "not free")
    assert answers.asked == 2


def test_wait_is_multiplied_on_a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(timeouts.VARIABLE, "20")
    begin = time.monotonic()
    with pytest.raises(CheckError, match="not free after 1 s:\nmock0"):
        until_no_complaints(Answers(["mock0"]), timedelta(seconds=0.05), "not free")
    assert time.monotonic() - begin >= 1


def test_steps_of_a_deadline_are_multiplied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(timeouts.VARIABLE, "10")
    left = timeouts.seconds(Deadline(timedelta(minutes=1)).left())
    assert 590 < left <= 600


def test_last_step_of_a_deadline_has_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(timeouts.VARIABLE, "10")
    assert timeouts.seconds(Deadline(timedelta(seconds=0)).left()) == 1
