"""Log output that clients can provoke is limited."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from mock_accel_server.notices import WINDOW_SECONDS, Notices, shortened
from mock_accel_server.protocol import Command
from mock_accel_server.timers import Timers
from running_server import Connect
from server_process import ServerProcess
from vfio_user_client import Client

REFUSALS = 20_000
MOST_BYTES = 10_000


def test_refused_commands_do_not_fill_the_log(folder: Path) -> None:
    """Without the limit, 9,000 refusals a second wrote 0.8 MB a second."""
    server = ServerProcess(folder)
    try:
        with Client(folder / "mock0.sock") as client:
            for _ in range(REFUSALS // 100):
                for _ in range(100):
                    client.send(Command.DMA_READ)
                for _ in range(100):
                    client.receive()
        assert server.log.stat().st_size < MOST_BYTES
    finally:
        server.close()
    text = server.log.read_text()
    assert "command 11 refused (Operation not supported)" in text
    left_out = sum(int(line.split(": ")[1].split()[0]) for line in text.splitlines() if "left out" in line)
    written = text.count("refused")
    assert written + left_out == REFUSALS, text


def test_new_connections_have_no_new_limit(connect: Connect, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A second client, refused a hundred times."""
    first = connect()
    for _ in range(100):
        with Client(folder / "pf.sock", negotiate=False) as second:
            assert second.at_end()
    assert first.read(0, 4) == b"KCOM"
    assert len([record for record in caplog.records if "second client refused" in record.message]) < 20


def test_window_ends_with_the_count(caplog: pytest.LogCaptureFixture) -> None:
    timers = Timers()
    notices = Notices("mock0", timers, seconds=0.0)
    for number in range(25):
        notices.warning(f"line {number}")
    assert len(caplog.records) == 10
    timers.run_due()
    assert caplog.records[-1].message == "mock0: 15 more messages within 0 s left out"
    notices.warning("again")
    assert caplog.records[-1].message == "mock0: again"
    timers.run_due()
    notices.flush()
    assert len(caplog.records) == 12, "a window without suppressed lines adds none"
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_long_texts_are_shortened() -> None:
    assert shortened("short") == "short"
    assert shortened("x" * 1000, 10) == "xxxxxxxxxx… (990 more characters)"
    assert WINDOW_SECONDS >= 1
