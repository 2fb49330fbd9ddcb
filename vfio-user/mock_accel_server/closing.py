"""Close file descriptors of clients in background threads.

The owner of a file can delay close(2): a socket with SO_LINGER whose peer does not
read, or a file of a FUSE server that does not respond. The same holds for a
connection, because file descriptors that were not received are closed with it.
A signal interrupts the wait of SO_LINGER; the wait for FUSE lasts until the FUSE
server ends.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

INTERRUPT = signal.SIGUSR1

_Job = tuple[Sequence[int], Callable[[], None]]


def allow_interrupts() -> None:
    """Enable ``Closer.interrupt`` in this process; call it in the main thread before servers start."""
    signal.signal(INTERRUPT, lambda _number, _frame: None)


class Closer:
    """Runs each job in its own thread, so that a blocked job does not delay others. Idle threads are reused."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._began: dict[int, float] = {}
        """Monotonic time at which each busy thread began its job, by the thread's identifier."""
        self._changed = threading.Condition()
        self._unfinished = 0
        self._threads = 0
        self._start_thread()

    def close(self, fds: Sequence[int], done: Callable[[], None]) -> None:
        """Close ``fds`` soon; then call ``done`` in another thread. Any thread may call this."""
        with self._changed:
            self._unfinished += 1
            if self._unfinished > self._threads:
                with suppress(RuntimeError):  # no more threads allowed: the job waits for an existing one
                    self._start_thread()
        self._jobs.put((fds, done))

    @property
    def busy(self) -> bool:
        """Whether jobs are running or waiting."""
        return self._unfinished > 0

    def interrupt(self, seconds: float) -> None:
        """Interrupt the close(2) of each job that has run for ``seconds``; needs ``allow_interrupts``."""
        if not callable(signal.getsignal(INTERRUPT)):
            return
        latest = time.monotonic() - seconds
        for thread, began in self._began.copy().items():
            if began < latest:
                signal.pthread_kill(thread, INTERRUPT)

    def end(self, seconds: float) -> None:
        """Wait at most ``seconds`` for running jobs; then abandon threads that are still blocked."""
        with self._changed:
            self._changed.wait_for(lambda: not self._unfinished, seconds)
        for _ in range(self._threads):
            self._jobs.put(None)

    def _start_thread(self) -> None:
        threading.Thread(target=self._work, daemon=True, name="closer").start()
        self._threads += 1

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            fds, done = job
            self._began[threading.get_ident()] = time.monotonic()
            for fd in fds:
                with suppress(OSError):  # even after EIO or EINTR the descriptor is closed
                    os.close(fd)
            del self._began[threading.get_ident()]
            with self._changed:
                self._unfinished -= 1
                self._changed.notify_all()
            done()
