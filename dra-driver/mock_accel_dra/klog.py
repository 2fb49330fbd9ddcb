"""Log lines in klog's structured format, which all components of Kubernetes use.

    I1124 02:10:11.123456       1 agent.py:42] "Serving" socket="/var/lib/..." workers=4

Header: severity, month and day, time, process ID, file and line, as in
k8s.io/klog/v2 (``formatHeader``). Message and values are quoted as by its ``InfoS``.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TextIO

STATE, OPERATION, FLOW, SCAN, RESOURCE = 2, 3, 4, 5, 6
"""Verbosity: state changes, operations, flow, routine scans, per resource."""

_log = logging.getLogger("mock_accel_dra")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        severity = record.levelname[0] if record.levelno >= logging.WARNING else "I"
        time = f"{self.formatTime(record, '%m%d %H:%M:%S')}.{int(record.created % 1 * 1_000_000):06d}"
        values: dict[str, object] = getattr(record, "values", {})
        pairs = "".join(f" {name}={_quoted(value)}" for name, value in values.items())
        place = f"{record.process:7d} {record.filename}:{record.lineno}"
        return f"{severity}{time} {place}] {_quoted(record.msg)}{pairs}"


def configure(verbosity: int, stream: TextIO | None = None) -> None:
    """Show lines up to ``verbosity``, on ``stream`` (standard error when None)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Formatter())
    _log.handlers[:] = [handler]
    _log.propagate = False
    set_verbosity(verbosity)


def set_verbosity(verbosity: int) -> None:
    """Show lines up to ``verbosity`` from now on. Verbosity N is the level INFO - N of ``logging``."""
    _log.setLevel(logging.INFO - verbosity)


def info(verbosity: int, message: str, **values: object) -> None:
    """Write a line if ``verbosity`` is enabled."""
    _log.log(logging.INFO - verbosity, message, extra={"values": values}, stacklevel=2)


def warning(message: str, **values: object) -> None:
    """Write a line that an administrator should look at, at any verbosity."""
    _log.warning(message, extra={"values": values}, stacklevel=2)


def error(message: str, **values: object) -> None:
    """Write a line about a failure, at any verbosity."""
    _log.error(message, extra={"values": values}, stacklevel=2)


def _quoted(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(_quoted(item) for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)
