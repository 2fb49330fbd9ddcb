"""How a check ends when it does not pass."""

from __future__ import annotations


class CheckError(AssertionError):
    """Something is not as expected; the message says what was expected, what was found, and where to look next."""

    ROBOT_SUPPRESS_NAME = True


class SkipCheck(Exception):
    """A check that cannot be made here; the message says why. Robot Framework skips the test."""

    ROBOT_SKIP_EXECUTION = True
    ROBOT_SUPPRESS_NAME = True
