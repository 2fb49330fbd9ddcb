"""Ends the driver in the middle of a write, for tests of what a crash leaves.

Off unless the environment variable FAULT_AT is set to a number N, which no
manifest does: then the driver ends at its N-th point, at once and without
tidying up, as by kill -9. No signal does it: in its container the driver is
process 1, which cannot kill itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "FAULT_AT"
EXIT_CODE = 137
"""That of a container that was killed by SIGKILL."""
_left = 0


def configure(environment: Mapping[str, str]) -> None:
    """Arm what the environment asks for. Raises ValueError for what is no number from 1."""
    global _left  # noqa: PLW0603 - a process dies once
    text = environment.get(VARIABLE, "")
    if text and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"environment variable {VARIABLE}: expected a number from 1, found {text!r}")
    _left = int(text or 0)


def point() -> None:
    """A place between two changes that outlive the process."""
    global _left  # noqa: PLW0603 - as above
    if _left:
        _left -= 1
        if not _left:
            os._exit(EXIT_CODE)
