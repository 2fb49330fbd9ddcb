"""Discovers the topology of nodes that exist from their PCI buses and sysfs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mock_device.lab.base.cpu_list import cpu_ranges
from mock_device.lab.base.errors import StepError
from mock_device.topology.writer import FunctionFields, NumaFields, as_yaml

_CLASS = "/sys/class/mock-accel"
_PF_ID, _VF_ID = 0x0001, 0x0002
# Prints NUMA nodes with memory (KiB) and CPUs, mock accelerators on the PCI bus with their path, and those that the
# kernel module drives. Tests set SYS to a recorded tree.
PROBE = r"""
sys=${SYS:-/sys}
for d in "$sys"/devices/system/node/node[0-9]*; do
  [ -e "$d/meminfo" ] || continue
  memory= cpus=
  while read -r _ _ what value _; do [ "$what" = MemTotal: ] && memory=$value; done <"$d/meminfo"
  cpus=$(cat "$d/cpulist")  # it cannot be read byte by byte, as read does
  printf 'numa\t%s\t%s\t%s\n' "${d##*/node}" "$memory" "$cpus"
done
for d in "$sys"/bus/pci/devices/*; do
  IFS= read -r vendor <"$d/vendor" || continue
  [ "$vendor" = 0x1de5 ] || continue
  device= numa=
  IFS= read -r device <"$d/device"; IFS= read -r numa <"$d/numa_node"
  path=$(cd -P "$d" && printf %s "$PWD")
  printf 'pci\t%s\t%s\t%s\t%s\n' "${d##*/}" "$device" "$numa" "${path#*/devices/}"
done
for d in "$sys"/class/mock-accel/*; do
  [ -e "$d/uuid" ] || continue
  uuid= memory= capabilities= total=0 enabled=0
  IFS= read -r uuid <"$d/uuid"; IFS= read -r memory <"$d/memory_size"; IFS= read -r capabilities <"$d/capabilities"
  [ -e "$d/sriov_totalvfs" ] && { IFS= read -r total <"$d/sriov_totalvfs"; IFS= read -r enabled <"$d/sriov_numvfs"; }
  bdf=$(cd -P "$d/device" && printf %s "${PWD##*/}")
  printf 'accel\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$bdf" "${d##*/}" "$uuid" "$memory" "$capabilities" "$total" "$enabled"
done
echo end
"""
_ADDRESS = re.compile(r"0000:([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")
_ROOT = re.compile(r"pci0000:([0-9a-f]{2})/")

Run = Callable[[str, str], str]
"""Runs a shell command on a node, and returns its output. Raises StepError."""


@dataclass(frozen=True)
class PciDevice:
    """A mock accelerator on a node's PCI bus."""

    bdf: str
    device_id: int
    numa_node: int
    path: str
    """Below ``/sys/devices``: ``pci0000:10/0000:10:00.0/0000:11:00.0``."""


@dataclass(frozen=True)
class ShownDevice:
    """A device that the kernel module shows."""

    name: str
    uuid: str
    memory: int
    """Bytes."""
    capabilities: int
    total_vfs: int
    enabled_vfs: int


@dataclass(frozen=True)
class Found:
    """What PROBE found on a node."""

    node: str
    numa_nodes: Mapping[int, tuple[int, int]]
    """Bytes of memory and number of CPUs of each NUMA node."""
    pci: tuple[PciDevice, ...]
    """In PCI order."""
    shown: Mapping[str, ShownDevice]
    """By PCI address."""

    @property
    def hidden_vfs(self) -> dict[str, int]:
        """Number of possible VFs of each PF that has not enabled all of them, by its name."""
        devices = self.shown.values()
        return {device.name: device.total_vfs for device in devices if device.enabled_vfs < device.total_vfs}


def parse(node: str, output: str) -> Found:
    """Parse the output of PROBE on ``node``. Raises StepError with an invalid line."""
    lines = output.splitlines()
    if not lines or lines[-1] != "end":
        raise StepError(f"{node}: the list of its devices is incomplete: {output[-200:]!r}")
    numa: dict[int, tuple[int, int]] = {}
    pci: list[PciDevice] = []
    shown: dict[str, ShownDevice] = {}
    for line in lines[:-1]:
        kind, *fields = line.split("\t")
        try:
            match kind, fields:
                case "numa", [number, memory, cpus]:
                    numa[int(number)] = (int(memory) << 10, sum(map(len, cpu_ranges(cpus))))
                case "pci", [bdf, device, numa_node, path]:
                    pci.append(PciDevice(bdf, int(device, 16), int(numa_node), path))
                case "accel", [bdf, name, uuid, memory, capabilities, total, enabled]:
                    numbers = (int(memory), int(capabilities, 16), int(total), int(enabled))
                    shown[bdf] = ShownDevice(name, uuid, *numbers)
                case _:
                    raise ValueError("unknown line")
        except ValueError as error:
            raise StepError(f"{node}: expected a device or NUMA node, found {line!r} ({error})") from error
    return Found(node, numa, tuple(sorted(pci, key=lambda item: item.bdf)), shown)


def numa_fields(found: Found) -> list[NumaFields]:
    """The NUMA nodes of a node, with their devices. Raises StepError with all that a topology cannot express."""
    functions: dict[int, list[FunctionFields]] = {number: [] for number in found.numa_nodes}
    wrong = []
    if sorted(found.numa_nodes) != list(range(len(found.numa_nodes))):
        wrong.append(f"its NUMA nodes are {', '.join(map(str, sorted(found.numa_nodes)))}, expected 0, 1, … in order")
    for item in found.pci:
        address, root = _ADDRESS.fullmatch(item.bdf), _ROOT.match(item.path)
        shown = found.shown.get(item.bdf)
        if not address or not root:
            wrong.append(f"{item.bdf}: expected it in PCI domain 0000, found {item.path}")
        elif item.numa_node not in functions:
            wrong.append(f"{item.bdf}: expected its NUMA node, the kernel knows none (numa_node {item.numa_node})")
        elif item.device_id not in (_PF_ID, _VF_ID):
            wrong.append(f"{item.bdf}: expected device ID {_PF_ID} or {_VF_ID}, found {item.device_id}")
        elif shown is None:
            wrong.append(f"{item.bdf}: {_CLASS} does not show it; is the kernel module loaded?")
        else:
            functions[item.numa_node].append(
                FunctionFields(
                    bus=int(address[1], 16),
                    device=int(address[2], 16),
                    function=int(address[3]),
                    root=int(root[1], 16),
                    uuid=shown.uuid,
                    memory=shown.memory,
                    capabilities=shown.capabilities,
                    is_vf=item.device_id == _VF_ID,
                )
            )
    wrong += [
        f"{device.name}: {device.total_vfs - device.enabled_vfs} of its {device.total_vfs} VFs are not enabled, "
        "so their values are not shown; use --enable-vfs"
        for device in found.shown.values()
        if device.enabled_vfs < device.total_vfs
    ]
    if not wrong:
        wrong = _name_complaints(found)
    if wrong:
        raise StepError("\n".join(f"{found.node}: {line}" for line in wrong))
    return [NumaFields(*found.numa_nodes[number], functions[number]) for number in sorted(functions)]


def _name_complaints(found: Found) -> list[str]:
    """Devices whose names are not those of a topology: ``mock0``, ``mock0_vf0``, ``mock1``, … in PCI order."""
    wrong, pf, vf = [], -1, 0
    for item in found.pci:
        pf, vf = (pf, vf + 1) if item.device_id == _VF_ID else (pf + 1, 0)
        expected = f"mock{pf}_vf{vf - 1}" if vf else f"mock{pf}"
        if (name := found.shown[item.bdf].name) != expected:
            wrong.append(
                f"{item.bdf}: expected it to be {expected} by PCI order, the kernel module calls it {name}; "
                "load the module again while no device is in use"
            )
    return wrong


def discover(name: str, nodes: Sequence[str], run: Run, *, enable_vfs: bool = False) -> str:
    """The topology ``name`` of ``nodes``, as YAML that ``topology.load`` reads. ``run`` runs commands on them.

    The kernel module must be loaded. With ``enable_vfs``, VFs that are not enabled
    are enabled for a moment: only then the module shows their values. Raises
    StepError with everything that is missing, or that a topology cannot express.
    """
    found: list[Found] = []
    wrong: list[str] = []
    for node in nodes:
        try:
            found.append(_look(node, run, enable_vfs=enable_vfs))
        except StepError as error:
            wrong.append(str(error))
    numa: list[tuple[str, list[NumaFields]]] = []
    for item in found:
        try:
            numa.append((item.node, numa_fields(item)))
        except StepError as error:
            wrong.append(str(error))
    if wrong:
        raise StepError("\n".join(wrong))
    return as_yaml(name, numa)


def _look(node: str, run: Run, *, enable_vfs: bool) -> Found:
    found = parse(node, run(node, PROBE))
    if enable_vfs and (hidden := found.hidden_vfs):
        before = {device.name: device.enabled_vfs for device in found.shown.values() if device.name in hidden}
        try:
            run(node, vfs_command(hidden))
            found = parse(node, run(node, PROBE))
        finally:
            run(node, vfs_command(before))
    return found


def vfs_command(counts: Mapping[str, int]) -> str:
    """Shell command that sets the number of enabled VFs by names of PFs; prints the PFs that it changed.

    The kernel changes the number only from and to 0: Documentation/PCI/pci-iov-howto.rst.
    """
    changes = []
    for pf, count in counts.items():
        file = f"{_CLASS}/{pf}/sriov_numvfs"
        # printf(1), because the shell's own does not report the kernel's error.
        writes = [f'{{ [ "$n" = 0 ] || /usr/bin/printf 0 >{file}; }}']
        writes += [f"/usr/bin/printf {count} >{file}"] if count else []
        changes.append(f'{{ read -r n <{file}; [ "$n" = {count} ] || {{ {" && ".join(writes)} && echo {pf}; }}; }}')
    return " && ".join(changes) or "true"
