"""Failpoints: end the driver between two writes, to test recovery from a crash.

Off unless the environment variable FAILPOINT is set to a number N; no manifest
sets it. With it, the driver exits when it hits its N-th failpoint, at once and
without clean-up, as after ``kill -9``. A signal cannot do this: in its container
the driver is process 1, which cannot kill itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "FAILPOINT"
EXIT_CODE = 137
"""Exit code of a container that was killed by SIGKILL."""
_remaining = 0


def configure(environment: Mapping[str, str]) -> None:
    """Arm the failpoint that ``environment`` selects. Raises ValueError unless it is a number from 1."""
    global _remaining  # noqa: PLW0603 - a process dies once
    text = environment.get(VARIABLE, "")
    if text and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"environment variable {VARIABLE}: expected a number from 1, found {text!r}")
    _remaining = int(text or 0)


def hit() -> None:
    """Mark a point between two changes that outlive the process; exit here if this failpoint is armed."""
    global _remaining  # noqa: PLW0603 - as above
    if _remaining:
        _remaining -= 1
        if not _remaining:
            os._exit(EXIT_CODE)
