"""Devices listed by ``lspci`` in a guest (pciutils, ``lspci -n``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mock_device.checks.nodes.sysfs import PF_ID, VENDOR, VF_ID
from mock_device.topology import Node

COMMAND = f"lspci -D -n -d {VENDOR:04x}:"
_CLASS = 0x1200
"""Processing accelerator."""
_LINE = re.compile(r"(?P<bdf>[0-9a-f:.]+) (?P<class>[0-9a-f]{4}): (?P<vendor>[0-9a-f]{4}):(?P<device>[0-9a-f]{4})\b")


@dataclass(frozen=True)
class ListedDevice:
    """A line of ``lspci -n``."""

    device_class: int
    device_id: int

    def __str__(self) -> str:
        return f"{VENDOR:04x}:{self.device_id:04x} of class {self.device_class:04x}"


def parse(node: str, output: str) -> dict[str, ListedDevice]:
    """Parse the output of COMMAND on ``node`` into devices by PCI address. Raises ValueError with an invalid line."""
    found = {}
    for line in output.splitlines():
        match = _LINE.match(line)
        if not match:
            raise ValueError(f"{node}: expected a line of lspci, found {line!r}")
        found[match["bdf"]] = ListedDevice(int(match["class"], 16), int(match["device"], 16))
    return found


def complaints(node: Node, found: Mapping[str, ListedDevice]) -> list[str]:
    """How the listed devices differ from the functions of ``node``.

    VFs may be missing, because only enabled ones are on the bus.
    """
    expected = {
        function.bdf: (function.name, ListedDevice(_CLASS, VF_ID if function.is_vf else PF_ID))
        for function in node.functions
    }
    virtual = {function.bdf for function in node.functions if function.is_vf}
    result = []
    for bdf in sorted(expected.keys() | found.keys()):
        name, wanted = expected.get(bdf, ("", None))
        listed = found.get(bdf)
        if wanted != listed and not (listed is None and bdf in virtual):
            result.append(
                f"{node.name} {bdf}{f' ({name})' if name else ''}: expected {wanted or 'no device'} by the topology, "
                f"lspci lists {listed or 'none'}"
            )
    return result
