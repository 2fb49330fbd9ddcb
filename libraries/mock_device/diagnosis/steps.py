"""Steps of ``lab diagnose`` and their findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from mock_device.checks.errors import CheckError
from mock_device.diagnosis.snapshot import Snapshot
from mock_device.lab.base.errors import StepError


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
    complaints: tuple[str, ...] = ()
    """All that is wrong, a sentence each."""
    notes: Callable[[], Sequence[str]] = tuple
    """Lines that help to understand it; read only when they are shown, because that may take time."""


@dataclass(frozen=True)
class Step:
    """A step on the way from device to container, and its check."""

    name: str
    issue: Issue
    check: Callable[[Snapshot], Finding]
    of_health: bool = False
    """Whether it also judges a cluster's health; such a step needs a single reading of the cluster."""
    of_guests: bool = False
    """Whether it judges guests of the lab; other clusters have none."""


def of_cluster(steps: Iterable[Step], snapshot: Snapshot) -> list[Step]:
    """Those of ``steps`` that can judge this cluster."""
    return [step for step in steps if snapshot.has_guests or not step.of_guests]


def take(step: Step, snapshot: Snapshot) -> Finding:
    """Check ``step``; it is also broken if it cannot be checked because something does not answer."""
    try:
        return step.check(snapshot)
    except (CheckError, StepError, ApiException, HTTPError, ValueError) as error:
        lines = str(error).splitlines()
        return Finding(one_line(str(error)), "lab status", (one_line(str(error)),), lambda: lines[1:])


def one_line(text: str) -> str:
    """``text`` without line breaks."""
    return " ".join(text.split())


def judged(complaints: Sequence[str], remedy: str, fine: str, notes: Callable[[], Sequence[str]] = tuple) -> Finding:
    """A finding whose evidence is the first of ``complaints``, or ``fine`` if there are none."""
    if not complaints:
        return Finding(fine, notes=notes)
    more = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
    return Finding(f"{complaints[0]}{more}", remedy, tuple(complaints), notes)


def on_node(node: str, command: str) -> str:
    """The ``lab`` command that runs ``command`` (shell, without single quotes) on a node."""
    return f"lab ssh {node} '{command}'"
