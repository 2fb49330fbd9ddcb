"""A topology as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

CAPABILITIES = {"compute": 1 << 0, "encryption": 1 << 1, "compression": 1 << 2, "p2p-dma": 1 << 3}
"""Names of the bits of the capabilities register (BAR0 offset 0x28)."""

DEFAULT_WINDOW = 1 << 20


class DeviceId(NamedTuple):
    """Which device of a cluster: its node, and its name there."""

    node: str
    name: str
    """As in sysfs: ``mock0``, its VFs ``mock0_vf0`` and so on."""

    def __str__(self) -> str:
        return f"{self.node} {self.name}"


@dataclass(frozen=True)
class Function:
    """One PCI function: a physical (PF) or virtual (VF) mock accelerator."""

    name: str
    """As in sysfs: ``mock0``, its VFs ``mock0_vf0`` and so on."""
    uuid: str
    bdf: str
    """Full PCI address in the guest, ``0000:11:00.0``."""
    device: int
    function: int
    numa_node: int
    memory: int
    """Bytes."""
    capabilities: tuple[str, ...]
    is_vf: bool
    total_vfs: int
    parent: str | None
    """A VF's PF."""
    multifunction: bool
    """The slot has more than one function."""
    root_port: str
    window: int = DEFAULT_WINDOW
    """Bytes of device memory (BAR2); a VF has as many as its PF."""

    @property
    def capability_bits(self) -> int:
        """Value of the capabilities register."""
        return sum(CAPABILITIES[name] for name in self.capabilities)


@dataclass(frozen=True)
class Slot:
    """A root port and the functions behind it."""

    root_port: str
    """QEMU id, ``rp11`` for the root port with secondary bus 0x11."""
    bus: int
    functions: tuple[Function, ...]
    root: int
    """Bus number of the PCIe root above it."""

    @property
    def pcie_root(self) -> str:
        """The PCIe root above it as Kubernetes names it, ``pci0000:10``."""
        return f"pci0000:{self.root:02x}"


@dataclass(frozen=True)
class NumaNode:
    """A NUMA node of a guest, with the ``pxb-pcie`` bridge of its devices."""

    id: int
    memory: int
    """Bytes of guest memory."""
    cpus: int
    bus: int
    """Bus number of the ``pxb-pcie`` bridge."""
    wired_to: int
    """NUMA node that the guest's bridge is really wired to."""
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Node:
    """A guest."""

    name: str
    address: str
    """IPv4 address in the cluster's network namespace; empty in an external topology."""
    numa_nodes: tuple[NumaNode, ...]

    @property
    def slots(self) -> tuple[Slot, ...]:
        return tuple(slot for numa in self.numa_nodes for slot in numa.slots)

    @property
    def functions(self) -> tuple[Function, ...]:
        """All functions in PCI order, VFs that are not enabled included."""
        return tuple(function for slot in self.slots for function in slot.functions)

    @property
    def devices(self) -> dict[DeviceId, Function]:
        """All functions in PCI order by their identity, VFs that are not enabled included."""
        return {DeviceId(self.name, function.name): function for function in self.functions}

    @property
    def pfs(self) -> tuple[Function, ...]:
        """All physical functions in PCI order."""
        return tuple(function for function in self.functions if not function.is_vf)

    def vfs_of(self, pf: Function) -> tuple[Function, ...]:
        """Virtual functions of ``pf`` in PCI order."""
        return tuple(function for function in self.functions if function.parent == pf.name)

    def parent_of(self, vf: Function) -> Function | None:
        """The PF of ``vf``; None for a PF."""
        return next((function for function in self.functions if function.name == vf.parent), None)

    def pcie_root_of(self, function: Function) -> str:
        """The PCIe root above ``function`` as Kubernetes names it, ``pci0000:10``; of a guest a ``pxb-pcie`` bridge."""
        (slot,) = (slot for slot in self.slots if function in slot.functions)
        return slot.pcie_root

    @property
    def memory(self) -> int:
        """Bytes of guest memory."""
        return sum(numa.memory for numa in self.numa_nodes)

    @property
    def cpus(self) -> int:
        return sum(numa.cpus for numa in self.numa_nodes)


@dataclass(frozen=True)
class Topology:
    """A cluster's nodes."""

    name: str
    path: Path
    """The user's file, absolute."""
    nodes: tuple[Node, ...]
    external: bool
    """Whether it describes nodes of a cluster that exists, instead of guests to start."""
    text: str = field(compare=False, repr=False)
    """Content of the file when it was read: the file may change while the topology is used."""

    @property
    def devices(self) -> dict[DeviceId, Function]:
        """All functions of all nodes by their identity, VFs that are not enabled included."""
        return {key: function for node in self.nodes for key, function in node.devices.items()}

    def node(self, name: str) -> Node:
        """The node ``name``; KeyError names the nodes there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"no node {name!r} in topology {self.name}; it has {', '.join(n.name for n in self.nodes)}")
