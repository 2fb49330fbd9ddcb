"""An allocated device stays allocated through PCI resets."""

from __future__ import annotations

from functools import partial

import pytest
from module_guest import CLASS, DONE, ModuleGuest
from module_state import DRIVER, LOAD, PCI, UNLOAD, card, pfs, uevents

from mock_device.topology import Node

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("known_state")]

_RESETS = 5


@pytest.mark.parametrize("position", [0, 1], ids=["PF", "VF"])
def test_reset_keeps_the_status(guest: ModuleGuest, node: Node, position: int) -> None:
    pf, *_ = card(node).functions
    device = card(node).functions[position]
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    for status in ("1", "0"):
        assert guest.write(device.name, "status", status) == DONE
        guest.ok(f"echo 1 > {PCI}/{device.bdf}/reset")
        assert guest.read(device.name, "status") == status
        unloaded = guest.run(UNLOAD)
        assert ("in use" in unloaded.text) == (status == "1"), unloaded
    assert guest.devices() == {}


def test_reset_is_announced(guest: ModuleGuest, node: Node) -> None:
    """For any status, so that user space can check it."""
    with uevents(guest, "$ACTION ${DEVPATH##*/} $RESET") as heard:
        for status in ("0", "1"):
            assert guest.write("mock1", "status", status) == DONE
            guest.ok(f"echo 1 > {PCI}/{pfs(node)['mock1']}/reset")
        guest.until(heard, "change mock1 1\nchange mock1\nchange mock1 1")


def test_reset_is_not_visible_in_attributes(guest: ModuleGuest, node: Node) -> None:
    """Readers see the old values during a reset; writers wait for its end."""
    assert guest.write("mock1", "status", "1") == DONE
    constant = ["capabilities", "memory_size", "status", "uuid"]
    read = f"cd {CLASS}/mock1; while :; do grep '' {' '.join(constant)}; done > /tmp/seen 2>&1"
    expected = [f"{name}:{guest.read('mock1', name)}" for name in constant]
    guest.ok(f"({read}) & echo $! > /tmp/reader.pid")
    try:
        for _ in range(_RESETS):
            guest.ok(f"echo 1 > {PCI}/{pfs(node)['mock1']}/reset")
    finally:
        guest.ok("kill $(cat /tmp/reader.pid)")
    # The reader's last line may be incomplete.
    assert guest.ok("sed '$d' /tmp/seen | sort -u").splitlines() == expected
    reset = f"for i in $(seq {_RESETS}); do echo 1 > {PCI}/{pfs(node)['mock1']}/reset; done; echo done > /tmp/resets"
    guest.ok(f"rm -f /tmp/resets; ({reset}) &")
    while guest.run("cat /tmp/resets").text != "done":
        for status in ("0", "1"):
            assert guest.write("mock1", "status", status) == DONE
            assert guest.read("mock1", "status") == status


def test_reset_while_the_driver_is_not_bound(guest: ModuleGuest, node: Node) -> None:
    """Without a driver the status is lost: afterwards the device is free and does not hold the module."""
    address = pfs(node)["mock2"]
    assert guest.write("mock2", "status", "1") == DONE
    guest.ok(f"echo {address} > {DRIVER}/unbind; echo 1 > {PCI}/{address}/reset; echo {address} > {DRIVER}/bind")
    guest.until(partial(guest.read, "mock2", "status"), "0")
    guest.ok(f"{UNLOAD}; {LOAD}")
