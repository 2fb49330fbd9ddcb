"""The debug kernel reports bugs, and the tests see it: a run with it can fail."""

from __future__ import annotations

import pytest
from guest_kernels import DEBUG
from kernel_log import BUG, reports
from module_guest import ModuleGuest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not DEBUG, reason="for the debug kernel: make test-debug-kernel")]

# In this order: after a report of KASAN lockdep is silent.
_HABITS = {
    "inversion": "possible circular locking dependency detected",
    "use-after-free": "KASAN: slab-use-after-free in bad_habits_init",
    "sleep": "BUG: scheduling while atomic",
}


def test_bugs_are_reported(own_guest: ModuleGuest) -> None:
    assert reports(own_guest.ok("dmesg -c"), BUG) == ""
    for habit, report in _HABITS.items():
        own_guest.run(f"insmod /bad_habits.ko habit={habit}")
        assert report in reports(own_guest.ok("dmesg -c"), BUG)
