"""Standard output whose reader may exit early, as in ``lab status | head -4``."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable


def tolerate_closed_output(command: Callable[[], int]) -> int:
    """Run ``command`` and return its exit code; it is no error if the reader of standard output has exited.

    Buffered output is flushed here, because the interpreter would report the
    broken pipe when it exits. Any other broken pipe still raises BrokenPipeError.
    """
    code = 0
    try:
        try:
            code = command()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        descriptor = sys.stdout.fileno()
        poller = select.poll()
        poller.register(descriptor, 0)
        if not any(events & select.POLLERR for _, events in poller.poll(0)):
            raise
        # The rest of the buffer must not fail again when the interpreter exits.
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, descriptor)
        os.close(null)
    return code
