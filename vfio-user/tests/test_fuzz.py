"""Fuzzing with twenty thousand messages; ``make fuzz`` sends a million, with a new seed each time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz_messages import Message, random_message, random_version
from fuzz_peers import ANSWER_SECONDS
from fuzz_server import DEVICES, Run
from mock_accel_server import protocol

MESSAGES = 20_000
SEED = 21


@pytest.mark.slow
def test_server_survives_and_other_devices_answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``Run`` raises FuzzError after a crash, an open descriptor or a lost device."""
    report = Run(SEED, MESSAGES).run(folder)
    with capsys.disabled():
        print(f"\n{report}")
    assert DEVICES == 36
    assert report.messages >= MESSAGES
    assert report.answered - report.refused > MESSAGES / 10, "too many messages are noise"
    assert report.refused > MESSAGES / 10
    assert report.attacks > MESSAGES / 500
    assert report.witnessed > 100
    assert report.slowest < ANSWER_SECONDS


def messages(seed: int) -> list[Message]:
    source = random.Random(seed)
    return [random_message(source) for _ in range(2000)]


def test_messages_depend_only_on_the_seed() -> None:
    assert messages(1) == messages(1) != messages(2)
    assert random_version(random.Random(1)) == random_version(random.Random(1))


def test_messages_are_of_all_kinds() -> None:
    found = messages(3)
    assert {message.command for message in found} >= {2, 3, 4, 5, 7, 8, 9, 10, 13, 15, 0xFFFF}
    assert {message.fds for message in found} >= {0, 1, 2, 16, 17, protocol.SCM_MAX_FDS}
    assert any(message.answered for message in found)
    assert any(message.whole and not message.answered for message in found)
    assert any(not message.whole for message in found)
