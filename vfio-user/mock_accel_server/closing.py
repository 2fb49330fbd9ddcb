"""Closes what clients sent, in threads of its own.

close(2) can take as long as the owner of a file likes: a socket with SO_LINGER
whose peer does not read, a file of a FUSE server that does not answer. That holds
for a connection, too: file descriptors that were not received are closed with it.
A signal ends the wait of SO_LINGER; the one for FUSE ends with the FUSE server.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

INTERRUPT = signal.SIGUSR1

_Job = tuple[Sequence[int], Callable[[], None]]


def allow_interrupts() -> None:
    """Make ``Closer.interrupt`` work in this process; for its main thread, before it has servers."""
    signal.signal(INTERRUPT, lambda _number, _frame: None)


class Closer:
    """Has a thread for each job that is under way, so that one that blocks holds up no other.

    Threads that are done wait for the next job. ``fd`` is readable when jobs are
    done; ``collect`` then runs their callbacks in the thread that calls it.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._done: deque[Callable[[], None]] = deque()
        self._under_way = 0
        self._began: dict[int, float] = {}
        """Monotonic time at which each thread that is at work began its job, by the thread's identifier."""
        self._lock = threading.Lock()
        self._ended = False
        self._threads = 0
        self._start_thread()

    def close(self, fds: Sequence[int], done: Callable[[], None]) -> None:
        """Close ``fds`` soon; ``done`` is called by ``collect`` when all are closed."""
        self._under_way += 1
        if self._under_way > self._threads:
            with suppress(RuntimeError):  # the system allows no more threads: the job waits for one of those there are
                self._start_thread()
        self._jobs.put((fds, done))

    @property
    def busy(self) -> bool:
        """Jobs are under way, or done and not collected."""
        return self._under_way > 0

    def interrupt(self, seconds: float) -> None:
        """Interrupt each close(2) of a job that has taken ``seconds``, after ``allow_interrupts``."""
        if not callable(signal.getsignal(INTERRUPT)):
            return
        latest = time.monotonic() - seconds
        for thread, began in self._began.copy().items():
            if began < latest:
                signal.pthread_kill(thread, INTERRUPT)

    def collect(self) -> None:
        """Call back for each job that is done."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        while self._done:
            self._under_way -= 1
            self._done.popleft()()

    def end(self, seconds: float) -> None:
        """Wait for what is under way, ``seconds`` at most. A thread that is still blocked then is left to itself."""
        deadline = time.monotonic() + seconds
        while len(self._done) < self._under_way and time.monotonic() < deadline:
            time.sleep(0.001)
        self.collect()
        for _ in range(self._threads):
            self._jobs.put(None)
        with self._lock:
            self._ended = True
            os.close(self.fd)

    def _start_thread(self) -> None:
        threading.Thread(target=self._work, daemon=True, name="closer").start()
        self._threads += 1

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            fds, done = job
            self._began[threading.get_ident()] = time.monotonic()
            for fd in fds:
                with suppress(OSError):  # EIO, EINTR and others: the descriptor is closed all the same
                    os.close(fd)
            del self._began[threading.get_ident()]
            self._done.append(done)
            with self._lock:
                if not self._ended:
                    os.eventfd_write(self.fd, 1)
