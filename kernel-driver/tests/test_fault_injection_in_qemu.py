"""Allocations and copies from and to user space fail, each once, while a program uses the module.

By ``/proc/<pid>/fail-nth`` (Documentation/fault-injection/fault-injection.rst): first the first that can fail, then the
second, and so on, until there are no more.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from guest_kernels import DEBUG
from kernel_log import BUG, reports
from module_guest import CLASS, ModuleGuest
from module_state import DRIVER, LOAD, PCI, UNLOAD, card, pfs, restore
from test_jobs_in_qemu import NODES, job, pinned

from mock_device.topology import Node, Slot

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DEBUG, reason="the nodes' kernel has no fault injection: make test-debug-kernel"),
]

_MOST = 5000
_FAULTS = "/sys/kernel/debug"
_ERRORS = {
    "error 5",  # EIO: no firmware, because there was no memory to load it
    "error 11",  # EAGAIN
    "error 12",  # ENOMEM
    "error 14",  # EFAULT
    "error 19",  # ENODEV
    "error 28",  # ENOSPC: no interrupt vectors
}
_LEAK_SECONDS = 6
"""Leaks are reported of memory that is older than 5 s (MSECS_MIN_AGE in mm/kmemleak.c)."""


@pytest.fixture(scope="module")
def guest(node: Node, spare: Slot, boot: Callable[..., AbstractContextManager[ModuleGuest]]) -> Iterator[ModuleGuest]:
    """A guest without NUMA: else devices are probed on a CPU of their node by another process, where nothing fails."""
    with (
        tempfile.TemporaryDirectory(prefix="mock-accel-") as folder,
        boot(node, spare, Path(folder), options="numa=off") as guest,
    ):
        guest.ok(f"mount -t debugfs none {_FAULTS}; cd {_FAULTS}; for f in fail*/verbose; do echo 0 > $f; done")
        guest.ok(f"cd {_FAULTS}; for f in fail*/ignore-gfp-*; do echo N > $f; done; echo 0 > fail_page_alloc/min-order")
        yield guest
        guest.ok(f"{UNLOAD}; sleep {_LEAK_SECONDS}; for i in 1 2; do echo scan > {_FAULTS}/kmemleak; done")
        leaks = guest.ok(f"cat {_FAULTS}/kmemleak")
        assert "mock_accel" not in leaks, leaks


@pytest.fixture(autouse=True)
def known_state(guest: ModuleGuest, node: Node) -> Iterator[None]:
    restore(guest, node)
    yield
    assert not reports(guest.ok("dmesg -c"), BUG)


def outcomes(guest: ModuleGuest, file: str, command: str, undo: str = ":") -> Counter[str]:
    """How often a command of the test program ended how: ``done``, or ``error`` and a number.

    In its last run nothing has failed; then it must be done. ``undo`` restores the state before the command.
    """
    ends: Counter[str] = Counter()
    for number in range(1, _MOST):
        run = f"/job {file} nth {number} {command} > /tmp/nth 2>&1; code=$?; ({undo}) > /dev/null 2>&1"
        *said, code = guest.ok(f"{run}; cat /tmp/nth; echo $code").splitlines()
        left = next((line for line in said if line.startswith("left ")), "left 0")
        end = "done" if code == "0" else next((line for line in said if line.startswith("error ")), f"code {code}")
        assert end == "done" or end in _ERRORS, f"{command}, number {number}: {said}, code {code}"
        if left != "left 0":
            assert end == "done", said
            return ends
        ends[end] += 1
    raise AssertionError(f"{command}: {_MOST} things can fail, and that was not all")


def check(guest: ModuleGuest, ends: Counter[str]) -> None:
    """Something has failed, and afterwards everything works."""
    print(dict(ends))
    assert sum(count for end, count in ends.items() if end != "done") > 0, ends
    assert job(guest, "mock1", "copy", 70001) == "70001"
    assert pinned(guest) == 0


@pytest.mark.parametrize("command", ["info", "copy 70001", "window 8192", "many 2 70001", "sha256 4096"])
def test_program_that_uses_a_device(guest: ModuleGuest, command: str) -> None:
    """Opens it, lets it work, maps its window, polls, and closes it."""
    check(guest, outcomes(guest, f"{NODES}/mock1", command))


@pytest.mark.parametrize(
    ("attribute", "value", "usual"),
    [
        ("status", "1", "0"),
        ("mode", "exclusive", "shared"),
        ("job_limit", "8", "0"),
        ("window_limit", "8192", "0"),
        ("reset", "1", ""),
    ],
)
def test_attribute_is_written(guest: ModuleGuest, attribute: str, value: str, usual: str) -> None:
    path = f"{CLASS}/mock1/{attribute}"
    ends = outcomes(guest, path, f"write {value}", f"test -z '{usual}' || echo {usual} > {path}")
    guest.until(lambda: guest.read("mock1", "health"), "ok")
    check(guest, ends)


def test_device_is_bound(guest: ModuleGuest, node: Node) -> None:
    address = pfs(node)["mock1"]
    guest.ok(f"echo {address} > {DRIVER}/unbind")
    check_bound = outcomes(guest, f"{DRIVER}/bind", f"write {address}", f"echo {address} > {DRIVER}/unbind")
    guest.ok(f"echo {address} > {DRIVER}/bind")
    guest.until(guest.devices, pfs(node))
    check(guest, check_bound)


def test_vf_is_bound(guest: ModuleGuest, node: Node) -> None:
    pf, vf, _ = card(node).functions
    guest.ok(f"echo 1 > {CLASS}/{pf.name}/sriov_numvfs; echo {vf.bdf} > {DRIVER}/unbind")
    ends = outcomes(guest, f"{DRIVER}/bind", f"write {vf.bdf}", f"echo {vf.bdf} > {DRIVER}/unbind")
    guest.ok(f"echo {vf.bdf} > {DRIVER}/bind")
    assert job(guest, vf.name, "copy", 70001) == "70001"
    check(guest, ends)


def test_vfs_are_enabled(guest: ModuleGuest, node: Node) -> None:
    pf, vf, _ = card(node).functions
    path = f"{CLASS}/{pf.name}/sriov_numvfs"
    check(guest, outcomes(guest, path, "write 1", f"echo 0 > {path}"))
    guest.ok(f"echo 1 > {path}")
    assert job(guest, vf.name, "copy", 70001) == "70001"


def test_device_is_reset(guest: ModuleGuest, node: Node) -> None:
    """Without memory it may lack firmware; the next to open it loads that."""
    check(guest, outcomes(guest, f"{PCI}/{pfs(node)['mock1']}/reset", "write 1"))


def test_module_is_loaded(guest: ModuleGuest, node: Node) -> None:
    """Here without devices, which it binds when it is loaded; they are above."""
    overrides = " ".join(f"{PCI}/{function.bdf}/driver_override" for function in node.functions if not function.is_vf)
    guest.ok(f"{UNLOAD}; for f in {overrides}; do echo none > $f; done")
    try:
        ends = outcomes(guest, "/opt/lib/modules/$(uname -r)/mock_accel.ko", "load", "rmmod mock_accel")
    finally:
        guest.ok(f"for f in {overrides}; do echo > $f; done; {UNLOAD}; {LOAD}")
    check(guest, ends)
