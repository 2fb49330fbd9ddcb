"""Log lines in klog's structured format, as every component of Kubernetes writes them.

    I1124 02:10:11.123456       1 agent.py:42] "Serving" socket="/var/lib/..." workers=4

Header: severity, month and day, time, process id, file and line, as in
k8s.io/klog/v2 (``formatHeader``); message and values as its ``InfoS`` quotes them.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import TextIO

STATE, OPERATION, FLOW, SCAN, RESOURCE = 2, 3, 4, 5, 6
"""Verbosity: state changes, operations, flow, routine scans, per resource."""

_lock = threading.Lock()
_verbosity = STATE
_stream: TextIO | None = None


def configure(verbosity: int, stream: TextIO | None = None) -> None:
    """Show lines up to ``verbosity``, on ``stream`` (standard error when None)."""
    global _verbosity, _stream  # noqa: PLW0603 - a log has one place in a process
    _verbosity = verbosity
    _stream = stream


def set_verbosity(verbosity: int) -> None:
    """Show lines up to ``verbosity`` from now on."""
    global _verbosity  # noqa: PLW0603 - as above
    _verbosity = verbosity


def info(verbosity: int, message: str, **values: object) -> None:
    """Write a line when the verbosity asked for is at least ``verbosity``."""
    if verbosity <= _verbosity:
        _write("I", message, values)


def warning(message: str, **values: object) -> None:
    """Write a line that someone should look at; always shown."""
    _write("W", message, values)


def error(message: str, **values: object) -> None:
    """Write a line about something that failed; always shown."""
    _write("E", message, values)


def _quoted(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(_quoted(item) for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)


def _write(severity: str, message: str, values: dict[str, object]) -> None:
    frame = sys._getframe(2)
    now = time.time()
    stamp = time.strftime("%m%d %H:%M:%S", time.localtime(now))
    header = f"{severity}{stamp}.{int(now % 1 * 1_000_000):06d} {os.getpid():7d}"
    place = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"  # noqa: PTH119 - no pathlib per line
    pairs = "".join(f" {name}={_quoted(value)}" for name, value in values.items())
    line = f"{header} {place}] {_quoted(message)}{pairs}\n"
    with _lock:
        stream = _stream or sys.stderr  # as it is now: who redirects it gets the lines
        stream.write(line)
        stream.flush()
