"""Lock files shared by processes of this machine."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mock_device.lab.base import progress
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout

_POLL_SECONDS = 0.2


def try_lock(file: IO[str], *, shared: bool = False) -> bool:
    """Lock an open file for this process; False if another process holds the lock.

    Several processes can hold a ``shared`` lock, for reading.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, what: str, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock file ``path``, alone or ``shared``; while waiting, report which process holds it.

    The kernel releases the lock when its owner dies, however it dies.
    Raises StepError after an hour.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", errors="replace") as file:
        if not try_lock(file, shared=shared):
            _wait(file, path, what, shared=shared)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _wait(file: IO[str], path: Path, what: str, *, shared: bool) -> None:
    """Wait until ``file`` can be locked, with progress."""
    deadline = time.monotonic() + Timeout.LOCK.seconds
    file.seek(0)
    with progress.step(f"waiting for process {file.read().strip() or '?'}, which is working on: {what}"):
        while not try_lock(file, shared=shared):
            if time.monotonic() > deadline:
                raise StepError(f"{what}: {path} is still locked after {Timeout.LOCK.seconds:.0f} s")
            time.sleep(_POLL_SECONDS)
