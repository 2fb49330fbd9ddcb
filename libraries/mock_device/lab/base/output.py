"""Standard output, whose reader may leave before all is written, as in ``lab status | head -4``."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable


def while_it_is_read(command: Callable[[], int]) -> int:
    """Run ``command`` and return its exit code; no error when the reader of standard output has gone.

    What is still buffered is written here, because the interpreter would
    complain of it at its end. A pipe to anything else that breaks raises BrokenPipeError as ever.
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
        # What is left in the buffer must not fail once more at the interpreter's end.
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    return code
