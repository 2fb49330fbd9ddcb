"""Background threads close descriptors, and a blocked close delays no other."""

from __future__ import annotations

import os
import queue
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


class Done:
    """Counts finished jobs."""

    def __init__(self) -> None:
        self._finished: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __call__(self) -> None:
        self._finished.put(None)

    def wait(self) -> None:
        """Wait for one job. Raises queue.Empty."""
        self._finished.get(timeout=DEADLINE_SECONDS)


def test_callback_when_all_are_closed(closer: Closer) -> None:
    fds = [os.dup(0) for _ in range(3)]
    done = Done()
    closer.close(fds, done)
    done.wait()
    for fd in fds:
        with pytest.raises(OSError):
            os.fstat(fd)


def test_blocked_closes_do_not_delay_others(blocked: Callable[[int], None]) -> None:
    closer = Closer()
    for _ in range(5):
        fd = os.dup(0)
        blocked(fd)
        closer.close([fd], lambda: None)
    done = Done()
    for _ in range(20):
        closer.close([os.dup(0)], done)
        done.wait()
    assert closer.busy
    closer.end(0.0)


def test_threads_are_reused(closer: Closer) -> None:
    before = threading.active_count()
    done = Done()
    for _ in range(200):
        closer.close([os.dup(0)], done)
        done.wait()
    assert threading.active_count() <= before


def test_any_thread_may_close(closer: Closer) -> None:
    done = Done()
    threads = [threading.Thread(target=lambda: closer.close([os.dup(0)], done)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for _ in threads:
        done.wait()
    closer.end(DEADLINE_SECONDS)
    assert not closer.busy


def test_bad_descriptor_is_harmless(closer: Closer) -> None:
    done = Done()
    closer.close([1 << 30], done)
    done.wait()
