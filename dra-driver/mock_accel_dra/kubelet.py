"""Presence of the kubelet, which unprepares claims that its pods no longer use.

While the kubelet runs, it checks the pods of all claims that it knows every 60 s
and unprepares claims whose pods are gone, also after a forced deletion
(``reconcileLoop`` of pkg/kubelet/cm/dra/manager.go). So a stale claim that it does
not unprepare for longer is used by none of its containers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Presence:
    """Tracks the kubelet by its calls; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._registered: float | None = None
        self._streams = 0
        self._has_streamed = False
        self._streaming = 0.0

    def registered(self, done: bool) -> None:
        """Note that the kubelet registered the driver, as it does when it starts, or refused to."""
        with self._lock:
            self._registered = time.monotonic() if done else None

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Context in which a stream of the kubelet is open; it ends with the kubelet's process."""
        with self._lock:
            if self._streams == 0:
                self._streaming = time.monotonic()
            self._streams += 1
            self._has_streamed = True
        try:
            yield
        finally:
            with self._lock:
                self._streams -= 1

    def since(self) -> float | None:
        """Since when (time.monotonic) the kubelet is present without interruption; None while it is not.

        A kubelet that opens no stream (feature gate ResourceHealthStatus off) counts as present from its registration.
        """
        with self._lock:
            if self._registered is None or not self._has_streamed:
                return self._registered
            return max(self._registered, self._streaming) if self._streams else None
