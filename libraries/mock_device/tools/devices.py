"""``lab devices``: all devices as the nodes' sysfs shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import observe
from mock_device.checks.nodes.session import Session
from mock_device.checks.nodes.sysfs import VF_ID, NodeDevices
from mock_device.lab.base.disk import mebibytes
from mock_device.lab.base.tables import Table
from mock_device.topology import CAPABILITIES, Topology

STATUS = {0: "free", 1: "allocated"}
"""Words for the status register."""
_HEADINGS = ("node", "device", "status", "uuid", "pci", "numa", "memory", "capabilities", "type")


@dataclass(frozen=True)
class DeviceStatus:
    """A device of class mock-accel."""

    node: str
    name: str
    """Name in sysfs, such as ``mock0`` or ``mock0_vf0``."""
    status: str
    """``free`` or ``allocated``; the number if the register has another value."""
    uuid: str
    pci: str
    """PCI address, such as ``0000:11:00.0``."""
    numa_node: int
    memory: int
    """Bytes."""
    capabilities: tuple[str, ...]
    type: str
    """``pf`` or ``vf``."""


def of_node(found: NodeDevices) -> list[DeviceStatus]:
    """Devices of one node, in the kernel's order."""
    vfs = {function.bdf for function in found.pci if function.device_id == VF_ID}
    return [
        DeviceStatus(
            node=found.node,
            name=device.name,
            status=STATUS.get(device.status, str(device.status)),
            uuid=device.uuid,
            pci=device.bdf,
            numa_node=device.numa_node,
            memory=device.memory,
            capabilities=tuple(name for name, bit in CAPABILITIES.items() if device.capabilities & bit),
            type="vf" if device.bdf in vfs else "pf",
        )
        for device in found.accelerators
    ]


def pick(node: str, devices: Iterable[DeviceStatus], name: str) -> DeviceStatus:
    """The device ``name`` (in sysfs or as published) among ``devices``. Raises CheckError with all names."""
    by_name = {device.name: device for device in devices}
    try:
        return by_name[name.replace("-", "_")]
    except KeyError:
        known = ", ".join(by_name) or "none (is the kernel module loaded? see: lab diagnose)"
        raise CheckError(f"no device {name!r} on {node}; available: {known}") from None


def read(session: Session, node: str | None = None, device: str | None = None) -> list[DeviceStatus]:
    """Devices of all nodes, of ``node``, or only ``device`` of that node.

    Raises KeyError for an unknown node and CheckError for an unknown device, each
    with the known ones; CheckError if a node or a device does not answer.
    """
    if node is not None:
        session.topology.node(node)
    try:
        found = [item for shown in observe.read_devices(session, node) for item in of_node(shown)]
    except ValueError as error:
        raise CheckError(f"{error}; a device that does not answer shows no values, see: lab diagnose") from error
    return [pick(node, found, device)] if node and device else found


def complaints(topology: Topology, rows: Iterable[DeviceStatus]) -> list[str]:
    """How ``rows`` differ from the topology: each PF must be there, and all values must be right."""
    shown = {(row.node, row.name): row for row in rows}
    result = []
    for node in topology.nodes:
        for function in node.functions:
            row = shown.pop((node.name, function.name), None)
            expected = DeviceStatus(
                node=node.name,
                name=function.name,
                status=row.status if row else "",
                uuid=function.uuid,
                pci=function.bdf,
                numa_node=function.numa_node,
                memory=function.memory,
                capabilities=tuple(name for name in CAPABILITIES if name in function.capabilities),
                type="vf" if function.is_vf else "pf",
            )
            if row != expected and not (row is None and function.is_vf):
                result.append(f"expected {expected} by topology {topology.name}, found {row or 'none'}")
    return result + [f"{node} {name}: topology {topology.name} has no such device" for node, name in shown]


def table(rows: Iterable[DeviceStatus]) -> Table:
    """One row per device."""
    return Table(
        _HEADINGS,
        [
            (
                row.node,
                row.name,
                row.status,
                row.uuid,
                row.pci,
                str(row.numa_node),
                mebibytes(row.memory),
                ",".join(row.capabilities) or "-",
                row.type,
            )
            for row in rows
        ],
        right=("numa", "memory"),
        styles={"allocated": "yellow"},
    )
