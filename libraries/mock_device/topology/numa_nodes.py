"""Reads the NUMA nodes of a guest: memory, CPUs, and the buses of their slots."""

from __future__ import annotations

from dataclasses import replace

from mock_device.topology.functions import Place, read_functions
from mock_device.topology.model import NumaNode, Slot
from mock_device.topology.reader import Reader
from mock_device.topology.yaml_lines import Fields

_LAST_BUS = 0xFF
_MIB = 1 << 20
_LEAST_MEMORY = 64 * _MIB
# QEMU's q35 machine gives a guest 1 TiB of addresses (40 bits without hardware virtualisation), some for 64-bit BARs.
_MOST_MEMORY = 256 << 30


def read_numa_nodes(reader: Reader, node: Fields, name: str, uuids: dict[str, int]) -> tuple[NumaNode, ...]:
    """NUMA nodes of the node ``name``. ``uuids`` are those of the file so far, with their lines."""
    items = reader.items(node, "numa", name, "NUMA nodes")
    parsed = [reader.fields(item, node.lines["numa"], f"{name} numa", "numa") for item in items]
    buses: dict[int, int] = {}
    places: list[str] = []
    result: list[NumaNode] = []
    pfs = 0
    for position, fields in enumerate(parsed):
        what = f"{name} NUMA node {position}"
        if (number := reader.number(fields, "node", what, high=len(parsed) - 1)) != position:
            reader.fail(
                fields.lines["node"], f"{name}: NUMA nodes count from 0 in order, expected {position}, found {number}"
            )
        bus = reader.number(fields, "bus", what)
        wired_to = fields.get("wired-to", position)
        if type(wired_to) is not int or wired_to not in range(len(parsed)):
            reader.fail(
                fields.lines["wired-to"], f"{what}: NUMA node {wired_to!r} does not exist, there are {len(parsed)}"
            )
        items = reader.items(fields, "slots", what, "slots") if "slots" in fields else []
        if not reader.external:
            if result and bus <= (last := result[-1].bus):
                reader.fail(
                    fields.lines["bus"], f"{what}: bus {bus:#x} must be above {last:#x} of the NUMA node before"
                )
            _take_buses(reader, fields, what, bus, len(items), buses)
        slots = []
        for next_bus, item in enumerate(items, bus + 1):
            slot = reader.fields(item, fields.lines["slots"], f"{what} slot", "slot")
            place = Place(next_bus, 0, position, pfs)
            if reader.external:
                place = _place(reader, slot, what, place, places)
            functions = read_functions(reader, slot, what, place, uuids)
            pfs += sum(not function.is_vf for function in functions)
            root = slot.get("root", bus)
            slots.append(Slot(f"rp{place.bus:02x}", place.bus, functions, root))
        memory = _memory(reader, fields, what)
        cpus = reader.number(fields, "cpus", what)
        result.append(NumaNode(position, memory, cpus, bus, wired_to, tuple(slots)))
    return tuple(result)


def _place(reader: Reader, slot: Fields, what: str, default: Place, before: list[str]) -> Place:
    """Place of a slot of an external topology; appends its address to those ``before``.

    The kernel module names PFs in PCI order, so the slots of a node must be in this order.
    """
    place = replace(
        default, bus=reader.number(slot, "bus", what), device=reader.number(slot, "device", what, default=0)
    )
    if "root" in slot:
        reader.number(slot, "root", what)
    if before and place.address <= before[-1]:
        reader.fail(
            slot.lines["bus"],
            f"{what}: slots must be in PCI order, expected one after {before[-1]}, found {place.address}",
        )
    before.append(place.address)
    return place


def _take_buses(reader: Reader, fields: Fields, what: str, bus: int, slots: int, buses: dict[int, int]) -> None:
    """Note in ``buses`` the line that takes ``bus`` and those of its ``slots``."""
    for number in range(bus, bus + 1 + slots):
        if number > _LAST_BUS or number in buses:
            taken = f"bus {number:#x} is taken by line {buses[number]}" if number in buses else "no bus numbers left"
            reader.fail(fields.lines["bus"], f"{what}: {slots} slots need a bus each after {bus:#x}: {taken}")
        buses[number] = fields.lines["bus"]


def _memory(reader: Reader, fields: Fields, what: str) -> int:
    """Bytes of memory on a NUMA node."""
    size = reader.size(fields, "memory", what)
    if reader.external:
        return size
    if not _LEAST_MEMORY <= size <= _MOST_MEMORY or size % _MIB:
        reader.fail(
            fields.lines["memory"],
            f"{what}: memory of a NUMA node must be {_LEAST_MEMORY // _MIB}M to {_MOST_MEMORY >> 30}G in whole MiB, "
            f"found {fields['memory']!r}",
        )
    return size
