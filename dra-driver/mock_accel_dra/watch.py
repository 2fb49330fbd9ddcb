"""Watch objects of the API server for changes. The watch only wakes its caller, which lists the objects itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue

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
    """A wake-up signal for one waiter, about single devices or about everything; a burst of signals wakes it once.

    Threads and signal handlers may send signals: ``put`` of a SimpleQueue can be interrupted by another ``put``, while
    a lock would be taken twice by the same thread.
    """

    _QUIET_SECONDS = 0.2
    _LONGEST_SECONDS = 2.0

    def __init__(self) -> None:
        self._signals: SimpleQueue[str | None] = SimpleQueue()
        self.devices: frozenset[str] | None = frozenset()
        """Names in sysfs of the devices that the signals of the last ``wait`` were about; None: of all."""

    def __call__(self) -> None:
        """Wake the waiter."""
        self._signals.put(None)

    def about(self, device: str | None) -> None:
        """Wake the waiter because of one device, or of any (None)."""
        self._signals.put(device)

    def wait(self, timeout: float) -> bool:
        """Wait for a signal and the end of its burst (at most two seconds); False after ``timeout`` seconds."""
        try:
            found = {self._signals.get(timeout=timeout)}
        except Empty:
            return False
        end = time.monotonic() + self._LONGEST_SECONDS
        with suppress(Empty):
            while (remaining := end - time.monotonic()) > 0:
                found.add(self._signals.get(timeout=min(self._QUIET_SECONDS, remaining)))
        names = frozenset(name for name in found if name is not None)
        self.devices = None if None in found else names
        return True
