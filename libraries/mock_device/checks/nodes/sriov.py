"""Virtual functions: which are enabled, and the links between the PCI devices of PFs and VFs.

The PCI core creates the links ``physfn`` and ``virtfnN``: the kernel's
Documentation/ABI/testing/sysfs-bus-pci.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from mock_device.checks.nodes.sysfs import CLASS_FOLDER
from mock_device.topology import Function, Node

PROBE = rf"""
for d in {CLASS_FOLDER}/*; do
  [ -e "$d/uuid" ] || continue
  total= enabled= parent= children=
  [ -e "$d/sriov_totalvfs" ] && {{ IFS= read -r total <"$d/sriov_totalvfs"; IFS= read -r enabled <"$d/sriov_numvfs"; }}
  bdf=$(cd -P "$d/device" && printf %s "${{PWD##*/}}")
  [ -L "$d/device/physfn" ] && parent=$(cd -P "$d/device/physfn" && printf %s "${{PWD##*/}}")
  for l in "$d"/device/virtfn*; do
    [ -L "$l" ] && children="$children ${{l##*/}}=$(cd -P "$l" && printf %s "${{PWD##*/}}")"
  done
  printf 'device\t%s\t%s\t%s\t%s\t%s\t%s\n' "${{d##*/}}" "$bdf" "$total" "$enabled" "$parent" "${{children# }}"
done
echo end
"""
_FIELDS = 7


class Refusal(Enum):
    """Why the kernel module refuses a number of VFs, as strerror(3) texts."""

    OUT_OF_RANGE = "Invalid argument"
    IN_USE = "Device or resource busy"


@dataclass(frozen=True)
class SriovDevice:
    """A device in sysfs, with its virtual functions (of a PF) or its parent (of a VF)."""

    name: str
    bdf: str
    total: int | None
    """``sriov_totalvfs``; None if the attribute is missing, as on a VF."""
    enabled: int | None
    """``sriov_numvfs``."""
    parent: str
    """PCI address to which ``physfn`` points; empty without that link."""
    children: Mapping[str, str]
    """PCI addresses by names of the ``virtfnN`` links."""


def command(pf: str, count: str) -> str:
    """Shell command that requests ``count`` VFs of ``pf``; printf(1) reports the error, which the builtin does not."""
    return f"/usr/bin/printf %s '{count}' >{CLASS_FOLDER}/{pf}/sriov_numvfs"


def restore_command(counts: Mapping[str, int]) -> str:
    """Shell command that enables ``counts[pf]`` VFs of each PF (default 0), and prints the PFs that it changed.

    The kernel changes the number only from and to 0.
    """
    cases = " ".join(f"{pf}) wanted={count} ;;" for pf, count in counts.items())
    return rf"""
for f in {CLASS_FOLDER}/*/sriov_numvfs; do
  [ -e "$f" ] || continue
  pf=${{f%/*}}; pf=${{pf##*/}}
  case $pf in {cases} *) wanted=0 ;; esac
  IFS= read -r n <"$f"
  [ "$n" = "$wanted" ] && continue
  [ "$n" = 0 ] || /usr/bin/printf 0 >"$f" || exit 1
  [ "$wanted" = 0 ] || /usr/bin/printf "$wanted" >"$f" || exit 1
  echo "$pf"
done
"""


def parse(node: str, output: str) -> list[SriovDevice]:
    """Parse the output of PROBE on ``node``. Raises ValueError with an invalid line."""
    lines = output.splitlines()
    if not lines or lines[-1] != "end":
        raise ValueError(f"{node}: the list of VFs is incomplete: {output[-200:]!r}")
    devices = []
    for line in lines[:-1]:
        fields = line.split("\t")
        if fields[0] != "device" or len(fields) != _FIELDS:
            raise ValueError(f"{node}: expected a device, found {line!r}")
        _, name, bdf, total, enabled, parent, links = fields
        try:
            most, now = (int(text) if text else None for text in (total, enabled))
            children = dict(link.split("=") for link in links.split())
        except ValueError as error:
            raise ValueError(f"{node}: expected a device, found {line!r} ({error})") from error
        devices.append(SriovDevice(name, bdf, most, now, parent, children))
    return devices


def complaints(node: Node, found: list[SriovDevice], enabled: Mapping[str, int]) -> list[str]:
    """How the VFs of ``node`` differ from the first ``enabled[pf]`` (default 0) VFs of each PF."""
    shown = {device.name: device for device in found}
    result = []
    for pf in node.pfs:
        vfs = node.vfs_of(pf)[: enabled.get(pf.name, 0)]
        expected = [_parent(pf, vfs), *(_child(pf, vf) for vf in vfs)]
        for device in expected:
            if difference := _difference(device, shown.pop(device.name, None)):
                result.append(f"{node.name} {device.name} ({device.bdf}): {difference}")
    result += [f"{node.name} {name} is unexpected: it should not be enabled" for name in sorted(shown)]
    return result


def _parent(pf: Function, vfs: tuple[Function, ...]) -> SriovDevice:
    children = {f"virtfn{number}": vf.bdf for number, vf in enumerate(vfs)}
    return SriovDevice(pf.name, pf.bdf, pf.total_vfs, len(vfs), "", children)


def _child(pf: Function, vf: Function) -> SriovDevice:
    return SriovDevice(vf.name, vf.bdf, None, None, pf.bdf, {})


def _difference(expected: SriovDevice, found: SriovDevice | None) -> str:
    if found is None:
        return f"{CLASS_FOLDER} has no such device"
    return "; ".join(
        f"expected {what} {wanted}, found {value}" for what, wanted, value in _pairs(expected, found) if wanted != value
    )


def _pairs(expected: SriovDevice, found: SriovDevice) -> Iterator[tuple[str, str, str]]:
    yield "PCI address", expected.bdf, found.bdf
    yield "sriov_totalvfs", _number(expected.total), _number(found.total)
    yield "sriov_numvfs", _number(expected.enabled), _number(found.enabled)
    yield "physfn", expected.parent or "none", found.parent or "none"
    yield "virtfn links", _links(expected.children), _links(found.children)


def _number(value: int | None) -> str:
    return "none" if value is None else str(value)


def _links(children: Mapping[str, str]) -> str:
    return ", ".join(f"{name} to {bdf}" for name, bdf in sorted(children.items())) or "none"
