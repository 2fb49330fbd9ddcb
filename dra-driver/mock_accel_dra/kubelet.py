"""Since when a kubelet is there that would unprepare what its pods do not use any more.

While it runs, it looks every 60 s at the pods of all claims that it knows, and
unprepares those whose pods are gone (``reconcileLoop`` of
pkg/kubelet/cm/dra/manager.go); also those of pods that were deleted by force.
So a claim that it leaves alone for longer is one that no container of it has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Presence:
    """What the kubelet's calls say of it; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._registered: float | None = None
        self._streams = 0
        self._has_streamed = False
        self._streaming = 0.0

    def registered(self, done: bool) -> None:
        """The kubelet has registered the driver, as it does when it starts; or refused to."""
        with self._lock:
            self._registered = time.monotonic() if done else None

    @contextmanager
    def stream(self) -> Iterator[None]:
        """While a stream of the kubelet is open, which ends with its process."""
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
        """Since when (time.monotonic) a kubelet is there without a break; None while it is not.

        One that opens no stream (feature gate ResourceHealthStatus off) is there from its registration on.
        """
        with self._lock:
            if self._registered is None or not self._has_streamed:
                return self._registered
            return max(self._registered, self._streaming) if self._streams else None
