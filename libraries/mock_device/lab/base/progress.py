"""Live progress of long work: the step, its elapsed time, and where its log is.

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
from rich.markup import escape


class _Console(Console):
    """Stops printing when its reader exits; rich would end the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


# Not sys.stderr: Robot Framework replaces it while a keyword runs, and output would appear only when the keyword ends.
_stderr = sys.__stderr__ or sys.stderr
_console = _Console(file=_stderr, highlight=False, soft_wrap=True)
_REMINDER_SECONDS = 30.0
_active = threading.local()


def say(message: str) -> None:
    """Write one line of progress to standard error."""
    if not getattr(_active, "muted", False):
        _console.print(message, markup=False)


def _elapsed(start: float) -> str:
    seconds = time.monotonic() - start
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


class _Ticker:
    """Shows a step's name and elapsed time again and again."""

    def __init__(self, what: str, start: float, *, silent: bool) -> None:
        self._what = what
        self._start = start
        self._silent = silent
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self.start()

    def start(self) -> None:
        if self._silent or getattr(_active, "muted", False):
            return
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tick, args=(self._done,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        if self._thread:
            self._thread.join()

    def _tick(self, done: threading.Event) -> None:
        if _stderr.isatty():
            with _console.status("") as status:
                while not done.wait(1.0):
                    status.update(f"{escape(self._what)}  [dim]{_elapsed(self._start)}[/dim]")
            return
        while not done.wait(_REMINDER_SECONDS):
            say(f"  … {self._what} ({_elapsed(self._start)})")


@contextmanager
def recorded() -> Iterator[list[tuple[str, float]]]:
    """Record name and duration (seconds) of this thread's steps, in the order in which they end."""
    steps: list[tuple[str, float]] = []
    _active.recorder = steps
    try:
        yield steps
    finally:
        _active.recorder = None


@contextmanager
def step(what: str, log: Path | None = None, *, speaks: bool = False) -> Iterator[None]:
    """Show that ``what`` runs, for how long, and how it ended.

    Steps may nest; only the innermost shows its elapsed time while it runs, and
    not even that one if it ``speaks``, that is, prints its own progress. If the
    step fails, the last line names ``log``.
    """
    start = time.monotonic()
    outer: list[_Ticker] = _active.__dict__.setdefault("tickers", [])
    nested = len(outer)
    say(f"{'  ' * nested}» {what}")
    if outer:
        outer[-1].stop()
    ticker = _Ticker(what, start, silent=speaks)
    outer.append(ticker)
    failed = True
    try:
        yield
        failed = False
    finally:
        ticker.stop()
        outer.pop()
        if outer:
            outer[-1].start()
        if (recorder := getattr(_active, "recorder", None)) is not None:
            recorder.append((what, time.monotonic() - start))
        end = "✗" if failed else "✓"
        where = f", log: {log}" if failed and log else ""
        say(f"{'  ' * nested}{end} {what} ({_elapsed(start)}){where}")


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Mute this thread's progress, and write one line at the end: how long the work took and whether it failed.

    For work that runs in parallel with other work, so that their lines do not mix.
    """
    start = time.monotonic()
    _active.muted = True
    end = "✗"
    try:
        yield
        end = "✓"
    finally:
        _active.muted = False
        say(f"{end} {what} ({_elapsed(start)})")
