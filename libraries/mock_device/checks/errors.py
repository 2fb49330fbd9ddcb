"""Exceptions of checks that fail or cannot run."""

from __future__ import annotations


class CheckError(AssertionError):
    """A check failed; the message says what was expected, what was found, and where to look next."""

    ROBOT_SUPPRESS_NAME = True


class SkipCheck(Exception):
    """A check cannot run on this cluster; the message says why. Robot Framework skips the test."""

    ROBOT_SKIP_EXECUTION = True
    ROBOT_SUPPRESS_NAME = True
