"""What a step of ``lab diagnose`` is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from mock_device.diagnosis.snapshot import Snapshot


class Issue(Enum):
    """The issues of the troubleshooting guide."""

    DISCOVERY = "discovery"
    ALLOCATION = "allocation"
    CDI = "cdi"


@dataclass(frozen=True)
class Finding:
    """What a step found. It is broken when there is something to remedy."""

    evidence: str
    """One line: what was seen, and if that is wrong, what was expected."""
    remedy: str = ""
    """A command; empty when all is well."""
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A stretch of the way, and who judges it."""

    name: str
    issue: Issue
    check: Callable[[Snapshot], Finding]


def judged(complaints: Sequence[str], remedy: str, fine: str, details: Sequence[str] = ()) -> Finding:
    """A finding whose evidence is ``fine`` without ``complaints``, else the first of them."""
    if not complaints:
        return Finding(fine, details=tuple(details))
    more = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
    return Finding(f"{complaints[0]}{more}", remedy, (*complaints, *details))


def on_node(node: str, command: str) -> str:
    """``command`` (a shell line without single quotes) on a node, as a user of ``lab`` types it."""
    return f"lab ssh {node} '{command}'"
