"""Release stale claims: prepared here, usable by no pod any longer, and not unprepared by the kubelet.

A claim becomes stale when the kubelet lost its own record, or when someone removed
the allocation. The API server alone cannot tell that a device is free: after a
forced deletion, or on a node that was cut off, the claim is gone while its container
still terminates. So a stale claim is released only after the kubelet was present
for longer than it needs to unprepare it (`kubelet.Presence`) and did not.
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
"""The kubelet checks every 60 s; the rest allows for its call and for a slow node."""
_SHORTEST_PAUSE_SECONDS = 5.0
"""Shortest time between two requested checks."""

Object = dict[str, Any]


class Api(Protocol):
    """The part of the Kubernetes API that is used here."""

    def get(self, path: str, params: dict[str, str] | None = None) -> Object:
        """Read a list; raises ApiError."""


class StaleClaims:
    """Finds stale claims and releases them. Not thread-safe, except for ``ask``."""

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
        """``interval`` is the shortest time in seconds between two checks, unless ``ask`` requests one.

        ``kubelet`` returns since when, by ``clock``, the kubelet is present; None if it is not.
        """
        self._api = api
        self._node = node
        self._state = state
        self._preparer = preparer
        self._interval = interval
        self._kubelet = kubelet
        self._clock = clock
        self._stale_since: dict[str, float] = {}
        """When each stale claim was first seen to be stale, by uid."""
        self._last = -float("inf")
        self._asked = False

    def ask(self) -> None:
        """Request an early check; thread-safe."""
        self._asked = True

    def look(self) -> dict[str, Object] | None:
        """Release claims that were stale for long enough; None if it is too early or the record is lost.

        Returns the API server's objects of the claims prepared here, by uid. They
        come from one list request that the API server answers from its cache; each
        claim is read again before it is released. Raises ApiError.
        """
        pause = min(_SHORTEST_PAUSE_SECONDS, self._interval) if self._asked else self._interval
        if self._state.lost or self._clock() - self._last < pause:
            return None
        self._asked = False
        self._last = self._clock()
        records = [*self._state.claims(), *self._state.earlier()]
        if not records:
            self._stale_since.clear()
            return {}
        listed = self._api.get(CLAIMS, {"resourceVersion": "0"})["items"] or []
        claims: dict[str, Object] = {item["metadata"]["uid"]: item for item in listed}
        for record in records:
            if not (why := allocations.why_stale(claims.get(record.uid), record, self._node)):
                self._stale_since.pop(record.uid, None)
            elif record.uid not in self._stale_since:
                self._stale_since[record.uid] = self._clock()
                klog.info(klog.STATE, "Prepared claim is stale", claim=record, why=why, graceSeconds=GRACE_SECONDS)
        uids = {record.uid for record in records}
        self._stale_since = {uid: since for uid, since in self._stale_since.items() if uid in uids}
        self._release()
        return {record.uid: claims[record.uid] for record in records if record.uid in claims}

    def _release(self) -> None:
        present = self._kubelet()
        if present is None:
            return
        for uid, since in list(self._stale_since.items()):
            if self._clock() - max(present, since) < GRACE_SECONDS:
                continue
            try:
                self._preparer.release_stale(uid)
                del self._stale_since[uid]
            except (ApiError, PrepareError) as error:
                klog.error("Stale claim cannot be released", uid=uid, err=error)
