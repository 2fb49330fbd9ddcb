"""Exceptions of checks that fail or cannot run."""

from __future__ import annotations

from collections.abc import Callable, Iterable


class CheckError(AssertionError):
    """A check failed; the message says what was expected, what was found, and where to look next."""

    ROBOT_SUPPRESS_NAME = True


class SkipCheck(Exception):
    """A check cannot run on this cluster; the message says why. Robot Framework skips the test."""

    ROBOT_SKIP_EXECUTION = True
    ROBOT_SUPPRESS_NAME = True


def fail_if_any(complaints: Iterable[str], heading: str = "") -> None:
    """Raise CheckError if there are ``complaints``: the ``heading``, if given, then a line for each."""
    if found := list(complaints):
        raise CheckError("\n".join([heading, *found] if heading else found))


def refusal(what: str, action: Callable[[], object], because: str) -> str:
    """The message of the CheckError by which ``action`` refuses ``what``.

    Raises CheckError if the action succeeds, or if its message lacks ``because``.
    """
    try:
        outcome = action()
    except CheckError as error:
        if because in str(error):
            return str(error)
        raise CheckError(f"{what}: expected it to be refused because {because!r}, found: {error}") from error
    end = f": {outcome}" if outcome else ""
    raise CheckError(f"{what}: expected it to be refused because {because!r}, it was accepted{end}")
