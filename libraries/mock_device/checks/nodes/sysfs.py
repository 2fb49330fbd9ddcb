"""Devices as a guest's kernel shows them: on the PCI bus, and in mock_accel's class in sysfs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mock_device.driver import current
from mock_device.topology import DeviceId, Topology

VENDOR = 0x1DE5
PF_ID, VF_ID = 0x0001, 0x0002
CLASS_FOLDER = "/sys/class/mock-accel"

MODULE_LIVE, MODULE_ABSENT = "live", "not loaded"
# One run reads everything with the shell's builtins, without starting a process per file or link.
MODULE_PROBE = rf"""
state='{MODULE_ABSENT}'
[ -e /sys/module/mock_accel/initstate ] && IFS= read -r state </sys/module/mock_accel/initstate
printf 'module\t%s\n' "$state"
"""
PROBE = rf"""{MODULE_PROBE}
for d in /sys/bus/pci/devices/*; do
  IFS= read -r vendor <"$d/vendor" || continue
  [ "$vendor" = 0x1de5 ] || continue
  device= numa= driver=
  IFS= read -r device <"$d/device"; IFS= read -r numa <"$d/numa_node"
  [ -L "$d/driver" ] && cd -P "$d/driver" && driver=${{PWD##*/}}
  printf 'pci\t%s\t%s\t%s\t%s\n' "${{d##*/}}" "$device" "$numa" "$driver"
done
for d in /sys/class/mock-accel/*; do
  [ -e "$d/uuid" ] || continue
  uuid= memory= numa= capabilities= status=
  IFS= read -r uuid <"$d/uuid"; IFS= read -r memory <"$d/memory_size"; IFS= read -r numa <"$d/numa_node"
  IFS= read -r capabilities <"$d/capabilities"; IFS= read -r status <"$d/status"
  health=; [ -e "$d/health" ] && IFS= read -r health <"$d/health"
  bdf=; cd -P "$d/device" && bdf=${{PWD##*/}}
  printf 'accel\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' \
    "${{d##*/}}" "$uuid" "$memory" "$numa" "$capabilities" "$status" "$bdf" "$health"
done
echo end
"""
_PCI_FIELDS = 5
_ACCEL_FIELDS = 9


@dataclass(frozen=True)
class PciFunction:
    """A mock accelerator on a guest's PCI bus."""

    bdf: str
    device_id: int
    numa_node: int
    driver: str = ""
    """Name of the kernel driver that it is bound to; empty without one."""


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
    health: str = ""
    """``ok`` or the word for its problem; empty if the module does not say."""


@dataclass(frozen=True)
class NodeDevices:
    """All devices of one guest."""

    node: str
    pci: tuple[PciFunction, ...]
    accelerators: tuple[Accelerator, ...]
    module: str = MODULE_LIVE
    """State of the kernel module, MODULE_LIVE when all is well."""

    @property
    def devices(self) -> dict[DeviceId, Accelerator]:
        """``accelerators`` by their identity."""
        return {DeviceId(self.node, device.name): device for device in self.accelerators}


def parse(node: str, output: str) -> NodeDevices:
    """Parse the output of PROBE on ``node``. Raises ValueError with an invalid line."""
    pci: list[PciFunction] = []
    accelerators: list[Accelerator] = []
    module = ""
    lines = output.splitlines()
    if not lines or lines[-1] != "end":
        raise ValueError(f"{node}: the list of devices is incomplete: {output[-200:]!r}")
    for line in lines[:-1]:
        fields = line.split("\t")
        try:
            if fields[0] == "module":
                module = parse_module(line)
            elif fields[0] == "pci" and len(fields) == _PCI_FIELDS:
                pci.append(PciFunction(fields[1], int(fields[2], 16), int(fields[3]), fields[4]))
            elif fields[0] == "accel" and len(fields) == _ACCEL_FIELDS:
                _, name, uuid, memory, numa, capabilities, status, bdf, condition = fields
                numbers = (int(memory), int(numa), int(capabilities, 16), int(status))
                accelerators.append(Accelerator(name, uuid, *numbers, bdf, condition))
            else:
                raise ValueError("unknown line")
        except ValueError as error:
            raise ValueError(f"{node}: expected a device, found {line!r} ({error})") from error
    if not module:
        raise ValueError(f"{node}: the list of devices does not say the state of the kernel module: {output[:200]!r}")
    return NodeDevices(node, tuple(pci), tuple(accelerators), module)


def parse_module(line: str) -> str:
    """State of the kernel module, as MODULE_PROBE printed it. Raises ValueError."""
    kind, _, state = line.strip().partition("\t")
    if kind != "module" or not state:
        raise ValueError(f"expected the state of the kernel module, found {line!r}")
    return state


def module_complaints(states: Mapping[str, str]) -> list[str]:
    """Nodes whose kernel module is not live, from its state on each."""
    return [
        f"{node}: expected kernel module mock_accel {MODULE_LIVE}, found {state}"
        for node, state in states.items()
        if state != MODULE_LIVE
    ]


def value_complaints(topology: Topology, found: Iterable[NodeDevices], absent: Collection[DeviceId] = ()) -> list[str]:
    """How class mock-accel differs from the topology: each PF must be there, and all values must be right.

    VFs may be missing, because they need not be enabled. The devices in ``absent``
    must not be there.
    """
    shown = by_id(found)
    complaints = []
    for key, function in topology.devices.items():
        device = shown.pop(key, None)
        where = f"{key} ({function.bdf})"
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
    return complaints + [f"{key}: topology {topology.name} has no such device" for key in shown]


def register_complaints(
    found: Iterable[NodeDevices], allocated: Collection[DeviceId], others: Collection[DeviceId] = ()
) -> list[str]:
    """A sentence for each device with a wrong status register: expected is 1 for ``allocated`` devices, else 0.

    Devices of ``others`` may have any. Drivers that do not promise the register are not judged.
    """
    if "status-register" not in current.driver().promises:
        return []
    shown = {key: device for key, device in by_id(found).items() if key not in others}
    complaints = []
    for key, device in shown.items():
        expected = int(key in allocated)
        if device.status != expected:
            what = "allocated" if expected else "free"
            complaints.append(
                f"{key} ({device.bdf}): expected status register {expected} ({what}), found {device.status}; "
                f"look at /sys/class/mock-accel/{device.name}/status and the node agent's log"
            )
    missing = sorted(set(allocated) - shown.keys() - set(others))
    return complaints + [f"{key}: is allocated, but not in the node's /sys/class/mock-accel" for key in missing]


def by_id(found: Iterable[NodeDevices]) -> dict[DeviceId, Accelerator]:
    """All devices of class mock-accel by their identity."""
    return {key: device for node in found for key, device in node.devices.items()}
