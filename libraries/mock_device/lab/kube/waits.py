"""A check that waits for Kubernetes objects repeat, so that they do not outlast what they wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

INTERVAL_SECONDS = 2.0
"""Seconds between two checks."""
_check: ContextVar[Callable[[], None] | None] = ContextVar("check", default=None)


@contextmanager
def checked(check: Callable[[], None]) -> Iterator[None]:
    """Let all waits of this thread in the block call ``check`` every two seconds; its exception ends them."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def end_of_watch(now: float, deadline: float) -> float:
    """When a watch that begins ``now`` ends: in time for the next check, at ``deadline`` at the latest."""
    return min(deadline, now + INTERVAL_SECONDS) if _check.get() else deadline


def check() -> None:
    """Call the check of this block, if there is one."""
    if found := _check.get():
        found()
