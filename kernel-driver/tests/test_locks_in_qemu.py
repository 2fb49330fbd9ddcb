"""Who waits for whom: no lock is held while something takes long, or while an attribute waits for that lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from module_guest import CLASS, ModuleGuest
from module_state import DRIVER, FIRMWARE, LOAD, PCI, SLOW_FIRMWARE, UNLOAD, card, pfs, published, slow_firmware

from mock_device.topology import Function, Node

SLOW_BIND = "/sys/module/slow_bind/parameters"
"""``hold`` and ``waiting`` of tests/modules/slow_bind.c."""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("known_state")]


@contextmanager
def not_yet_bound(guest: ModuleGuest, pf: Function) -> Iterator[None]:
    """The others have their names without it, so that all get other names when it is bound."""
    override = f"{PCI}/{pf.bdf}/driver_override"
    guest.ok(f"echo none > {override}; {UNLOAD}; {LOAD}")
    try:
        yield
    finally:
        # An empty line ends the override.
        guest.ok(f"echo > {override}; test -e {PCI}/{pf.bdf}/driver || echo {pf.bdf} > /sys/bus/pci/drivers_probe")


@contextmanager
def slow_vfs(guest: ModuleGuest) -> Iterator[None]:
    """Whoever binds a VF waits until the end."""
    guest.ok("insmod /slow_bind.ko hold=1")
    try:
        yield
    finally:
        guest.ok(f"echo 0 > {SLOW_BIND}/hold; rmmod slow_bind")


def test_number_of_vfs_changes_while_names_change(guest: ModuleGuest, node: Node) -> None:
    """The writer waits for a VF that is being bound, which needs the lock of those who give names."""
    pf, vf, _ = card(node).functions
    late = next(function for function in node.functions if not function.is_vf and function.bdf > pf.bdf)
    with not_yet_bound(guest, late):
        with slow_vfs(guest):
            write = f"echo 1 > {CLASS}/{pf.name}/sriov_numvfs; echo $? > /tmp/wrote"
            guest.ok(f"rm -f /tmp/wrote; ({write}) &")
            guest.until(lambda: guest.run(f"cat {SLOW_BIND}/waiting").text, "Y")
            guest.ok(f"echo > {PCI}/{late.bdf}/driver_override; echo {late.bdf} > {DRIVER}/bind")
            guest.until(guest.devices, pfs(node))
        guest.until(lambda: guest.run("cat /tmp/wrote").text, "0")
    guest.until(guest.devices, pfs(node) | published([vf]))


def waits(guest: ModuleGuest) -> bool:
    """Whether somebody waits for the firmware."""
    return guest.run(f"cat {SLOW_FIRMWARE}/waiting").text == "Y"


def works(guest: ModuleGuest, command: str) -> None:
    """A command ends, although somebody waits for the firmware."""
    guest.ok(f"rm -f /tmp/code; ({command}; echo $? > /tmp/code) > /dev/null 2>&1 &")
    guest.until(lambda: guest.run("cat /tmp/code").text, "0")
    assert waits(guest)


def test_nothing_waits_for_the_firmware_after_a_reset(guest: ModuleGuest, node: Node) -> None:
    """Least of all a page fault, which locks its process's memory."""
    with slow_firmware(guest) as hold:
        hold(True)
        guest.ok(f"(echo 1 > {PCI}/{pfs(node)['mock1']}/reset) &")
        guest.until(lambda: waits(guest), True)
        for operation in ("info", "map 4096"):
            works(guest, f"/job /dev/mock-accel/mock1 {operation}")
        for attribute in ("mock1/health", "mock1/hangs", "mock2/status"):
            works(guest, f"cat {CLASS}/{attribute}")
        hold(False)
        guest.until(lambda: guest.run("/job /dev/mock-accel/mock1 copy 4096").text, "4096")


def test_only_who_opens_a_device_waits_for_its_firmware(guest: ModuleGuest, node: Node) -> None:
    with slow_firmware(guest) as hold:
        guest.ok(f"mount -t tmpfs none {FIRMWARE}; echo 1 > {PCI}/{pfs(node)['mock1']}/reset; umount {FIRMWARE}")
        assert guest.read("mock1", "health") == "no-firmware"
        hold(True)
        guest.ok("(/job /dev/mock-accel/mock1 copy 4096 > /tmp/opened 2>&1) &")
        guest.until(lambda: waits(guest), True)
        for attribute in ("mock1/health", "mock1/hangs", "mock2/status"):
            works(guest, f"cat {CLASS}/{attribute}")
        hold(False)
        guest.until(lambda: guest.run("cat /tmp/opened").text, "4096")
    assert guest.read("mock1", "health") == "ok"
