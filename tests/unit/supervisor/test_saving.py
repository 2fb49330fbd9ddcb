"""Setting the clock of a restored guest."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.supervisor.saving import set_clock


class Guest:
    """A fake ``lab-clock``; waits the next of ``delays``, in seconds, before it answers a line."""

    def __init__(self, port: Path, delays: list[float], answer: bytes = b"set\n") -> None:
        self.port = port
        self.delays = delays
        self.answer = answer
        self.behind: list[float] = []

    async def set_by_the_lab(self) -> None:
        async with await asyncio.start_unix_server(self._serve, str(self.port)):
            await set_clock(self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await asyncio.sleep(self.delays[len(self.behind)])
            self.behind.append(time.time() - float(line))
            writer.write(self.answer)
        writer.close()


@pytest.fixture
def port(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("c") / "clock.sock"


def test_clock_of_a_quick_guest_is_set_once(port: Path) -> None:
    guest = Guest(port, [0.0])
    asyncio.run(guest.set_by_the_lab())
    assert len(guest.behind) == 1


def test_clock_of_a_slow_guest_is_set_again_until_it_is_right(port: Path) -> None:
    guest = Guest(port, [0.7, 0.6, 0.0])
    asyncio.run(guest.set_by_the_lab())
    assert len(guest.behind) == 3
    assert guest.behind[-1] < 0.5


def test_guest_that_stays_slow_is_an_error(port: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timeout.CLOCK, "nominal", timedelta(seconds=1))
    with pytest.raises(StepError, match=r"has not set its clock in 1 s: the last try took 0\.[67] s"):
        asyncio.run(Guest(port, [0.6, 0.6, 0.6]).set_by_the_lab())


def test_any_other_answer_is_an_error(port: Path) -> None:
    with pytest.raises(StepError, match="invalid date"):
        asyncio.run(Guest(port, [0.0], b"invalid date\n").set_by_the_lab())
