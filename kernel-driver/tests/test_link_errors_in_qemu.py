"""Errors of a PCI Express link: Linux recovers it, by a reset of the link if it is frozen, and devices work again."""

from __future__ import annotations

import hashlib

import pytest
from module_guest import DONE, ModuleGuest
from module_state import card, uevents

from mock_device.topology import Node

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("known_state")]

_FROZEN, _NORMAL = "DLP", "COMP_TIME"
"""Fatal and non-fatal uncorrectable errors, by QEMU's names."""
_DIGEST = hashlib.sha256(bytes(i % 251 for i in range(4096))).hexdigest()


def recovered(guest: ModuleGuest) -> bool:
    return guest.run("dmesg | grep -q 'device recovery successful'").code == 0


@pytest.mark.parametrize("error", [_FROZEN, _NORMAL])
@pytest.mark.parametrize("vfs", [0, 2], ids=["PF", "PF with VFs"])
def test_devices_of_a_recovered_link_work(guest: ModuleGuest, node: Node, vfs: int, error: str) -> None:
    """The devices stay allocated, and the second error is recovered like the first one."""
    slot = card(node)
    names = [function.name for function in slot.functions[: 1 + vfs]]
    if vfs:
        assert guest.write(names[0], "sriov_numvfs", str(vfs)) == DONE
    for name in names:
        assert guest.write(name, "status", "1") == DONE
    for _ in range(2):
        guest.ok("dmesg -c > /tmp/before.log")
        with uevents(guest, "${DEVPATH##*/} $RESET") as heard:
            guest.inject_error(slot.root_port, error)
            guest.until(lambda: recovered(guest), True)
            resets = {f"{name} 1" for name in names} if error == _FROZEN else set()
            guest.until(lambda: {line for line in heard().splitlines() if line.endswith(" 1")}, resets)
        for name in names:
            assert guest.read(name, "status") == "1"
            assert guest.read(name, "health") == "ok"
            assert guest.ok(f"/job /dev/mock-accel/{name} sha256 4096") == _DIGEST
