"""An allocated device stays allocated through suspend and resume.

Uses a separate guest: after a resume the extended configuration space of every device reads zero. QEMU's firmware does
not restore it, and the PCI core would find no SR-IOV capability when a device is scanned again.
"""

from __future__ import annotations

import pytest
from module_guest import DONE, ModuleGuest
from module_state import UNLOAD, card, restore

from mock_device.topology import Node

pytestmark = pytest.mark.slow


def test_sleep_keeps_the_status(own_guest: ModuleGuest, node: Node) -> None:
    """A device without power loses its status."""
    restore(own_guest, node)
    pf, vf, _ = card(node).functions
    assert own_guest.write(pf.name, "sriov_numvfs", "1") == DONE
    for name in (vf.name, "mock1"):
        assert own_guest.write(name, "status", "1") == DONE
    own_guest.sleep_and_wake()
    names = (pf.name, vf.name, "mock1", "mock2")
    assert {name: own_guest.read(name, "status") for name in names} == dict(zip(names, "0110", strict=True))
    for name in (vf.name, "mock1"):
        assert own_guest.write(name, "status", "0") == DONE
    own_guest.ok(UNLOAD)
