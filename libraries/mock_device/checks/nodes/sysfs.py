"""Devices as a guest's kernel shows them: on the PCI bus, and in mock_accel's class in sysfs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mock_device.topology import Topology

VENDOR = 0x1DE5
PF_ID, VF_ID = 0x0001, 0x0002
CLASS_FOLDER = "/sys/class/mock-accel"

# One run reads everything with the shell's builtins, without starting a process per file or link.
PROBE = r"""
for d in /sys/bus/pci/devices/*; do
  IFS= read -r vendor <"$d/vendor" || continue
  [ "$vendor" = 0x1de5 ] || continue
  device= numa=
  IFS= read -r device <"$d/device"; IFS= read -r numa <"$d/numa_node"
  printf 'pci\t%s\t%s\t%s\n' "${d##*/}" "$device" "$numa"
done
for d in /sys/class/mock-accel/*; do
  [ -e "$d/uuid" ] || continue
  uuid= memory= numa= capabilities= status=
  IFS= read -r uuid <"$d/uuid"; IFS= read -r memory <"$d/memory_size"; IFS= read -r numa <"$d/numa_node"
  IFS= read -r capabilities <"$d/capabilities"; IFS= read -r status <"$d/status"
  bdf=; cd -P "$d/device" && bdf=${PWD##*/}
  printf 'accel\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "${d##*/}" "$uuid" "$memory" "$numa" "$capabilities" "$status" "$bdf"
done
echo end
"""
MODULE_LIVE = "live"
MODULE_PROBE = "cat /sys/module/mock_accel/initstate 2>/dev/null || echo not loaded"
_PCI_FIELDS = 4
_ACCEL_FIELDS = 8


@dataclass(frozen=True)
class PciFunction:
    """A mock accelerator on a guest's PCI bus, with or without a driver."""

    bdf: str
    device_id: int
    numa_node: int


@dataclass(frozen=True)
class Accelerator:
    """A device of class mock-accel."""

    name: str
    uuid: str
    memory: int
    """Bytes."""
    numa_node: int
    capabilities: int
    status: int
    """0 free, 1 allocated."""
    bdf: str


@dataclass(frozen=True)
class NodeDevices:
    """All devices of one guest."""

    node: str
    pci: tuple[PciFunction, ...]
    accelerators: tuple[Accelerator, ...]


def parse(node: str, output: str) -> NodeDevices:
    """Parse the output of PROBE on ``node``. Raises ValueError with an invalid line."""
    pci: list[PciFunction] = []
    accelerators: list[Accelerator] = []
    lines = output.splitlines()
    if not lines or lines[-1] != "end":
        raise ValueError(f"{node}: the list of devices is incomplete: {output[-200:]!r}")
    for line in lines[:-1]:
        fields = line.split("\t")
        try:
            if fields[0] == "pci" and len(fields) == _PCI_FIELDS:
                pci.append(PciFunction(fields[1], int(fields[2], 16), int(fields[3])))
            elif fields[0] == "accel" and len(fields) == _ACCEL_FIELDS:
                _, name, uuid, memory, numa, capabilities, status, bdf = fields
                numbers = (int(memory), int(numa), int(capabilities, 16), int(status))
                accelerators.append(Accelerator(name, uuid, *numbers, bdf))
            else:
                raise ValueError("unknown line")
        except ValueError as error:
            raise ValueError(f"{node}: expected a device, found {line!r} ({error})") from error
    return NodeDevices(node, tuple(pci), tuple(accelerators))


def value_complaints(
    topology: Topology, found: Iterable[NodeDevices], absent: Collection[tuple[str, str]] = ()
) -> list[str]:
    """How class mock-accel differs from the topology: each PF must be there, and all values must be right.

    VFs may be missing, because they need not be enabled. ``absent`` has the node
    and name of devices that must not be there.
    """
    shown = {(node.node, device.name): device for node in found for device in node.accelerators}
    complaints = []
    for node in topology.nodes:
        for function in node.functions:
            key = (node.name, function.name)
            device = shown.pop(key, None)
            where = f"{node.name} {function.name} ({function.bdf})"
            if key in absent:
                complaints += [f"{where}: expected no such device, /sys/class/mock-accel has it"] if device else []
            elif device is None:
                complaints += [] if function.is_vf else [f"{where}: /sys/class/mock-accel has no such device"]
            else:
                pairs = (
                    ("PCI address", function.bdf, device.bdf),
                    ("UUID", function.uuid, device.uuid),
                    ("memory size", function.memory, device.memory),
                    ("NUMA node", function.numa_node, device.numa_node),
                    ("capabilities", hex(function.capability_bits), hex(device.capabilities)),
                )
                complaints += [
                    f"{where}: expected {what} {expected} by topology {topology.name}, sysfs says {value}"
                    for what, expected, value in pairs
                    if expected != value
                ]
    complaints += [f"{node} {name}: topology {topology.name} has no such device" for node, name in shown]
    return complaints


def register_complaints(found: Iterable[NodeDevices], allocated: Collection[tuple[str, str]]) -> list[str]:
    """Devices whose status register contradicts ``allocated``, which has the node and name of each allocated device."""
    complaints = []
    seen: set[tuple[str, str]] = set()
    for node in found:
        for device in node.accelerators:
            seen.add((node.node, device.name))
            expected = int((node.node, device.name) in allocated)
            if device.status != expected:
                what = "allocated" if expected else "free"
                complaints.append(
                    f"{node.node} {device.name} ({device.bdf}): expected status register {expected} ({what}), "
                    f"found {device.status}; look at /sys/class/mock-accel/{device.name}/status "
                    "and the node agent's log"
                )
    complaints += [
        f"{node} {device}: is allocated, but not in the node's /sys/class/mock-accel"
        for node, device in sorted(set(allocated) - seen)
    ]
    return complaints
