"""A guest's PCI devices as QEMU sees them (QMP query-pci)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mock_device.checks.nodes.sysfs import VENDOR
from mock_device.topology import Node, Slot


def accelerators(buses: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """PCI addresses of all mock accelerators by QEMU's device id, from the answer to query-pci.

    The bus numbers are those that the guest's firmware assigned to the bridges.
    """
    found = {}
    for device in _devices(buses):
        if device["id"]["vendor"] == VENDOR:
            bdf = f"0000:{device['bus']:02x}:{device['slot']:02x}.{device['function']}"
            found[device["qdev_id"]] = bdf
    return found


def _devices(buses: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for bus in buses:
        for device in bus["devices"]:
            yield device
            yield from _devices([device["pci_bridge"]] if device.get("pci_bridge", {}).get("devices") else [])


def state_complaints(states: Mapping[str, str]) -> list[str]:
    """Guests that do not run, from the ``status`` of each in QMP's query-status."""
    return [f"{node}: expected running, found {state}" for node, state in states.items() if state != "running"]


def plug_complaints(node: Node, found: Mapping[str, str]) -> list[str]:
    """How the devices of a guest differ from the topology."""
    expected = {function.name: function.bdf for function in node.functions}
    complaints = []
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            wanted = f"at {expected[name]}" if name in expected else "no such device"
            seen = f"at {found[name]}" if name in found else "none"
            complaints.append(f"{node.name} {name}: expected {wanted} by the topology, QEMU has {seen}")
    return complaints


def empty_slots(node: Node, found: Mapping[str, str]) -> list[Slot]:
    """Slots without any function in the guest; ``found`` maps the names of the guest's functions to addresses."""
    return [slot for slot in node.slots if not any(function.name in found for function in slot.functions)]
