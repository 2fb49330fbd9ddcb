"""Devices of a topology, as the driver finds them on their node."""

from __future__ import annotations

from mock_accel_dra.discovery import Device

from mock_device.topology import Function, Node


def device_of(node: Node, function: Function) -> Device:
    """``function`` of ``node``, free, as the driver reads it from sysfs."""
    parent = node.parent_of(function)
    pci = f"../../../devices/{node.pcie_root_of(function)}/{function.bdf}"
    return Device(
        name=function.name,
        uuid=function.uuid,
        memory=function.memory,
        numa_node=function.numa_node,
        capabilities=function.capabilities,
        status=0,
        pci_address=function.bdf,
        pcie_root=node.pcie_root_of(function),
        physfn=parent.bdf if parent else None,
        total_vfs=function.total_vfs,
        links=(
            ("device", pci),
            ("subsystem", "../../../class/mock-accel"),
            ("uuid", f"{pci}/mock-accel/{function.name}/uuid"),
        ),
    )
