"""Background threads close descriptors, and a blocked close delays no other."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator

import pytest
from mock_accel_server.closing import Closer

DEADLINE_SECONDS = 10.0


@pytest.fixture
def closer() -> Iterator[Closer]:
    closer = Closer()
    yield closer
    closer.end(DEADLINE_SECONDS)


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Function that makes the close of a descriptor block until the end of the test."""
    held: set[int] = set()
    release = threading.Event()
    close = os.close

    def closed(fd: int) -> None:
        if fd in held:
            assert release.wait(DEADLINE_SECONDS)
        close(fd)

    monkeypatch.setattr(os, "close", closed)
    yield held.add
    release.set()


def collect(closer: Closer) -> None:
    assert select.select([closer.fd], [], [], DEADLINE_SECONDS)[0], "not closed within the time limit"
    closer.collect()


def test_callback_when_all_are_closed(closer: Closer) -> None:
    fds = [os.dup(0) for _ in range(3)]
    done: list[int] = []
    closer.close(fds, lambda: done.append(1))
    while not done:
        collect(closer)
    for fd in fds:
        with pytest.raises(OSError):
            os.fstat(fd)


def test_blocked_closes_do_not_delay_others(blocked: Callable[[int], None]) -> None:
    closer = Closer()
    for _ in range(5):
        fd = os.dup(0)
        blocked(fd)
        closer.close([fd], lambda: None)
    done: list[int] = []
    for number in range(20):
        closer.close([os.dup(0)], lambda number=number: done.append(number))  # type: ignore[misc]
        while len(done) <= number:
            collect(closer)
    closer.end(0.0)


def test_threads_are_reused(closer: Closer) -> None:
    before = threading.active_count()
    done: list[int] = []
    for number in range(200):
        closer.close([os.dup(0)], lambda: done.append(1))
        while len(done) <= number:
            collect(closer)
    assert threading.active_count() <= before


def test_bad_descriptor_is_harmless(closer: Closer) -> None:
    done: list[int] = []
    closer.close([1 << 30], lambda: done.append(1))
    while not done:
        collect(closer)
