"""Reports of bugs in a kernel log; boots nothing."""

from __future__ import annotations

import pytest
from kernel_log import BUG, reports

_USUAL = "[    8.785120] mock_accel: loading out-of-tree module taints kernel."
_FRAME = "[   20.100000] " + 66 * "="
_KASAN = "[   20.100001] BUG: KASAN: slab-use-after-free in mock_release+0x11/0x20 [mock_accel]"
_MORE = "[   20.100002] Write of size 8 at addr ffff888003a2c000 by task job/99"


@pytest.mark.parametrize(
    "line",
    [
        "[ 1.0] WARNING: possible circular locking dependency detected",
        "[ 1.0] BUG: sleeping function called from invalid context at kernel/locking/mutex.c:585",
        "[ 1.0] INFO: task kworker/0:1:9 blocked for more than 60 seconds.",
        "[ 1.0] Oops: general protection fault, probably for non-canonical address 0xdffffc0000000000",
        "unreferenced object 0xffff888003a2c000 (size 64):",
        "[ 1.0] refcount_t: underflow; use-after-free.",
    ],
)
def test_reports_are_found(line: str) -> None:
    assert reports(f"{_USUAL}\n{line}\n{_MORE}") == f"{line}\n{_MORE}"
    assert reports(line, BUG) == line


def test_a_report_has_its_frame_and_what_follows() -> None:
    assert reports("\n".join([_USUAL, _FRAME, _KASAN, _MORE])) == "\n".join([_FRAME, _KASAN, _MORE])


def test_usual_messages_are_no_report() -> None:
    assert reports(_USUAL) == "" and reports("") == ""


def test_failed_allocations_are_no_bugs_while_they_are_injected() -> None:
    log = "[ 1.0] Call Trace:\n[ 1.0] kobject_add_internal failed for mock0 (error: -12 parent: mock-accel)"
    assert reports(log, BUG) == "" and reports(log) == log


def test_long_reports_are_cut() -> None:
    assert len(reports("\n".join([_KASAN, *([_MORE] * 500)])).splitlines()) == 120
