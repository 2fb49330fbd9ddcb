"""Limit the rate of equal writes, so that the driver does not fight with another client forever."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from mock_accel_dra import klog
from mock_accel_dra.slices import Object

_WRITES, _SECONDS = 5, 60.0
"""Equal writes per period. More than one, so that a slice deleted by hand is restored at once."""


@dataclass
class _Written:
    wish: list[Object]
    times: list[float] = field(default_factory=list)
    told: bool = False


class Repeats:
    """Counts writes of pools with equal wanted content."""

    def __init__(self) -> None:
        self._by_pool: dict[str, _Written] = {}

    def too_many(self, pool: str, wish: list[Object]) -> bool:
        """Whether ``pool`` was written as ``wish`` so often lately that it must wait."""
        now = time.monotonic()
        before = self._by_pool.get(pool)
        if before is None or before.wish != wish:
            before = self._by_pool[pool] = _Written(wish)
        before.times = [when for when in before.times if now - when < _SECONDS]
        if len(before.times) < _WRITES:
            before.told = False
            return False
        if not before.told:
            before.told = True
            seconds = round(before.times[0] + _SECONDS - now, 1)
            klog.warning("Another client keeps changing slices", pool=pool, retrySeconds=seconds)
        return True

    def written(self, pool: str) -> None:
        """Count a write of ``pool``; call ``too_many`` before."""
        self._by_pool[pool].times.append(time.monotonic())
