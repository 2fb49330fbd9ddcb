"""SR-IOV as the kernel has it: the PCI core finds the capability and creates the VFs."""

from __future__ import annotations

from functools import partial

import pytest
from module_guest import DONE, ModuleGuest
from module_state import BUSY, DRIVER, INVALID, LOAD, PCI, UNLOAD, card, pfs, published
from test_errors_in_qemu import said, taken

from mock_device.topology import Node, Slot

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("known_state")]


def on_bus(guest: ModuleGuest, slot: Slot) -> list[str]:
    """PCI addresses of the functions that the kernel sees in a slot."""
    return guest.ok(f"cd {PCI}; ls -d1 0000:{slot.bus:02x}:*").splitlines()


def test_vfs_are_on_the_bus_only_while_they_are_enabled(guest: ModuleGuest, node: Node) -> None:
    pf, first, second = card(node).functions
    assert on_bus(guest, card(node)) == [pf.bdf]
    assert guest.read(pf.name, "sriov_totalvfs") == guest.ok(f"cat {PCI}/{pf.bdf}/sriov_totalvfs") == "2"
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    guest.ok("echo 1 > /sys/bus/pci/rescan")
    assert on_bus(guest, card(node)) == [pf.bdf, first.bdf]
    assert guest.write(pf.name, "sriov_numvfs", "0") == DONE
    guest.ok("echo 1 > /sys/bus/pci/rescan")
    assert on_bus(guest, card(node)) == [pf.bdf]
    guest.ok(f"echo 2 > {PCI}/{pf.bdf}/sriov_numvfs")
    assert [guest.read(vf.name, "uuid") for vf in (first, second)] == [first.uuid, second.uuid]
    assert guest.read(pf.name, "sriov_numvfs") == "2"
    assert guest.ok(f"cat {PCI}/{first.bdf}/vendor {PCI}/{first.bdf}/device").split() == ["0x1de5", "0x0002"]


def test_number_changes_only_from_and_to_zero(guest: ModuleGuest, node: Node) -> None:
    pf, *vfs = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "3") == INVALID
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    assert guest.write(pf.name, "sriov_numvfs", "2") == BUSY
    assert guest.devices() == pfs(node) | published(vfs[:1])


def test_registers_of_vfs_are_in_the_bars_of_the_pf(guest: ModuleGuest, node: Node) -> None:
    """Each VF has its part of the VF BAR; lines 7 to 12 of ``resource`` are the VF BARs."""
    pf, first, second = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
    start = int(guest.ok(f"sed -n 8p {PCI}/{pf.bdf}/resource").split()[0], 16)
    places = [guest.ok(f"sed -n 1p {PCI}/{vf.bdf}/resource").split()[:2] for vf in (first, second)]
    size = 4096
    assert [[int(place, 16) for place in both] for both in places] == [
        [start + number * size, start + (number + 1) * size - 1] for number in range(2)
    ]


def test_vf_keeps_its_number_and_status_while_it_is_not_bound(guest: ModuleGuest, node: Node) -> None:
    pf, first, second = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
    for vf, left in ((first, second), (second, first)):
        assert guest.write(vf.name, "status", "1") == DONE
        guest.ok(f"echo {vf.bdf} > {DRIVER}/unbind")
        assert guest.devices() == pfs(node) | published([left])
        guest.ok(f"echo {vf.bdf} > {DRIVER}/bind")
        assert guest.devices() == pfs(node) | published([first, second])
        assert guest.read(vf.name, "status") == "1"


def test_disabling_resets_vfs(guest: ModuleGuest, node: Node) -> None:
    """Nothing of its user is left: here a VF that is not bound, because a bound one would prevent it."""
    pf, first, _ = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
    assert guest.write(first.name, "status", "1") == DONE
    guest.ok(f"echo {first.bdf} > {DRIVER}/unbind")
    for count in ("0", "2"):
        assert guest.write(pf.name, "sriov_numvfs", count) == DONE
    assert guest.read(first.name, "status") == "0"


def test_reset_of_pf_and_vf_keeps_both(guest: ModuleGuest, node: Node) -> None:
    pf, first, _ = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    for function in (pf, first):
        assert guest.write(function.name, "status", "1") == DONE
    for function in (pf, first):
        guest.ok(f"echo 1 > {PCI}/{function.bdf}/reset")
        assert [guest.read(name, "status") for name in (pf.name, first.name)] == ["1", "1"]


def test_allocated_vf_is_removed_with_its_pf(guest: ModuleGuest, node: Node) -> None:
    """The hardware disables it: that is logged, and nothing is left behind."""
    pf, first, _ = card(node).functions
    others = {name: address for name, address in pfs(node).items() if name != pf.name}
    assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
    assert guest.write(first.name, "status", "1") == DONE
    guest.ok(f"echo {pf.bdf} > {DRIVER}/unbind")
    assert f"{first.name} goes away while it is allocated" in guest.ok("dmesg")
    assert guest.devices() == others
    guest.ok(f"{UNLOAD}; {LOAD}")
    assert guest.devices() == pfs(node)
    assert guest.read(pf.name, "sriov_numvfs") == "0"


def test_vf_that_cannot_be_published_does_not_affect_another(guest: ModuleGuest, node: Node) -> None:
    """It is enabled, but not bound."""
    pf, first, second = card(node).functions
    with taken(guest, pf.name, second.name):
        assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
        assert said(guest, second.name)
        assert guest.devices() == pfs(node) | published([first])
    guest.ok(f"echo {second.bdf} > {DRIVER}/bind")
    assert guest.devices() == pfs(node) | published([first, second])


def test_slot_that_was_plugged_before_the_module_is_scanned_again(guest: ModuleGuest, node: Node) -> None:
    slot = card(node)
    pf, *vfs = slot.functions
    guest.ok(UNLOAD)
    guest.power_off(slot)
    guest.plug(slot)
    guest.until(partial(on_bus_now, guest, slot), [function.bdf for function in slot.functions])
    guest.ok(LOAD)
    assert guest.devices() == pfs(node)
    assert on_bus(guest, slot) == [pf.bdf]
    assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
    assert guest.devices() == pfs(node) | published(vfs)


def on_bus_now(guest: ModuleGuest, slot: Slot) -> list[str]:
    return guest.run(f"cd {PCI}; ls -d1 0000:{slot.bus:02x}:* 2>/dev/null").text.splitlines()


def test_pf_on_a_new_bus_is_scanned_again(guest: ModuleGuest, node: Node) -> None:
    """The bus is created after the module was loaded: the PF is noticed when the kernel adds it."""
    slot = card(node)
    pf, *vfs = slot.functions
    port = guest.ok(f"basename $(dirname $(readlink {PCI}/{pf.bdf}))")
    guest.ok(f"echo 1 > {PCI}/{port}/remove")
    assert guest.devices() == {name: address for name, address in pfs(node).items() if name != pf.name}
    guest.ok("echo 1 > /sys/bus/pci/rescan")
    guest.until(guest.devices, pfs(node))
    assert on_bus(guest, slot) == [pf.bdf]
    assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
    assert guest.devices() == pfs(node) | published(vfs)


def test_configuration_is_read_while_the_module_comes_and_goes(guest: ModuleGuest, node: Node) -> None:
    """Accesses to the buses of the devices may be running when it is unloaded."""
    guest.ok(f"(while :; do cat {PCI}/0000:[12]*/config; done) > /dev/null 2>&1 & echo $! > /tmp/reader.pid")
    try:
        for _ in range(3):
            guest.ok(f"{UNLOAD}; {LOAD}")
    finally:
        guest.ok("kill $(cat /tmp/reader.pid)")
    assert guest.devices() == pfs(node)
