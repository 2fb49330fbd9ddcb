"""Device memory: a hot-plugged slot gets addresses for the windows of all its functions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from module_guest import ModuleGuest
from module_state import PCI, card

from mock_device.topology import Node, Slot

pytestmark = pytest.mark.slow

Boot = Callable[[Node, Slot, Path], AbstractContextManager[ModuleGuest]]

_LARGEST = 16 << 20
_FUNCTIONS = 8
_REGISTERS = 4096


def full_slot(like: Slot) -> Slot:
    """A PF with the largest number of VFs and the largest windows, in the place of ``like``."""
    pf, vf = like.functions[0], like.functions[1]
    functions = [replace(pf, total_vfs=_FUNCTIONS - 1, window=_LARGEST)]
    for number in range(1, _FUNCTIONS):
        name, bdf = f"{pf.name}_vf{number - 1}", f"{pf.bdf[:-1]}{number}"
        functions.append(replace(vf, name=name, uuid=f"VF{number}", bdf=bdf, function=number, window=_LARGEST))
    return replace(like, functions=tuple(functions))


@pytest.fixture(scope="module")
def slots(node: Node) -> list[Slot]:
    """The full one, and one with windows of the default size."""
    return [full_slot(card(node)), node.slots[1]]


@pytest.fixture(scope="module")
def guest(node: Node, slots: list[Slot], spare: Slot, boot: Boot) -> Iterator[ModuleGuest]:
    first, *others = node.numa_nodes
    changed = replace(node, numa_nodes=(replace(first, slots=tuple(slots)), *others))
    with tempfile.TemporaryDirectory(prefix="mock-accel-") as folder, boot(changed, spare, Path(folder)) as guest:
        yield guest


def sizes(guest: ModuleGuest, bdf: str) -> tuple[int, int]:
    """Bytes of BAR0 and BAR2 as the kernel has placed them; 0 for a BAR without an address."""
    lines = guest.ok(f"cat {PCI}/{bdf}/resource").splitlines()
    ranges = [[int(field, 16) for field in line.split()] for line in lines]
    return tuple(end - start + 1 if start else 0 for start, end, _ in (ranges[0], ranges[2]))  # type: ignore[return-value]


def test_all_functions_get_their_bars(guest: ModuleGuest, slots: list[Slot]) -> None:
    functions = [function for slot in slots for function in slot.functions]
    for slot in slots:
        guest.plug(slot)
    guest.until(lambda: guest.run(f"grep -lx 0x1de5 {PCI}/*/vendor | wc -l").text, str(len(functions)))
    expected = {function.bdf: (_REGISTERS, function.window) for function in functions}
    guest.until(lambda: {bdf: sizes(guest, bdf) for bdf in expected}, expected)
    log = guest.ok("dmesg").splitlines()
    assert not [line for line in log if "BAR" in line and "failed to assign" in line]


def test_a_slot_is_plugged_again(guest: ModuleGuest, slots: list[Slot]) -> None:
    guest.power_off(slots[0])
    guest.plug(slots[0])
    expected = {function.bdf: (_REGISTERS, function.window) for function in slots[0].functions}
    guest.until(lambda: guest.run(f"ls -d {PCI}/{slots[0].functions[-1].bdf} | wc -l").text, "1")
    guest.until(lambda: {bdf: sizes(guest, bdf) for bdf in expected}, expected)
