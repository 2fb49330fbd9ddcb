"""A device that cannot be published: it is logged, the others are published, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from module_guest import DONE, ModuleGuest
from module_state import DRIVER, LOAD, UNLOAD, card, pfs, published

from mock_device.topology import Node

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("known_state")]


@contextmanager
def taken(guest: ModuleGuest, device: str, name: str) -> Iterator[None]:
    """Occupy a name of the class by another device; at the end clear the kernel log of its messages."""
    guest.ok(f"insmod /name_taker.ko device={device} name={name}")
    try:
        yield
    finally:
        guest.ok("rmmod name_taker; dmesg -c > /tmp/taken.log")


def said(guest: ModuleGuest, name: str) -> bool:
    return guest.run(f"dmesg | grep -q 'cannot publish {name}: -EEXIST'").code == 0


def test_vf_that_cannot_be_published_when_names_change(guest: ModuleGuest, node: Node) -> None:
    """It is logged, does not affect other VFs, and is published when it is enabled again."""
    slot = next(slot for slot in reversed(node.slots) if slot.functions[0].total_vfs)
    before, later = node.slots[node.slots.index(slot) - 1], slot.functions
    guest.power_off(before)
    guest.ok(f"{UNLOAD}; {LOAD}")
    old = next(name for name, address in guest.devices().items() if address == later[0].bdf)
    assert guest.write(old, "sriov_numvfs", "2") == DONE
    everything = pfs(node) | published(later)
    with taken(guest, old, later[2].name):
        guest.plug(before)
        without = {name: address for name, address in everything.items() if name != later[2].name}
        guest.until(guest.devices, without)
        assert said(guest, later[2].name)
        # Binding the first VF again must not fail because of the second one.
        for switch in ("unbind", "bind"):
            guest.ok(f"echo {later[1].bdf} > {DRIVER}/{switch}")
        assert guest.read(later[1].name, "status") == "0"
    for count in ("0", "2"):
        assert guest.write(later[0].name, "sriov_numvfs", count) == DONE
    assert guest.devices() == everything


def test_vf_that_cannot_be_published_is_not_bound(guest: ModuleGuest, node: Node) -> None:
    pf, first, second = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
    guest.ok(f"echo {second.bdf} > {DRIVER}/unbind")
    with taken(guest, pf.name, second.name):
        assert guest.run(f"echo {second.bdf} > {DRIVER}/bind").code != 0
        assert guest.read(first.name, "status") == "0"
    guest.ok(f"echo {second.bdf} > {DRIVER}/bind")
    assert guest.devices() == pfs(node) | published([first, second])


def test_nodes_have_their_names_without_memory(guest: ModuleGuest, node: Node) -> None:
    """A name that the driver cannot make would be another one: a node outside of the folder, which stays."""
    pf, vf, _ = card(node).functions
    nodes = "cd /dev; find . -type c -name 'mock*' | sort"
    before = guest.ok(nodes).splitlines()
    guest.ok("insmod /no_memory.ko")
    try:
        assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
        assert guest.ok(nodes).splitlines() == sorted([*before, f"./mock-accel/{vf.name}"])
        assert guest.ok(f"stat -c '%a %u:%g' /dev/mock-accel/{vf.name}") == "600 0:0"
    finally:
        guest.ok("rmmod no_memory")
    assert guest.write(pf.name, "sriov_numvfs", "0") == DONE
    assert guest.ok(nodes).splitlines() == before
