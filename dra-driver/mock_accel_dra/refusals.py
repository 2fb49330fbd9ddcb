"""Slices that the API server refuses: the reason, and when to retry."""

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
"""Statuses that refuse one object; the next object may be accepted."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 30.0, 600.0


@dataclass(frozen=True)
class Refusal:
    """The API server's answer to one slice."""

    content: Object
    """``spec`` without the pool's generation and count, which do not influence the refusal."""
    error: ApiError
    pause: float
    retry_at: float
    """By time.monotonic()."""


class Refusals:
    """Remembers refused slices, so that they are retried with back-off and not at every event."""

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
        """Note that the API server accepted slice ``item``."""
        if self._by_slice.pop(name_of(item), None):
            klog.info(klog.STATE, "Slice is accepted again", slice=name_of(item))

    def keep(self, names: Container[str]) -> None:
        """Forget slices whose names are not among ``names``."""
        self._by_slice = {name: refusal for name, refusal in self._by_slice.items() if name in names}

    def known(self, item: Object) -> bool:
        """Whether a slice of this name was refused; it is retried before the others of its pool."""
        return name_of(item) in self._by_slice

    def denied(self) -> ApiError | None:
        """The error if every refusal is for missing permission (403); None otherwise."""
        errors = [refusal.error for refusal in self._by_slice.values()]
        return errors[0] if errors and all(error.status == http.client.FORBIDDEN for error in errors) else None

    def waiting(self, item: Object) -> ApiError | None:
        """The refusal because of which slice ``item`` must not be written now; None if it may be tried."""
        refusal = self._by_slice.get(name_of(item))
        if refusal is None or refusal.content != _content(item) or time.monotonic() >= refusal.retry_at:
            return None
        return refusal.error


def _content(item: Object) -> Object:
    return {**item["spec"], "pool": item["spec"]["pool"]["name"]}
