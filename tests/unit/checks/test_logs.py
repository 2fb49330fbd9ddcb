"""Messages in a log after a mark."""

from __future__ import annotations

import pytest

from mock_device.checks.driver import logs
from mock_device.checks.driver.logs import KernelAction, LogMark

# Log of a node agent at --v=4 whose device mock3 was unplugged and plugged again.
LOG = """\
I1125 03:50:01.000100       1 agent.py:110] "Devices of this node" count=6 added=["mock0"] removed=[]
I1125 03:51:07.412345       1 uevents.py:74] "Kernel event" action="remove" path="/devices/mock3"
I1125 03:51:07.812345       1 agent.py:110] "Devices of this node" count=5 added=[] removed=["mock3"]
I1125 03:51:17.412345       1 uevents.py:74] "Kernel event" action="add" path="/devices/mock3"
"""


def test_lines_after_a_mark_are_new() -> None:
    assert logs.after(LogMark("agent", 3), LOG) == LOG.splitlines()[3:]
    assert logs.after(LogMark("agent", 0), LOG) == LOG.splitlines()
    assert logs.after(LogMark("agent", 9), LOG) == []


def test_matching_lines_are_found() -> None:
    assert logs.matching(LOG.splitlines(), "Kernel event") == LOG.splitlines()[1::2]


@pytest.mark.parametrize(
    "patterns", [[], ["count=6"], ['Kernel event.*action="remove"', "Devices of this node", 'action="add"']]
)
def test_patterns_match_in_order(patterns: list[str]) -> None:
    assert logs.missing(LOG.splitlines(), patterns) == []


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["count=7"], "expected a line with 'count=7'; the log since the mark:"),
        (['"add"', "count=6"], "expected a line with 'count=6' after one with '\"add\"'; the log since the mark:"),
        (["=6", "=6"], "expected a line with '=6' after one with '=6'; the log since the mark:"),
    ],
)
def test_pattern_without_a_line_is_reported(patterns: list[str], message: str) -> None:
    assert logs.missing(LOG.splitlines(), patterns) == [f"{message}\n{LOG.rstrip()}"]


# A controller, and a node agent whose verbosity was changed.
OTHER_LOG = """\
I1125 03:50:00.000100       1 controller.py:94] "Discovered 12 devices" nodes=2
I1125 03:51:07.900000       1 controller.py:91] "Device count changed: 12 -> 11" nodes=2
I1125 03:52:00.000100       1 cli.py:183] "Verbosity" v=5
I1125 03:52:01.000100       1 agent.py:190] "Scanned devices" count=6 seconds=0.0123
I1125 03:53:00.000100       1 rpc.py:63] "NodePrepareResources" claims=["called"]
I1125 03:53:00.300000       1 prepare.py:126] "Prepared claim" claim="default/called" uid="u" devices=["mock0"]
I1125 03:54:00.300000       1 prepare.py:143] "Unprepared claim" claim="default/called" uid="u" devices=["mock0"]
"""


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        (logs.KERNEL_EVENT, 2),
        (logs.kernel_event(KernelAction.ADD), 1),
        (logs.kernel_event(KernelAction.REMOVE), 1),
        (logs.DEVICES_CHANGED, 2),
        (logs.DEVICES_ADDED, 1),
        (logs.DEVICES_REMOVED, 1),
        (logs.devices_of_node(5), 1),
        (logs.devices_of_node(0), 0),
        (logs.discovered(12), 1),
        (logs.discovered(1), 0),
        (logs.count_changed_to(11), 1),
        (logs.count_changed_to(1), 0),
        (logs.verbosity(5), 1),
        (logs.SCAN, 1),
        *((pattern, 1) for pattern in logs.claim_calls("default/called")),
        *((pattern, 0) for pattern in logs.claim_calls("default/call")),
    ],
)
def test_message_is_recognized(pattern: str, count: int) -> None:
    assert len(logs.matching((LOG + OTHER_LOG).splitlines(), pattern)) == count


def test_empty_log() -> None:
    assert logs.missing([], ["x"]) == ["expected a line with 'x'; the log since the mark:\nnothing"]
