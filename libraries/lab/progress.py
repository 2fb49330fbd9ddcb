"""Live progress of long work: the step, the time it takes, and where its log is.

On a terminal one line is redrawn; elsewhere (CI, a pipe) a line is written when
a step starts, every 30 s while it runs, and when it ends.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

_console = Console(stderr=True, highlight=False, soft_wrap=True)
_REMINDER_SECONDS = 30.0
_active = threading.local()


def say(message: str) -> None:
    """Write one line of progress to standard error."""
    _console.print(message, markup=False)


def _elapsed(start: float) -> str:
    seconds = time.monotonic() - start
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def _tick(what: str, start: float, done: threading.Event) -> None:
    """Repeat the step's name with its elapsed time until ``done``."""
    if sys.stderr.isatty():
        with _console.status("") as status:
            while not done.wait(1.0):
                status.update(f"{what}  [dim]{_elapsed(start)}[/dim]")
        return
    while not done.wait(_REMINDER_SECONDS):
        say(f"  … {what} ({_elapsed(start)})")


@contextmanager
def step(what: str, log: Path | None = None) -> Iterator[None]:
    """Show that ``what`` runs, for how long, and how it ended.

    Steps may nest; only the outermost redraws a terminal's line. ``log`` is
    named in the end when the step fails.
    """
    start = time.monotonic()
    nested = getattr(_active, "depth", 0)
    _active.depth = nested + 1
    done = threading.Event()
    ticker: threading.Thread | None = None
    say(f"{'  ' * nested}» {what}")
    if not nested or not sys.stderr.isatty():
        ticker = threading.Thread(target=_tick, args=(what, start, done), daemon=True)
        ticker.start()
    failed = True
    try:
        yield
        failed = False
    finally:
        _active.depth = nested
        done.set()
        if ticker:
            ticker.join()
        end = "✗" if failed else "✓"
        where = f", log: {log}" if failed and log else ""
        say(f"{'  ' * nested}{end} {what} ({_elapsed(start)}){where}")
