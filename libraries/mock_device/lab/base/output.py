"""Standard streams whose reader may exit early, as in ``lab status | head -4``."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TextIO


def tolerate_closed_output(command: Callable[[], int]) -> int:
    """Run ``command`` and return its exit code; it is no error if the reader of its output has exited.

    Buffered output is flushed here, because the interpreter would report the
    broken pipe when it exits. A stream that was closed from the start, as by the
    shell's ``>&-``, is replaced by the null device. Any other broken pipe still
    raises BrokenPipeError.
    """
    _replace_closed_streams()
    code = 0
    try:
        try:
            code = command()
        finally:
            sys.stdout.flush()
    except (BrokenPipeError, ConnectionResetError):
        without_reader = [stream for stream in _streams() if not _has_reader(stream)]
        if not without_reader:
            raise
        for stream in without_reader:
            _discard(stream)
    return code


def _streams() -> Iterator[TextIO]:
    """The standard streams that are files; tests replace them by streams in memory."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.fileno()
            yield stream


def _has_reader(stream: TextIO) -> bool:
    """Whether someone may still read what is written. Some shells make pipes of sockets, which hang up instead."""
    poller = select.poll()
    poller.register(stream.fileno(), 0)
    return not any(events & (select.POLLERR | select.POLLHUP) for _, events in poller.poll(0))


def _discard(stream: TextIO) -> None:
    """Let the rest of the buffer go nowhere: it must not fail again when the interpreter exits."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, stream.fileno())
    os.close(null)


def _replace_closed_streams() -> None:
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - it stays open
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - it stays open
