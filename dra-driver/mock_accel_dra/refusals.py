"""Slices that the API server refuses: which, why, and when to try again."""

from __future__ import annotations

import http.client
import time
from collections.abc import Container
from dataclasses import dataclass

from mock_accel_dra import klog
from mock_accel_dra.api import ApiError
from mock_accel_dra.slices import Object, name_of

REFUSED = frozenset(
    {
        http.client.BAD_REQUEST,
        http.client.FORBIDDEN,
        http.client.REQUEST_ENTITY_TOO_LARGE,
        http.client.UNPROCESSABLE_ENTITY,
    }
)
"""Statuses that say that this object is not taken; the next one may be."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 30.0, 600.0


@dataclass(frozen=True)
class Refusal:
    """The API server's answer to one slice."""

    content: Object
    """``spec`` without the pool's generation and count: they do not matter for whether it is taken."""
    error: ApiError
    pause: float
    retry_at: float
    """By time.monotonic()."""


class Refusals:
    """Remembers what was refused, so that it is tried again with back-off and not at every event."""

    def __init__(self) -> None:
        self._by_slice: dict[str, Refusal] = {}

    def add(self, item: Object, error: ApiError) -> None:
        """Note that slice ``item`` was refused."""
        content, before = _content(item), self._by_slice.get(name_of(item))
        pause = _FIRST_PAUSE_SECONDS
        if before is not None and before.content == content:
            pause = min(2 * before.pause, _LONGEST_PAUSE_SECONDS)
        else:
            klog.error("Slice is refused", slice=name_of(item), err=error, retrySeconds=pause)
        self._by_slice[name_of(item)] = Refusal(content, error, pause, time.monotonic() + pause)

    def taken(self, item: Object) -> None:
        """Note that the API server has taken slice ``item``."""
        if self._by_slice.pop(name_of(item), None):
            klog.info(klog.STATE, "Slice is not refused any more", slice=name_of(item))

    def keep(self, names: Container[str]) -> None:
        """Forget slices whose names are not among ``names``."""
        self._by_slice = {name: refusal for name, refusal in self._by_slice.items() if name in names}

    def known(self, item: Object) -> bool:
        """Whether a slice of this name was refused; it is tried before the others of its pool."""
        return name_of(item) in self._by_slice

    def denied(self) -> ApiError | None:
        """The error when all that was refused was because the driver may not write it."""
        errors = [refusal.error for refusal in self._by_slice.values()]
        return errors[0] if errors and all(error.status == http.client.FORBIDDEN for error in errors) else None

    def waiting(self, item: Object) -> ApiError | None:
        """Why slice ``item`` is not to be written now; None when it may be tried."""
        refusal = self._by_slice.get(name_of(item))
        if refusal is None or refusal.content != _content(item) or time.monotonic() >= refusal.retry_at:
            return None
        return refusal.error


def _content(item: Object) -> Object:
    return {**item["spec"], "pool": item["spec"]["pool"]["name"]}
