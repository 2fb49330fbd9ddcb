"""Steps of ``lab diagnose`` and their findings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from mock_device.diagnosis.snapshot import Snapshot


class Issue(Enum):
    """Kinds of problems that a step can find."""

    DISCOVERY = "discovery"
    ALLOCATION = "allocation"
    CDI = "cdi"


@dataclass(frozen=True)
class Finding:
    """What a step found; the step is broken if there is a remedy."""

    evidence: str
    """One line: what was found, and what was expected if it is wrong."""
    remedy: str = ""
    """A command; empty if the step is ok."""
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A step on the way from device to container, and its check."""

    name: str
    issue: Issue
    check: Callable[[Snapshot], Finding]


def judged(complaints: Sequence[str], remedy: str, fine: str, details: Sequence[str] = ()) -> Finding:
    """A finding whose evidence is the first of ``complaints``, or ``fine`` if there are none."""
    if not complaints:
        return Finding(fine, details=tuple(details))
    more = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
    return Finding(f"{complaints[0]}{more}", remedy, (*complaints, *details))


def on_node(node: str, command: str) -> str:
    """The ``lab`` command that runs ``command`` (shell, without single quotes) on a node."""
    return f"lab ssh {node} '{command}'"
