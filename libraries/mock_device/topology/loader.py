"""Reads a topology file, or says with file, line and reason what is wrong with it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from mock_device.topology.model import CAPABILITIES, Function, Node, NumaNode, Slot, Topology

MAX_BYTES = (1 << 63) - 1
"""The largest size: what a Kubernetes quantity and a signed 64-bit integer hold."""
_SIZE = re.compile(r"0*([0-9]+)([KMGT]?)i?B?")
_SIZE_DIGITS = len(str(MAX_BYTES))
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_MIB = 1 << 20
_NODE_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_UUID_BYTES = 16  # design.md, register 0x08
_FUNCTIONS_PER_SLOT = 8  # PCI Express Base Specification, 2.2.4.1: 3-bit function number
_LAST_BUS = 0xFF
# What QEMU's q35 machine gives a guest: 1 TiB of addresses (40 bits without hardware virtualisation), a part of which
# the 64-bit BARs need; CPUs with 8-bit APIC numbers; 32 devices on a bridge, the machine's own are some of bus 0.
_NUMA_MEMORY = (64 * _MIB, 256 << 30)
_GUEST_MEMORY = 512 << 30
_GUEST_CPUS = 255
_NUMA_CPUS = 64
_NUMA_NODES = 24
_NUMA_SLOTS = 32
_NETWORK = ipaddress.ip_network("192.168.122.0/24")


class TopologyError(ValueError):
    """A topology file that cannot be used: ``FILE:LINE: reason``."""


def parse_size(text: str) -> int:
    """Bytes of a size like ``16G``, ``2GiB``, ``512M`` or ``4096``. Units are powers of 1024.

    Raises ValueError, also for more than MAX_BYTES.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match or match[1] == "0":
        raise ValueError(f"expected a size such as 16G or 512M, found {text!r}")
    # A number of many digits would take Python long, or be refused by it.
    size = int(match[1]) * _UNITS[match[2]] if len(match[1]) <= _SIZE_DIGITS else MAX_BYTES + 1
    if size > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES >> 40}T ({MAX_BYTES} bytes), found {text[:40]!r}")
    return size


class _Fields(dict[Hashable, Any]):
    """A YAML mapping that knows the line of each key."""

    line = 0
    lines: dict[str, int]


class _Loader(yaml.SafeLoader):
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            # Such as a date with a month 13, or a number of more digits than Python reads.
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> _Fields:
        fields = _Fields()
        fields.line = node.start_mark.line + 1
        fields.lines = {}
        for key_node, value_node in node.value:
            key = str(self.construct_object(key_node, deep=True))
            if key in fields:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark)
            fields.lines[key] = key_node.start_mark.line + 1
            fields[key] = self.construct_object(value_node, deep=True)
        return fields


def _construct(loader: _Loader, node: yaml.MappingNode) -> _Fields:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct)


@dataclass
class _Reader:
    """Typed access to the fields, with the file and line in every complaint."""

    path: Path

    def fail(self, line: int, reason: str) -> NoReturn:
        raise TopologyError(f"{self.path}:{line}: {reason}")

    def fields(self, value: object, line: int, what: str, required: set[str], optional: set[str]) -> _Fields:
        if not isinstance(value, _Fields):
            self.fail(line, f"{what}: expected a mapping, found {value!r}")
        if unknown := sorted(str(key) for key in set(value) - required - optional):
            allowed = ", ".join(sorted(required | optional))
            self.fail(value.lines[unknown[0]], f"{what}: unknown key {unknown[0]!r}; allowed are {allowed}")
        if missing := sorted(required - set(value)):
            self.fail(value.line, f"{what}: key {missing[0]!r} is missing")
        return value

    def items(self, fields: _Fields, key: str, what: str) -> list[Any]:
        value = fields.get(key)
        if not isinstance(value, list) or not value:
            self.fail(fields.lines.get(key, fields.line), f"{what}: {key} must be a list that is not empty")
        return value

    def text(self, fields: _Fields, key: str, what: str) -> str:
        value = fields[key]
        if not isinstance(value, str) or not value:
            self.fail(fields.lines[key], f"{what}: {key} must be text, found {value!r}")
        return value

    def number(self, fields: _Fields, key: str, what: str, low: int, high: int, default: int | None = None) -> int:
        value = fields.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            line = fields.lines.get(key, fields.line)
            self.fail(line, f"{what}: {key} must be a number from {low} to {high}, found {value!r}")
        return value

    def size(self, fields: _Fields, key: str, what: str) -> int:
        try:
            return parse_size(str(fields[key]))
        except ValueError as error:
            self.fail(fields.lines[key], f"{what}: {key}: {error}")

    def guest_memory(self, fields: _Fields, what: str) -> int:
        size = self.size(fields, "memory", what)
        low, high = _NUMA_MEMORY
        if not low <= size <= high or size % _MIB:
            self.fail(
                fields.lines["memory"],
                f"{what}: memory of a NUMA node must be {low // _MIB}M to {high >> 30}G in whole MiB, "
                f"found {fields['memory']!r}",
            )
        return size


def load(path: Path | str, *, origin: Path | None = None) -> Topology:
    """Read and check the topology file ``path``. Raises TopologyError.

    ``path`` may be a copy: ``origin`` is then the user's file, which the topology
    and every complaint are named after.
    """
    path = Path(path)
    named = origin or path
    reader = _Reader(named)
    try:
        text = path.read_text()
        document = yaml.load(text, _Loader)
    except OSError as error:
        raise TopologyError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        reader.fail(1, f"not YAML: {error}")
    except RecursionError:
        reader.fail(1, "not YAML: nested too deeply")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reader.fail(mark.line + 1 if mark else 1, f"not YAML: {getattr(error, 'problem', None) or error}")
    fields = reader.fields(document, 1, "topology", {"nodes"}, {"name", "description"})
    title = reader.text(fields, "name", "topology") if "name" in fields else named.stem
    names: dict[str, int] = {}
    addresses: dict[str, int] = {}
    uuids: dict[str, int] = {}
    nodes = []
    for item in reader.items(fields, "nodes", "topology"):
        node = reader.fields(item, fields.lines["nodes"], "node", {"name", "address", "numa"}, set())
        name = reader.text(node, "name", "node")
        if not _NODE_NAME.match(name):
            reader.fail(node.lines["name"], f"node name {name!r} is not a DNS label")
        address = reader.text(node, "address", name)
        _check_address(reader, node, name, address)
        _once(reader, names, name, node.lines["name"], "node name")
        _once(reader, addresses, address, node.lines["address"], "address")
        guest = Node(name, address, _numa_nodes(reader, node, name, uuids))
        _check_guest(reader, node, guest)
        nodes.append(guest)
    return Topology(title, named.absolute(), tuple(nodes), text)


def _once(reader: _Reader, seen: dict[str, int], value: str, line: int, what: str) -> None:
    if value in seen:
        reader.fail(line, f"{what} {value!r} stands already in line {seen[value]}")
    seen[value] = line


def _check_address(reader: _Reader, node: _Fields, name: str, address: str) -> None:
    try:
        inside = ipaddress.ip_address(address) in list(_NETWORK.hosts())[1:]
    except ValueError:
        inside = False
    if not inside:
        reader.fail(node.lines["address"], f"{name}: address must be in {_NETWORK}, not its .1, found {address!r}")


def _check_guest(reader: _Reader, fields: _Fields, guest: Node) -> None:
    """Refuse what QEMU would not start."""
    gib = 1 << 30
    for limit, found, unit, what in (
        (_GUEST_CPUS, guest.cpus, "", " CPUs"),
        (_GUEST_MEMORY // gib, -(-guest.memory // gib), "G", " of memory"),
    ):
        if found > limit:
            reader.fail(fields.lines["numa"], f"{guest.name}: at most {limit}{unit}{what}, found {found}{unit}")


def _numa_nodes(reader: _Reader, node: _Fields, name: str, uuids: dict[str, int]) -> tuple[NumaNode, ...]:
    items = reader.items(node, "numa", name)
    if len(items) > _NUMA_NODES:
        reader.fail(node.lines["numa"], f"{name}: at most {_NUMA_NODES} NUMA nodes, found {len(items)}")
    optional = {"wired-to", "slots"}
    parsed = [
        reader.fields(item, node.lines["numa"], f"{name} numa", {"node", "memory", "cpus", "bus"}, optional)
        for item in items
    ]
    buses: dict[int, int] = {}
    result: list[NumaNode] = []
    next_index = 0
    for position, fields in enumerate(parsed):
        what = f"{name} NUMA node {position}"
        if (number := reader.number(fields, "node", what, 0, len(parsed) - 1)) != position:
            reader.fail(
                fields.lines["node"], f"{name}: NUMA nodes count from 0 in order, expected {position}, found {number}"
            )
        bus = reader.number(fields, "bus", what, 1, _LAST_BUS)
        wired_to = fields.get("wired-to", position)
        if type(wired_to) is not int or wired_to not in range(len(parsed)):
            reader.fail(
                fields.lines["wired-to"], f"{what}: NUMA node {wired_to!r} does not exist, there are {len(parsed)}"
            )
        slot_items = reader.items(fields, "slots", what) if "slots" in fields else []
        if len(slot_items) > _NUMA_SLOTS:
            reader.fail(fields.lines["slots"], f"{what}: at most {_NUMA_SLOTS} slots, found {len(slot_items)}")
        if result and bus <= (last := result[-1].bus):
            reader.fail(fields.lines["bus"], f"{what}: bus {bus:#x} must be above {last:#x} of the NUMA node before")
        for number in range(bus, bus + 1 + len(slot_items)):
            if number > _LAST_BUS or number in buses:
                taken = (
                    f"bus {number:#x} is taken by line {buses[number]}" if number in buses else "no bus numbers left"
                )
                reader.fail(
                    fields.lines["bus"], f"{what}: {len(slot_items)} slots need a bus each after {bus:#x}: {taken}"
                )
            buses[number] = fields.lines["bus"]
        slots = []
        for offset, item in enumerate(slot_items):
            slot = reader.fields(item, fields.lines["slots"], f"{what} slot", {"functions"}, set())
            functions = _functions(reader, slot, what, bus + 1 + offset, position, next_index, uuids)
            next_index += sum(not function.is_vf for function in functions)
            slots.append(Slot(f"rp{bus + 1 + offset:02x}", bus + 1 + offset, functions))
        memory = reader.guest_memory(fields, what)
        cpus = reader.number(fields, "cpus", what, 1, _NUMA_CPUS)
        result.append(NumaNode(position, memory, cpus, bus, wired_to, tuple(slots)))
    return tuple(result)


def _functions(
    reader: _Reader, slot: _Fields, what: str, bus: int, numa: int, first_index: int, uuids: dict[str, int]
) -> tuple[Function, ...]:
    """Functions of a slot: each PF is followed by its VFs, numbers as they come unless ``function`` says one."""
    items = reader.items(slot, "functions", what)
    what = f"{what} bus {bus:#x}"
    used: dict[str, int] = {}
    functions: list[Function] = []
    index = first_index - 1
    parent: str | None = None
    vfs = 0
    next_function = 0
    for item in items:
        fields = reader.fields(
            item, slot.lines["functions"], what, {"uuid", "memory"}, {"vf", "capabilities", "function"}
        )
        is_vf = fields.get("vf", False)
        if not isinstance(is_vf, bool):
            reader.fail(fields.lines["vf"], f"{what}: vf must be true or false, found {is_vf!r}")
        if "function" not in fields and next_function == _FUNCTIONS_PER_SLOT:
            reader.fail(
                fields.line,
                f"{what}: a slot has functions 0 to {_FUNCTIONS_PER_SLOT - 1}, found one more: {next_function}",
            )
        number = reader.number(fields, "function", what, 0, _FUNCTIONS_PER_SLOT - 1, next_function)
        _once(reader, used, f"{bus:02x}:00.{number}", fields.line, f"{what}: function at address")
        if number < next_function:
            reader.fail(fields.line, f"{what}: functions stand in order, function {number} after {next_function - 1}")
        if is_vf and parent is None:
            reader.fail(fields.line, f"{what}: VF without a PF before it in its slot")
        if is_vf and number != next_function:
            reader.fail(
                fields.line,
                f"{what}: VFs follow their PF without a gap (SR-IOV: first VF offset 1, stride 1), "
                f"expected function {next_function}, found {number}",
            )
        next_function = number + 1
        if not is_vf:
            index, vfs, parent = index + 1, 0, f"mock{index + 1}"
        name = f"{parent}_vf{vfs}" if is_vf else f"mock{index}"
        vfs += is_vf
        uuid = reader.text(fields, "uuid", f"{what} {name}")
        if not uuid.isascii() or not uuid.isprintable() or len(uuid) > _UUID_BYTES:
            reader.fail(
                fields.lines["uuid"], f"{name}: UUID {uuid!r} is not 1 to {_UUID_BYTES} bytes of printable ASCII"
            )
        _once(reader, uuids, uuid, fields.lines["uuid"], "UUID")
        functions.append(
            Function(
                name=name,
                uuid=uuid,
                bdf=f"0000:{bus:02x}:00.{number}",
                device=0,
                function=number,
                numa_node=numa,
                memory=reader.size(fields, "memory", name),
                capabilities=_capabilities(reader, fields, name),
                is_vf=is_vf,
                total_vfs=0 if is_vf else _vfs_after(items, item),
                parent=parent if is_vf else None,
                multifunction=len(items) > 1,
                root_port=f"rp{bus:02x}",
            )
        )
    if functions[0].function != 0:
        reader.fail(
            slot.lines["functions"], f"{what}: function 0 is missing; a slot without it is not seen by the guest"
        )
    return tuple(functions)


def _vfs_after(items: list[Any], pf: object) -> int:
    """How many VFs stand between ``pf`` and the next PF."""
    count = 0
    for item in items[next(i for i, other in enumerate(items) if other is pf) + 1 :]:
        if not (isinstance(item, dict) and item.get("vf")):
            break
        count += 1
    return count


def _capabilities(reader: _Reader, fields: _Fields, name: str) -> tuple[str, ...]:
    value = fields.get("capabilities", ["compute"])
    # A list in the list is neither one of them nor hashable.
    if not isinstance(value, list) or "compute" not in value or any(item not in list(CAPABILITIES) for item in value):
        reader.fail(
            fields.lines["capabilities"],
            f"{name}: capabilities must be a list of {', '.join(CAPABILITIES)}, always with compute, found {value!r}",
        )
    return tuple(item for item in CAPABILITIES if item in value)
