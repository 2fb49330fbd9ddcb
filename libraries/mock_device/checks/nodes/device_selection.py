"""Selects devices of a topology by their properties instead of their names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mock_device.checks.errors import CheckError
from mock_device.topology import Function, Node, Slot


@dataclass(frozen=True)
class SlotOfNode:
    """A slot and its node."""

    node: str
    slot: Slot

    @property
    def functions(self) -> tuple[Function, ...]:
        return self.slot.functions

    @property
    def pf_count(self) -> int:
        """Number of PFs among its functions."""
        return sum(not function.is_vf for function in self.functions)

    def __str__(self) -> str:
        return f"{self.node} {self.slot.root_port} ({', '.join(function.name for function in self.functions)})"


class NoSuitableDevice(Exception):
    """The topology has no device that fits the test."""


def pfs(
    node: Node, *, capability: str | None = None, memory: int | None = None, bus: str | None = None
) -> list[Function]:
    """PFs of ``node`` that meet all given criteria; ``memory`` is a minimum in bytes, ``bus`` such as ``0000:12``."""
    return [
        function
        for function in node.pfs
        if (capability is None or capability in function.capabilities)
        and (memory is None or function.memory >= memory)
        and (bus is None or bus_of(function) == bus)
    ]


def bus_of(function: Function) -> str:
    """PCI domain and bus, such as ``0000:12``."""
    return function.bdf.rpartition(":")[0]


def pf_with_vfs(node: Node) -> Function:
    """The PF with the most VFs. Raises NoSuitableDevice."""
    best = max(node.pfs, key=lambda function: function.total_vfs, default=None)
    if best is None or not best.total_vfs:
        raise NoSuitableDevice(f"no PF with VFs on {node.name}")
    return best


def pf_without_vfs(node: Node) -> Function:
    """The first PF that has no VFs. Raises NoSuitableDevice."""
    for function in node.pfs:
        if not function.total_vfs:
            return function
    raise NoSuitableDevice(f"no PF without VFs on {node.name}")


def distinguishing_capability(node: Node) -> str:
    """The rarest capability that some but not all PFs have. Raises NoSuitableDevice."""
    counts = Counter(name for function in node.pfs for name in function.capabilities)
    distinguishing = [name for name, count in counts.items() if count < len(node.pfs)]
    if not distinguishing:
        raise NoSuitableDevice(f"all PFs of {node.name} have the same capabilities")
    return min(distinguishing, key=lambda name: (counts[name], name))


def largest_memory(node: Node) -> int:
    """Memory of the largest PF in bytes, provided that others have less. Raises NoSuitableDevice."""
    sizes = {function.memory for function in node.pfs}
    if len(sizes) < 2:
        raise NoSuitableDevice(f"all PFs of {node.name} have the same memory")
    return max(sizes)


def shared_bus(node: Node) -> str:
    """The first bus with more than one PF, such as ``0000:12``. Raises NoSuitableDevice."""
    counts = Counter(bus_of(function) for function in node.pfs)
    for bus, count in counts.items():
        if count > 1:
            return bus
    raise NoSuitableDevice(f"no two PFs on one bus on {node.name}")


def slot_to_unplug(node: Node) -> SlotOfNode:
    """The slot with the fewest PFs. Raises CheckError if the node has no slot."""
    if not node.slots:
        raise CheckError(f"{node.name} has no devices by the topology")
    return min((SlotOfNode(node.name, slot) for slot in node.slots), key=lambda slot: slot.pf_count)


def pf_whose_name_moves(node: Node, unplugged: SlotOfNode) -> Function:
    """The first PF whose name goes to another PF when ``node`` boots without the slot. Raises NoSuitableDevice.

    The kernel module names PFs in PCI order: mock0, mock1, ...
    """
    remaining = [pf for pf in node.pfs if pf not in unplugged.functions]
    new_owner = {before.name: pf for before, pf in zip(node.pfs, remaining, strict=False)}
    for pf in remaining:
        if new_owner.get(pf.name, pf) != pf:
            return pf
    raise NoSuitableDevice(f"no PF of {node.name} whose name another one has without {unplugged}")


def pfs_under_largest_root(node: Node) -> list[Function]:
    """PFs of ``node`` under the PCIe root with the most PFs."""
    roots: dict[str, list[Function]] = {}
    for function in node.pfs:
        roots.setdefault(node.pcie_root_of(function), []).append(function)
    return max(roots.values(), key=len, default=[])
