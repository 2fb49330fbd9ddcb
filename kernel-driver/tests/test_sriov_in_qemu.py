"""PFs with a visible SR-IOV capability, by sriov_shim.ko in the guest: the PCI core creates the VFs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from module_guest import DONE, ModuleGuest
from module_state import BUSY, COMPLAINT, DRIVER, INVALID, LOAD, PCI, UNLOAD, card, published
from test_errors_in_qemu import said, taken

from mock_device.topology import Function, Node, Slot

pytestmark = pytest.mark.slow


def last_card(node: Node) -> Slot:
    """The last slot with a PF and VFs; others come before it."""
    return next(slot for slot in reversed(node.slots) if slot.functions[0].total_vfs)


@pytest.fixture(scope="module")
def shown(own_guest: ModuleGuest, node: Node) -> ModuleGuest:
    """A guest with the first card, whose PF has a visible capability; the slot of the last card is prepared, too."""
    slots = [card(node), last_card(node)]
    for slot in slots:
        own_guest.plug(slot)
    count = str(sum(len(slot.functions) for slot in slots))
    own_guest.until(lambda: own_guest.run(f"grep -lx 0x1de5 {PCI}/*/vendor | wc -l").text, count)
    own_guest.ok("insmod /sriov_shim.ko")
    own_guest.power_off(slots[1])
    return own_guest


@pytest.fixture
def functions(shown: ModuleGuest, node: Node) -> Iterator[tuple[Function, Function, Function]]:
    """PF and VFs: no VF enabled, all free; fails if the kernel logs a warning."""
    pf, first, second = card(node).functions
    shown.ok(LOAD)
    shown.until(shown.devices, published([pf]))
    yield pf, first, second
    shown.run(f"for f in {PCI}/*/mock-accel/*/status; do echo 0 > $f; done; {UNLOAD}")
    assert not [line for line in shown.ok("dmesg -c").splitlines() if COMPLAINT.search(line)]


Functions = tuple[Function, Function, Function]


def test_vfs_are_created_by_the_pci_core(shown: ModuleGuest, functions: Functions) -> None:
    pf, first, second = functions
    assert shown.read(pf.name, "sriov_totalvfs") == "2"
    assert shown.write(pf.name, "sriov_numvfs", "3") == INVALID
    assert shown.write(pf.name, "sriov_numvfs", "2") == DONE
    assert shown.devices() == published(functions)
    assert [shown.read(vf.name, "uuid") for vf in (first, second)] == [first.uuid, second.uuid]
    assert shown.ok(f"cat {PCI}/{pf.bdf}/sriov_numvfs; readlink {PCI}/{pf.bdf}/virtfn1") == f"2\n../{second.bdf}"
    assert shown.write(pf.name, "sriov_numvfs", "1") == BUSY, "only from 0 and to 0"
    assert shown.write(first.name, "status", "1") == DONE
    assert shown.write(pf.name, "sriov_numvfs", "0") == BUSY
    assert shown.run(f"echo 0 > {PCI}/{pf.bdf}/sriov_numvfs").code != 0, "nor by the PCI device's attribute"
    assert shown.write(first.name, "status", "0") == DONE
    assert shown.write(pf.name, "sriov_numvfs", "0") == DONE
    assert shown.devices() == published([pf])


def test_vf_keeps_its_number(shown: ModuleGuest, functions: Functions) -> None:
    pf, first, second = functions
    assert shown.write(pf.name, "sriov_numvfs", "2") == DONE
    shown.ok(f"echo {first.bdf} > {DRIVER}/unbind")
    assert shown.devices() == published([pf, second])
    shown.ok(f"echo {first.bdf} > {DRIVER}/bind")
    assert shown.devices() == published(functions)
    assert shown.write(pf.name, "sriov_numvfs", "0") == DONE


def test_reset_of_pf_and_vf_keeps_both(shown: ModuleGuest, functions: Functions) -> None:
    pf, first, _ = functions
    assert shown.write(pf.name, "sriov_numvfs", "1") == DONE
    for function in (pf, first):
        assert shown.write(function.name, "status", "1") == DONE
    for function in (pf, first):
        shown.ok(f"echo 1 > {PCI}/{function.bdf}/reset")
        assert [shown.read(name, "status") for name in (pf.name, first.name)] == ["1", "1"]
    assert shown.write(first.name, "status", "0") == DONE
    assert shown.write(pf.name, "sriov_numvfs", "0") == DONE


def test_allocated_vf_is_removed_with_its_pf(shown: ModuleGuest, functions: Functions) -> None:
    """The hardware disables it: that is logged, and nothing is left behind."""
    pf, first, _ = functions
    assert shown.write(pf.name, "sriov_numvfs", "2") == DONE
    assert shown.write(first.name, "status", "1") == DONE
    shown.ok(f"echo {pf.bdf} > {DRIVER}/unbind")
    assert f"{first.name} goes away while it is allocated" in shown.ok("dmesg")
    assert shown.devices() == {}
    shown.ok(f"{UNLOAD}; {LOAD}")
    assert shown.devices() == published([pf])
    assert shown.read(pf.name, "sriov_numvfs") == "0"


def test_error_of_a_vf_does_not_affect_another(shown: ModuleGuest, functions: Functions) -> None:
    """A VF that was published before is either both bound and published, or neither."""
    pf, first, second = functions
    assert shown.write(pf.name, "sriov_numvfs", "1") == DONE
    assert shown.write(pf.name, "sriov_numvfs", "0") == DONE
    with taken(shown, pf.name, second.name):
        assert shown.write(pf.name, "sriov_numvfs", "2") == DONE, "unbound VFs are enabled, too"
        assert said(shown, second.name)
        assert shown.devices() == published([pf, first])
        shown.ok(f"echo {first.bdf} > {DRIVER}/unbind; echo {first.bdf} > {DRIVER}/bind")
        assert shown.devices() == published([pf, first])
    shown.ok(f"echo {second.bdf} > {DRIVER}/bind")
    assert shown.devices() == published(functions)
    assert shown.write(pf.name, "sriov_numvfs", "0") == DONE


def test_error_of_a_vf_of_a_renamed_pf_does_not_affect_another(
    shown: ModuleGuest, functions: Functions, node: Node
) -> None:
    """A bound VF that could not be published must not make the bind of another one fail."""
    between, last = node.slots[1], last_card(node)
    pf, first, second = last.functions
    everything = published([functions[0], *between.functions, pf])
    shown.plug(last)
    shown.until(shown.devices, published([functions[0]]) | {"mock1": pf.bdf})
    assert shown.write("mock1", "sriov_numvfs", "2") == DONE
    try:
        with taken(shown, "mock1", second.name):
            shown.plug(between)
            shown.until(shown.devices, everything | published([first]))
            for switch in ("unbind", "bind"):
                shown.ok(f"echo {first.bdf} > {DRIVER}/{switch}")
            assert shown.devices() == everything | published([first])
            assert said(shown, second.name)
        assert shown.write(pf.name, "sriov_numvfs", "0") == DONE
        assert shown.devices() == everything
    finally:
        shown.power_off(between, last)
