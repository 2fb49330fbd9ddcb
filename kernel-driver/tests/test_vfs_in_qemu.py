"""VFs and PFs that are bound and unbound one by one: names and numbers follow the hardware."""

from __future__ import annotations

import pytest
from module_guest import DONE, ModuleGuest
from module_state import DRIVER, PCI, UNLOAD, card, pfs, published, uevents

from mock_device.topology import Node

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("known_state")]

_LINKS = f"cd {PCI}; for l in */virtfn*; do ! test -L $l || echo $l $(readlink $l); done"


def test_vf_number_does_not_depend_on_other_vfs(guest: ModuleGuest, node: Node) -> None:
    pf, first, second = card(node).functions
    guest.ok(f"echo {first.bdf} > {DRIVER}/unbind")
    assert guest.read(pf.name, "sriov_totalvfs") == "2"
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    assert guest.devices() == pfs(node), "the first VF is enabled but not bound"
    guest.ok(f"echo {first.bdf} > {DRIVER}/bind")
    assert guest.devices() == pfs(node) | published([first])
    assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
    assert guest.devices() == pfs(node) | published([first, second])
    guest.ok(f"echo {first.bdf} > {DRIVER}/unbind")
    assert guest.devices() == pfs(node) | published([second])
    assert guest.ok(_LINKS) == f"{pf.bdf}/virtfn1 ../{second.bdf}"
    assert [guest.read(pf.name, name) for name in ("sriov_totalvfs", "sriov_numvfs")] == ["2", "2"]
    guest.ok(f"echo {first.bdf} > {DRIVER}/bind")
    assert guest.devices() == pfs(node) | published([first, second])


def test_vf_keeps_its_number_when_another_is_removed_from_the_bus(guest: ModuleGuest, node: Node) -> None:
    pf, first, second = card(node).functions
    guest.ok(f"echo 1 > {PCI}/{first.bdf}/remove")
    try:
        assert guest.read(pf.name, "sriov_totalvfs") == "2"
        assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
        assert guest.devices() == pfs(node) | published([second])
    finally:
        guest.ok("echo 1 > /sys/bus/pci/rescan")
    guest.until(guest.devices, pfs(node) | published([first, second]))


def test_allocated_vf_is_unpublished_with_its_pf_and_published_again(guest: ModuleGuest, node: Node) -> None:
    """Like a real VF it disappears; that is logged, and its user can free it later."""
    pf, first, second = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
    assert guest.write(second.name, "status", "1") == DONE
    with uevents(guest, "$ACTION ${DEVPATH##*/}") as heard:
        guest.ok(f"echo {pf.bdf} > {DRIVER}/unbind")
        guest.until(heard, "\n".join(f"remove {name}" for name in (first.name, second.name, pf.name)))
    said = guest.ok("dmesg | grep 'while it is allocated'")
    assert f"{second.bdf}: {second.name} goes away while it is allocated" in said
    assert len(said.splitlines()) == 1
    assert "in use" in guest.run(UNLOAD).text
    guest.ok(f"echo {pf.bdf} > {DRIVER}/bind")
    guest.until(guest.devices, pfs(node) | published([first, second]))
    assert guest.read(pf.name, "sriov_numvfs") == "2"
    assert guest.read(second.name, "status") == "1"
    assert guest.write(second.name, "status", "0") == DONE
    guest.ok(UNLOAD)


def test_allocated_vf_is_enabled_when_it_is_bound(guest: ModuleGuest, node: Node) -> None:
    """Even if its PF's VFs were disabled while it was unbound: otherwise nothing could free it."""
    pf, first, second = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
    assert guest.write(second.name, "status", "1") == DONE
    guest.ok(f"echo {second.bdf} > {DRIVER}/unbind")
    assert guest.write(pf.name, "sriov_numvfs", "0") == DONE
    guest.ok(f"echo {second.bdf} > {DRIVER}/bind")
    assert guest.devices() == pfs(node) | published([first, second])
    assert guest.read(pf.name, "sriov_numvfs") == "2"
