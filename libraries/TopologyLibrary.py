"""Robot Framework library: nodes and devices of the topology, selected by their properties."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from robot.api import SkipExecution
from robot.api.deco import keyword, library

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import device_selection, session
from mock_device.checks.nodes.device_selection import NoSuitableDevice, SlotOfNode
from mock_device.checks.objects import others
from mock_device.topology import Function, Node

T = TypeVar("T")


@library(scope="GLOBAL", auto_keywords=False)
class TopologyLibrary:
    """Returns nodes and devices of the topology, without devices that other users of the cluster hold.

    A keyword that finds no device with the property skips the test, and says what
    the topology lacks.
    """

    @keyword(name="Get PFs")
    def get_pfs(
        self, node: str, capability: str | None = None, memory: int | None = None, bus: str | None = None
    ) -> list[Function]:
        """Return PFs of ``node``: with ``capability``, ``memory`` bytes or more, on ``bus`` (``0000:12``), if given."""
        return device_selection.pfs(_node(node), capability=capability, memory=memory, bus=bus)

    @keyword(name="Get PF With VFs")
    def get_pf_with_vfs(self, node: str) -> Function:
        """Return the PF of ``node`` that has the most VFs."""
        return _pick(device_selection.pf_with_vfs, node)

    @keyword(name="Get PF Without VFs")
    def get_pf_without_vfs(self, node: str) -> Function:
        """Return a PF of ``node`` without VFs."""
        return _pick(device_selection.pf_without_vfs, node)

    @keyword(name="Get VFs Of")
    def get_vfs_of(self, node: str, pf: Function) -> list[Function]:
        """Return the VFs of ``pf`` on ``node``, enabled or not."""
        return list(_node(node).vfs_of(pf))

    @keyword
    def get_distinguishing_capability(self, node: str) -> str:
        """Return a capability that only some PFs of ``node`` have."""
        return _pick(device_selection.distinguishing_capability, node)

    @keyword
    def get_largest_memory(self, node: str) -> int:
        """Return the bytes of the largest PFs of ``node``, which also has smaller ones."""
        return _pick(device_selection.largest_memory, node)

    @keyword
    def get_bus_with_several_pfs(self, node: str) -> str:
        """Return a bus of ``node`` (``0000:12``) that has more than one PF."""
        return _pick(device_selection.shared_bus, node)

    @keyword(name="Get PFs Under Largest Root")
    def get_pfs_under_largest_root(self) -> list[Function]:
        """Return the PFs of the PCIe root that has the most PFs, of all nodes."""
        return max(
            (device_selection.pfs_under_largest_root(_node(name)) for name in session.current().node_names), key=len
        )

    @keyword
    def get_slot_to_unplug(self, node: str) -> SlotOfNode:
        """Return the slot of ``node`` that has the fewest PFs."""
        return device_selection.slot_to_unplug(_node(node))

    @keyword(name="Get PF Whose Name Moves Without")
    def get_pf_whose_name_moves_without(self, slot: SlotOfNode) -> Function:
        """Return a PF whose name another PF has when the node boots with ``slot`` empty."""
        return _pick(lambda node: device_selection.pf_whose_name_moves(node, slot), slot.node)

    @keyword(name="Count PFs")
    def count_pfs(self) -> int:
        """Return how many PFs the cluster has."""
        return sum(len(node.pfs) for node in session.current().topology.nodes)

    @keyword
    def get_node_names(self) -> list[str]:
        """Return the names of the nodes, in the order of the topology."""
        return session.current().node_names

    @keyword(name="Get NUMA Nodes")
    def get_numa_nodes(self, node: str) -> list[int]:
        """Return the NUMA nodes of ``node`` that have devices."""
        found = [numa.id for numa in session.current().topology.node(node).numa_nodes if numa.slots]
        if not found:
            raise CheckError(f"topology {session.current().topology.name} has no devices on {node}")
        return found

    @keyword(name="Count PFs On NUMA Node")
    def count_pfs_on_numa_node(self, node: str, numa_node: int) -> int:
        """Return how many PFs ``node`` has on ``numa_node``."""
        functions = _node(node).functions
        return sum(function.numa_node == numa_node and not function.is_vf for function in functions)

    @keyword(name="Skip Unless Topology Has PFs")
    def skip_unless_topology_has_pfs(self, count: int) -> None:
        """Skip the test when the cluster has fewer than ``count`` PFs."""
        topology = session.current().topology
        found = sum(len(node.pfs) for node in topology.nodes)
        if found < count:
            raise SkipExecution(
                f"{count} pods with a device each need {count} PFs, topology {topology.name} has {found}"
            )


def _node(name: str) -> Node:
    """The node ``name`` without the devices that other users of the cluster hold."""
    current = session.current()
    return others.without(current.topology.node(name), others.held(current.api))


def _pick(choose: Callable[[Node], T], node: str) -> T:
    topology = session.current().topology
    try:
        return choose(_node(node))
    except NoSuitableDevice as error:
        raise SkipExecution(f"{error} in topology {topology.name}") from error
