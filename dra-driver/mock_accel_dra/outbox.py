"""Queue of writes to the API server, each kept until it is accepted.

One background thread does the writes. Temporary refusals are retried with
exponential back-off, and not before the time in ``Retry-After``.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from mock_accel_dra import klog
from mock_accel_dra.api import ApiError

UNREACHABLE = 0
"""Status of an ApiUnreachableError."""
_LATER = (
    UNREACHABLE,
    http.client.CONFLICT,
    http.client.TOO_MANY_REQUESTS,
    http.client.INTERNAL_SERVER_ERROR,
    http.client.BAD_GATEWAY,
    http.client.SERVICE_UNAVAILABLE,
    http.client.GATEWAY_TIMEOUT,
)
_EVERYTHING_WAITS = (UNREACHABLE, http.client.TOO_MANY_REQUESTS, http.client.SERVICE_UNAVAILABLE)
"""Statuses that concern all requests, not only the refused one."""
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_LONGEST_RETRY_AFTER_SECONDS = 300.0


@dataclass
class _Item:
    what: str
    write: Callable[[], object]
    lasting: bool
    attempts: int = 0
    due: float = 0.0
    complaint: str = ""
    """The last logged refusal."""


class Outbox:
    """Pending writes by key: a new write replaces the pending one of the same key."""

    def __init__(self, name: str, limit: int) -> None:
        """``limit`` bounds the pending writes that are not lasting; more are dropped and logged."""
        self._limit = limit
        self._items: dict[str, _Item] = {}
        self._changed = threading.Condition()
        self._failures = 0
        self._waits_until = 0.0
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def put(self, key: str, what: str, write: Callable[[], object], *, lasting: bool) -> None:
        """Queue ``write``, which raises ApiError if it is refused; ``what`` describes it in the log.

        A lasting write is retried until it is accepted, replaced or dropped. Another
        write is retried only after temporary refusals.
        """
        with self._changed:
            before = self._items.get(key)
            waiting = sum(not item.lasting for item in self._items.values())
            if before is None and not lasting and waiting >= self._limit:
                klog.warning("Report queue is full, dropped a report", what=what, waiting=waiting)
                return
            item = _Item(what, write, lasting)
            if before is not None:  # the back-off of the replaced write applies to the new one
                item.attempts, item.due, item.complaint = before.attempts, before.due, before.complaint
            self._items[key] = item
            self._changed.notify_all()

    def drop(self, key: str) -> None:
        """Remove the pending write of ``key``; it may already be running."""
        with self._changed:
            self._items.pop(key, None)

    def _run(self) -> None:
        while True:
            key, item = self._next()
            try:
                item.write()
            except ApiError as error:
                self._refused(key, item, error)
            else:
                self._accepted(key, item)

    def _next(self) -> tuple[str, _Item]:
        with self._changed:
            while True:
                key = min(self._items, key=lambda key: self._items[key].due, default=None)
                if key is None:
                    self._changed.wait()
                    continue
                pause = max(self._items[key].due, self._waits_until) - time.monotonic()
                if pause <= 0:
                    return key, self._items[key]
                self._changed.wait(pause)

    def _accepted(self, key: str, item: _Item) -> None:
        with self._changed:
            self._failures = 0
            if item.complaint:
                klog.info(klog.STATE, "Reported after retries", what=item.what, attempts=item.attempts + 1)
            if self._items.get(key) is item:
                del self._items[key]

    def _refused(self, key: str, item: _Item, error: ApiError) -> None:
        with self._changed:
            item.attempts += 1
            again = item.lasting or error.status in _LATER
            now = time.monotonic()
            after = min(error.retry_after or 0.0, _LONGEST_RETRY_AFTER_SECONDS)
            item.due = now + max(_pause(item.attempts), after)
            if error.status in _EVERYTHING_WAITS:
                self._failures += 1
                self._waits_until = now + max(_pause(self._failures), after)
            if item.complaint != str(error):  # log each reason once, not every attempt
                item.complaint = str(error)
                seconds = round(item.due - now, 1) if again else "never"
                klog.error("Not reported", what=item.what, err=error, retrySeconds=seconds)
            waiting = self._items.get(key)
            if waiting is item and not again:
                del self._items[key]
            elif waiting is not None and waiting is not item:  # replaced during the write
                waiting.attempts, waiting.due, waiting.complaint = item.attempts, item.due, item.complaint


def _pause(attempts: int) -> float:
    """Seconds before the next attempt."""
    pauses = min(attempts - 1, 30)  # enough for the longest pause, and keeps the power small
    return float(min(_FIRST_PAUSE_SECONDS * 2**pauses, _LONGEST_PAUSE_SECONDS))
