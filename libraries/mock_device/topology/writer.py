"""Writes topologies as YAML, in the form of the files in ``variables/topologies``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mock_device.topology.model import CAPABILITIES

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)+")
"""Text that YAML reads as text without quotes: a hyphen excludes ``true``, ``null`` and numbers."""
_UNITS = (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10))


@dataclass(frozen=True)
class FunctionFields:
    """A PCI function of a node that exists."""

    bus: int
    device: int
    function: int
    root: int
    """Bus number of the PCIe root above it."""
    uuid: str
    memory: int
    """Bytes."""
    capabilities: int
    """Value of the capabilities register."""
    is_vf: bool


@dataclass(frozen=True)
class NumaFields:
    """A NUMA node of a node that exists."""

    memory: int
    """Bytes."""
    cpus: int
    functions: Sequence[FunctionFields]
    """In PCI order; each PF is followed by its VFs."""


def as_yaml(name: str, nodes: Iterable[tuple[str, Sequence[NumaFields]]]) -> str:
    """An external topology ``name`` with the NUMA nodes of each of its ``nodes``."""
    lines = [f"name: {_text(name)}", "external: true", "nodes:"]
    for node, numa_nodes in nodes:
        lines += [f"  - name: {_text(node)}", "    numa:"]
        for number, numa in enumerate(numa_nodes):
            lines += _numa(number, numa)
    return "\n".join(lines) + "\n"


def _numa(number: int, numa: NumaFields) -> Iterable[str]:
    root = numa.functions[0].root if numa.functions else 0
    yield f"      - node: {number}"
    yield f"        memory: {_size(numa.memory)}"
    yield f"        cpus: {numa.cpus}"
    yield f"        bus: {root:#04x}"
    if numa.functions:
        yield "        slots:"
    before: FunctionFields | None = None
    for item in numa.functions:
        if before is None or (item.bus, item.device) != (before.bus, before.device):
            yield f"          - bus: {item.bus:#04x}"
            if item.device:
                yield f"            device: {item.device}"
            if item.root != root:
                yield f"            root: {item.root:#04x}"
            yield "            functions:"
            before = None
        yield f"              - {_function(item, before)}"
        before = item


def _function(item: FunctionFields, before: FunctionFields | None) -> str:
    names = [name for name, bit in CAPABILITIES.items() if item.capabilities & bit]
    fields = [f"uuid: {_text(item.uuid)}", f"memory: {_size(item.memory)}"]
    if item.is_vf:
        fields.append("vf: true")
    if item.function != (before.function + 1 if before else 0):
        fields.append(f"function: {item.function}")
    fields.append(f"capabilities: [{', '.join(names)}]")
    return f"{{{', '.join(fields)}}}"


def _text(value: str) -> str:
    # JSON's strings are YAML, too.
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _size(value: int) -> str:
    return next((f"{value // size}{unit}" for unit, size in _UNITS if value % size == 0), str(value))
