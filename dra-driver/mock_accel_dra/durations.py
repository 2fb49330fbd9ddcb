"""Histograms of durations that are cheap to import.

The import of Prometheus' client is slow on a node without hardware virtualisation,
so it happens after the driver serves. Durations from before must not be lost.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets in seconds; one more bucket holds longer durations."""

Labels = tuple[str, ...]


def since_process_start() -> float:
    """Seconds since the kernel started this process, imports included: ``starttime`` of proc(5)."""
    text = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    # Field 22 is starttime. Field 2, the program's name, may contain spaces, so count from its closing parenthesis.
    ticks = int(text.rpartition(")")[2].split()[22 - 3])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


@dataclass
class Histogram:
    """Durations with the same labels."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    """Not cumulative, by ``BOUNDS``."""
    seconds: float = 0.0


class Durations:
    """Histograms by the values of ``labels``; thread-safe."""

    def __init__(self, labels: Sequence[str] = ()) -> None:
        self.labels = tuple(labels)
        self._histograms: dict[Labels, Histogram] = {}
        self._lock = threading.Lock()

    def observe(self, seconds: float, *labels: str) -> None:
        """Count a duration of ``seconds``."""
        with self._lock:
            histogram = self._histograms.setdefault(labels, Histogram())
            histogram.counts[bisect_left(BOUNDS, seconds)] += 1
            histogram.seconds += seconds

    def snapshot(self) -> dict[Labels, Histogram]:
        """Copies of all histograms, by the values of the labels."""
        with self._lock:
            return {
                labels: Histogram(list(histogram.counts), histogram.seconds)
                for labels, histogram in self._histograms.items()
            }
