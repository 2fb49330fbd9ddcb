"""Messages in the logs of the driver's pods, after a mark.

Patterns are regular expressions for lines as dra-driver/mock_accel_dra/klog.py writes them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

KERNEL_EVENT = '"Kernel event"'
DEVICES_CHANGED = '"Devices of this node"'
DEVICES_REMOVED = rf'{DEVICES_CHANGED}.*removed=\[".+"\]'
DEVICES_ADDED = rf'{DEVICES_CHANGED}.*added=\[".+"\]'
SCAN = '"Scanned devices"'
_SHOWN_LINES = 15


class KernelAction(Enum):
    """What the kernel announces of a device (uevent, ``ACTION``)."""

    ADD = "add"
    REMOVE = "remove"


def kernel_event(action: KernelAction) -> str:
    """A node agent has received a kernel event."""
    return f'{KERNEL_EVENT} action="{action.value}"'


def devices_of_node(count: int) -> str:
    """A node agent has found ``count`` devices after a change."""
    return rf"{DEVICES_CHANGED} count={count}\b"


def discovered(count: int) -> str:
    """The controller has counted devices for the first time."""
    return f'"Discovered {count} devices"'


def count_changed_to(count: int) -> str:
    """The controller has counted another number of devices than before."""
    return rf'"Device count changed: \d+ -> {count}"'


def verbosity(level: int) -> str:
    """A program of the driver logs at ``level`` from now on."""
    return rf'"Verbosity" v={level}\b'


def claim_calls(claim: str) -> list[str]:
    """A node agent has prepared and unprepared ``claim`` (NAMESPACE/NAME): the kubelet's call, and what it did."""
    name = re.escape(claim.rpartition("/")[2])
    value = re.escape(claim)
    return [
        rf'"NodePrepareResources" claims=\["{name}"\]',
        f'"Prepared claim" claim="{value}"',
        f'"Unprepared claim" claim="{value}"',
    ]


@dataclass(frozen=True)
class LogMark:
    """A position in a pod's log; later lines are new."""

    pod: str
    lines: int
    """Number of lines before the mark."""


def after(mark: LogMark, log: str) -> list[str]:
    """Lines after ``mark`` in ``log``, which is the pod's complete log."""
    return log.splitlines()[mark.lines :]


def matching(lines: Sequence[str], pattern: str) -> list[str]:
    """Lines in which the regular expression matches."""
    return [line for line in lines if re.search(pattern, line)]


def missing(lines: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Message about the first pattern without a match; each pattern must match a line after the previous match."""
    rest = list(lines)
    for number, pattern in enumerate(patterns):
        position = next((index for index, line in enumerate(rest) if re.search(pattern, line)), None)
        if position is None:
            before = f" after one with {patterns[number - 1]!r}" if number else ""
            end = "\n".join(lines[-_SHOWN_LINES:]) or "nothing"
            return [f"expected a line with {pattern!r}{before}; the log since the mark:\n{end}"]
        del rest[: position + 1]
    return []
