"""Prepared claims that no pod on this node may use any more, and that the kubelet does not unprepare.

That happens when the kubelet lost its own record, or when somebody took the
allocation away. The API server alone cannot say that a device is free: after a
deletion by force, or on a node that was cut off, the claim is gone while the
container still ends. So such a claim is released only when the kubelet was there
for longer than it needs to unprepare it (`kubelet.Presence`), and did not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from mock_accel_dra import allocations, klog
from mock_accel_dra.api import CLAIMS, ApiError
from mock_accel_dra.prepare import PrepareError, Preparer
from mock_accel_dra.state import State

GRACE_SECONDS = 75.0
"""The kubelet looks every 60 s; the rest is for its call and for a slow node."""
_SHORTEST_PAUSE_SECONDS = 5.0
"""Between two looks that something asked for."""

Object = dict[str, Any]


class Api(Protocol):
    """What is needed of the Kubernetes API."""

    def get(self, path: str, params: dict[str, str] | None = None) -> Object:
        """Read a list; raises ApiError."""


class Departed:
    """Finds such claims and releases them; for one thread, except for ``ask``."""

    def __init__(
        self,
        *,
        api: Api,
        node: str,
        state: State,
        preparer: Preparer,
        interval: float,
        kubelet: Callable[[], float | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``interval`` is the shortest time in seconds from one look to the next, unless one is asked for.

        ``kubelet`` says since when, by ``clock``, the kubelet is there; None when it is not.
        """
        self._api = api
        self._node = node
        self._state = state
        self._preparer = preparer
        self._interval = interval
        self._kubelet = kubelet
        self._clock = clock
        self._left: dict[str, float] = {}
        """When each claim was first seen to have left, by uid."""
        self._last = -float("inf")
        self._asked = False

    def ask(self) -> None:
        """Let the next look be soon; may be called by any thread."""
        self._asked = True

    def look(self) -> dict[str, Object] | None:
        """Release what has left for long enough; None when it is too early for a look, or the record is lost.

        Returns the claims of the API server that are prepared here, by uid: one
        list for all of them, from the API server's cache. What that says is
        verified before a claim is released. Raises ApiError.
        """
        pause = min(_SHORTEST_PAUSE_SECONDS, self._interval) if self._asked else self._interval
        if self._state.lost or self._clock() - self._last < pause:
            return None
        self._asked = False
        self._last = self._clock()
        records = [*self._state.claims(), *self._state.earlier()]
        if not records:
            self._left.clear()
            return {}
        listed = self._api.get(CLAIMS, {"resourceVersion": "0"})["items"] or []
        claims: dict[str, Object] = {item["metadata"]["uid"]: item for item in listed}
        for record in records:
            if not (why := allocations.why_left(claims.get(record.uid), record, self._node)):
                self._left.pop(record.uid, None)
            elif record.uid not in self._left:
                self._left[record.uid] = self._clock()
                klog.info(klog.STATE, "Prepared claim has left", claim=record, why=why, graceSeconds=GRACE_SECONDS)
        self._left = {record.uid: self._left[record.uid] for record in records if record.uid in self._left}
        self._release()
        return {record.uid: claims[record.uid] for record in records if record.uid in claims}

    def _release(self) -> None:
        present = self._kubelet()
        if present is None:
            return
        for uid, left in list(self._left.items()):
            if self._clock() - max(present, left) < GRACE_SECONDS:
                continue
            try:
                self._preparer.release_left(uid)
                del self._left[uid]
            except (ApiError, PrepareError) as error:
                klog.error("Claim that is gone cannot be released", uid=uid, err=error)
