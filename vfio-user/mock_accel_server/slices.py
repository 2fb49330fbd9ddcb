"""Short accesses to client memory, which an unmap waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Slices:
    """Accesses of one device. Each is short, so that a stop, an unmap or a reset waits for milliseconds.

    A client can prolong an access to its own files. Therefore no lock is held meanwhile,
    and only its own device waits.
    """

    def __init__(self, condition: threading.Condition) -> None:
        self._condition = condition
        self._active: set[object] = set()

    @contextmanager
    def slice(self, prepare: Callable[[], T]) -> Iterator[T]:
        """Access memory in the body. ``prepare`` runs with the lock and says where that is, or raises."""
        slice_ = object()
        with self._condition:
            prepared = prepare()
            self._active.add(slice_)
        try:
            yield prepared
        finally:
            with self._condition:
                self._active.remove(slice_)
                self._condition.notify_all()

    def settle(self) -> None:
        """Wait for the end of the running accesses, not of later ones; releases the lock while it waits.

        Without a deadline: the caller must not go on while memory is accessed.
        """
        running = set(self._active)
        self._condition.wait_for(lambda: running.isdisjoint(self._active))
