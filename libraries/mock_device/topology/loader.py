"""Reads and checks a topology file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mock_device.topology.model import Node, Topology
from mock_device.topology.numa_nodes import read_numa_nodes
from mock_device.topology.reader import Reader, TopologyError
from mock_device.topology.yaml_lines import Fields

# QEMU's q35 machine has CPUs with 8-bit APIC numbers, and 1 TiB of addresses of which 64-bit BARs need a part.
_GUEST_CPUS = 255
_GUEST_MEMORY_GIB = 512


def load(path: Path | str, *, origin: Path | None = None) -> Topology:
    """Read and check the topology file ``path``. Raises TopologyError.

    ``path`` may be a copy: then ``origin`` is the user's file, after which the
    topology is named and which error messages name.
    """
    path = Path(path)
    named = origin or path
    reader = Reader(named)
    try:
        text = path.read_text()
    except OSError as error:
        raise TopologyError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        reader.fail(1, f"not YAML: {error}")
    fields = reader.fields(reader.parse(text), 1, "topology", "topology")
    external = fields.get("external", False)
    if not isinstance(external, bool):
        reader.fail(fields.lines["external"], f"topology: external must be true or false, found {external!r}")
    reader = replace(reader, external=external)
    texts = {key: reader.text(fields, key, "topology") for key in ("name", "description") if key in fields}
    seen: dict[str, dict[str, int]] = {"node name": {}, "address": {}, "UUID": {}}
    items = reader.items(fields, "nodes", "topology")
    nodes = tuple(_node(reader, item, fields.lines["nodes"], seen) for item in items)
    return Topology(texts.get("name", named.stem), named.absolute(), nodes, external, text)


def _node(reader: Reader, item: object, line: int, seen: dict[str, dict[str, int]]) -> Node:
    """A node. ``seen`` has the lines of names, addresses and UUIDs so far."""
    fields = reader.fields(item, line, "node", "node")
    name = reader.matching(fields, "name", "node", "node name {} is not a DNS label")
    reader.once(seen["node name"], name, fields.lines["name"], "node name")
    if reader.external:
        return Node(name, "", read_numa_nodes(reader, fields, name, seen["UUID"]))
    reason = f"{name}: address must be in 192.168.122.0/24, not its .1, found {{}}"
    address = reader.matching(fields, "address", name, reason)
    reader.once(seen["address"], address, fields.lines["address"], "address")
    node = Node(name, address, read_numa_nodes(reader, fields, name, seen["UUID"]))
    _check_guest(reader, fields, node)
    return node


def _check_guest(reader: Reader, fields: Fields, guest: Node) -> None:
    """Refuse a guest that QEMU would not start."""
    for limit, found, unit, what in (
        (_GUEST_CPUS, guest.cpus, "", " CPUs"),
        (_GUEST_MEMORY_GIB, -(-guest.memory // (1 << 30)), "G", " of memory"),
    ):
        if found > limit:
            reader.fail(fields.lines["numa"], f"{guest.name}: at most {limit}{unit}{what}, found {found}{unit}")
