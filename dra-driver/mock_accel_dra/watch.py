"""Watch objects of the API server for changes. The watch only wakes its caller, which lists the objects itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from mock_accel_dra import klog
from mock_accel_dra.api import ApiError, Client

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_SHORT_SECONDS = 10.0
"""A watch that ends sooner counts as failed, even without an error."""


def follow(
    client: Client,
    path: str,
    params: Mapping[str, str],
    changed: Callable[[], None],
    stop: threading.Event,
    kinds: frozenset[str] = frozenset({"ADDED", "MODIFIED", "DELETED"}),
) -> None:
    """Call ``changed`` once for the existing objects and then for each change of ``kinds``, until ``stop`` is set.

    ``changed`` lists the objects itself, so no change is lost when a watch fails.
    """
    pause = _FIRST_PAUSE_SECONDS
    told = False
    while not stop.is_set():
        begin: float | None = None
        error: ApiError | None = None
        try:
            version = client.get(path, params, metadata_only=True)["metadata"]["resourceVersion"]
            changed()
            begin = time.monotonic()
            for kind, _ in client.watch(path, params, version, metadata_only=True):
                if stop.is_set():
                    return
                if kind in kinds:
                    changed()
        except ApiError as failure:
            error = failure
        seconds = 0.0 if begin is None else time.monotonic() - begin
        if seconds >= _SHORT_SECONDS:
            pause, told = _FIRST_PAUSE_SECONDS, False
        if error is not None:
            klog.warning("Watch failed", path=path, err=error, retrySeconds=pause)
        elif seconds >= _SHORT_SECONDS:
            continue  # normal: the API server ends every watch after some minutes
        elif not told:
            told = True
            klog.warning("Watch ended early", path=path, seconds=round(seconds, 3), retrySeconds=pause)
        stop.wait(max(pause, (error and error.retry_after) or 0.0))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


class Wake:
    """A wake-up signal for one waiter; a burst of signals wakes it once. Thread-safe."""

    _QUIET_SECONDS = 0.2
    _LONGEST_BURST = 10

    def __init__(self) -> None:
        self._event = threading.Event()

    def __call__(self) -> None:
        """Wake the waiter."""
        self._event.set()

    def wait(self, timeout: float) -> bool:
        """Wait for a signal and the end of its burst (at most two seconds); False after ``timeout`` seconds."""
        if not self._event.wait(timeout):
            return False
        for _ in range(self._LONGEST_BURST):
            self._event.clear()
            if not self._event.wait(self._QUIET_SECONDS):
                break
        self._event.clear()
        return True


class DeviceWake(Wake):
    """A wake-up signal about single devices, or about all. Thread-safe."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._names: frozenset[str] | None = frozenset()

    def __call__(self) -> None:
        """Wake the waiter for all devices."""
        self.about(None)

    def about(self, name: str | None) -> None:
        """Wake the waiter for the device called ``name`` in sysfs, or for all (None)."""
        with self._lock:
            self._names = None if name is None or self._names is None else self._names | {name}
        super().__call__()

    def take(self) -> frozenset[str] | None:
        """Names of the devices of all signals since the last call; None: all devices."""
        with self._lock:
            names, self._names = self._names, frozenset()
        return names
