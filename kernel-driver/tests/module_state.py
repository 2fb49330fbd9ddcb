"""The state with which every test starts, and helpers to express it in terms of the topology."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from module_guest import CLASS, ModuleGuest

from mock_device.topology import Function, Node, Slot

PCI = "/sys/bus/pci/devices"
LOAD = "/usr/sbin/modprobe -d /opt mock_accel"
UNLOAD = "/usr/sbin/modprobe -d /opt -r mock_accel"
DRIVER = "/sys/bus/pci/drivers/mock_accel"
_BIND = "d=${v%/vendor}; test -e $d/driver || echo ${d##*/} | tee /sys/bus/pci/drivers_probe"
LOADER = "/usr/local/bin/loader"
FIRMWARE = "/opt/lib/firmware/mock-accel"
SLOW_FIRMWARE = "/sys/module/slow_firmware/parameters"
"""``hold`` and ``waiting`` of tests/modules/slow_firmware.c."""
INVALID, BUSY, IO_ERROR = "Invalid argument", "Device or resource busy", "Input/output error"


def published(functions: list[Function] | tuple[Function, ...]) -> dict[str, str]:
    """PCI address by name of each function, from the topology."""
    return {function.name: function.bdf for function in functions}


def pfs(node: Node) -> dict[str, str]:
    return published([function for function in node.functions if not function.is_vf])


def card(node: Node) -> Slot:
    """The first slot with a PF and two VFs."""
    return next(slot for slot in node.slots if slot.functions[0].total_vfs == 2)


def restore(guest: ModuleGuest, node: Node) -> None:
    """Restore the initial state: slots of the topology plugged, module loaded, PFs in order, no VFs, devices free."""
    guest.power_off(*(slot for slot in guest.plugged if slot not in node.slots))
    missing = [slot for slot in node.slots if slot not in guest.plugged]
    guest.ok(LOAD)
    for slot in missing:
        guest.plug(slot)
    if missing:
        there = f"ls -d {' '.join(f'{PCI}/{address}' for address in pfs(node).values())}"
        guest.until(lambda: guest.run(there).code, 0)
    bound = guest.ok(f"for v in $(grep -lx 0x1de5 {PCI}/*/vendor); do {_BIND}; done")
    if bound:
        addresses = set(pfs(node).values())
        guest.until(lambda: addresses <= set(guest.devices().values()), True)
    guest.run(f"for f in {CLASS}/*/status {CLASS}/*/sriov_numvfs; do echo 0 > $f; done 2>/dev/null")
    if missing or guest.devices() != pfs(node):
        guest.ok(f"{UNLOAD}; {LOAD}")
        assert guest.devices() == pfs(node)


@contextmanager
def slow_firmware(guest: ModuleGuest) -> Iterator[Callable[[bool], None]]:
    """Whoever reads the firmware waits while a function, which this yields, was last called with True."""
    options = f"file={FIRMWARE}/mock-accel.fw"
    guest.ok(f"insmod /slow_firmware.ko {options} && mount -t slow_firmware none {FIRMWARE}")

    def hold(value: bool) -> None:
        guest.ok(f"echo {int(value)} > {SLOW_FIRMWARE}/hold")

    try:
        yield hold
    finally:
        hold(False)
        guest.until(lambda: guest.run(f"umount {FIRMWARE}").code, 0)
        guest.ok("rmmod slow_firmware")


@contextmanager
def uevents(guest: ModuleGuest, shown: str) -> Iterator[Callable[[], str]]:
    """Record kernel events of the class.

    Yields a function that returns the events so far, one line ``shown`` each (variables of the event).
    """
    listener = f"uevent sh -c 'test $SUBSYSTEM != mock-accel || echo {shown} >> /tmp/uevents'"
    guest.ok(f": > /tmp/uevents; {listener} & echo $! > /tmp/uevent.pid")
    try:
        # Netlink family 15 is KOBJECT_UEVENT; the kernel's own socket has port 0.
        guest.until(lambda: guest.ok("awk '$2 == 15 && $3 != 0' /proc/net/netlink | wc -l"), "1")
        yield lambda: guest.ok("cat /tmp/uevents")
    finally:
        guest.ok("kill $(cat /tmp/uevent.pid)")
