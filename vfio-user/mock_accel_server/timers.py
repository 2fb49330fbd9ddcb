"""Timers of an event loop in a heap: the cost of an event does not depend on their number."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

_NEVER = float("inf")


class Timer:
    """Runs its action once, ``seconds`` after ``start``, unless it is stopped before.

    Any thread may start and stop it. The action runs in the loop's thread.
    """

    def __init__(self, timers: Timers, seconds: float, action: Callable[[], None]) -> None:
        self._timers = timers
        self._seconds = seconds
        self.action = action
        self.due = _NEVER
        """Monotonic time; infinity while it is stopped."""
        self.queued = False
        """Whether it has its entry in the heap, at ``due`` or before."""

    @property
    def running(self) -> bool:
        return self.due != _NEVER

    def start(self) -> None:
        """Start or restart the timer."""
        self._timers.start(self, time.monotonic() + self._seconds)

    def stop(self) -> None:
        self._timers.stop(self)


class Timers:
    """A heap with at most one entry per timer.

    The duration of a timer is fixed, so a restart only moves its due time later. Its
    entry stays where it is and is corrected when it reaches the top.
    """

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        """``wake`` is called when ``timeout`` has become shorter: the loop's thread may be waiting for longer."""
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._lock = threading.Lock()
        self._wake = wake

    def timer(self, seconds: float, action: Callable[[], None]) -> Timer:
        """A new, stopped timer. ``run_due`` runs its ``action``."""
        return Timer(self, seconds, action)

    def start(self, timer: Timer, due: float) -> None:
        """Let ``timer`` run until ``due``; called by Timer."""
        with self._lock:
            timer.due = due
            first = self._queue(timer)
        if first:
            self._wake()

    def stop(self, timer: Timer) -> None:
        """Stop ``timer``; its entry stays. Called by Timer."""
        with self._lock:
            timer.due = _NEVER

    def _queue(self, timer: Timer) -> bool:
        """Add ``timer`` to the heap unless it is there; whether it is the first one now."""
        if timer.queued:
            return False
        timer.queued = True
        heapq.heappush(self._heap, (timer.due, next(self._order), timer))
        return self._heap[0][2] is timer

    def timeout(self) -> float | None:
        """Seconds until the next timer is due, 0 if one is, None if none runs."""
        with self._lock:
            first = self._first()
        return None if first is None else max(0.0, first.due - time.monotonic())

    def _first(self) -> Timer | None:
        """The timer that is due next; corrects the entries before it."""
        heap = self._heap
        while heap:
            queued_for, _, timer = heap[0]
            if timer.due == queued_for:
                return timer
            heapq.heappop(heap)
            timer.queued = False
            if timer.running:
                self._queue(timer)
        return None

    def run_due(self) -> None:
        """Run the action of every timer that is due."""
        while timer := self._take_due():
            timer.action()

    def _take_due(self) -> Timer | None:
        """Stop and return the next timer that is due."""
        with self._lock:
            timer = self._first()
            if timer is None or timer.due > time.monotonic():
                return None
            heapq.heappop(self._heap)
            timer.queued = False
            timer.due = _NEVER
            return timer
