"""Interrupts of a device on its node: which CPUs may handle them, and which have.

Formats: /proc/interrupts (proc(5)), and the kernel's Documentation/core-api/irq/irq-affinity.rst.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.sysfs import CLASS_FOLDER
from mock_device.lab.base.cpu_list import cpu_numbers


def probe(device: str) -> str:
    """Shell command that shows the interrupts of ``device`` (name in sysfs), and the CPUs of its NUMA node."""
    return rf"""
cd {CLASS_FOLDER}/{device}/device || exit 1
read -r numa <numa_node; read -r cpus </sys/devices/system/node/node$numa/cpulist
printf 'cpus\t%s\n' "$cpus"
for irq in msi_irqs/*; do printf 'irq\t%s\n' "${{irq##*/}}"; done
cat /proc/interrupts
echo end
"""


@dataclass(frozen=True)
class Interrupts:
    """Interrupts of a device."""

    cpus: str
    """CPUs of the device's NUMA node, in the kernel's list format: ``0-1,4``."""
    counts: Mapping[int, Mapping[int, int]]
    """How often each CPU has handled each interrupt of the device since it exists."""

    @property
    def near(self) -> set[int]:
        """Numbers of ``cpus``."""
        return set(cpu_numbers(self.cpus))


def parse(output: str) -> Interrupts:
    """Parse the output of ``probe``. Raises CheckError."""
    lines = output.splitlines()
    if not lines or lines[-1] != "end":
        raise CheckError(f"expected the interrupts of a device, found {output[-200:]!r}; does it respond?")
    named = [line.split("\t") for line in lines if line.startswith(("cpus\t", "irq\t"))]
    numbers = {int(value) for what, value in named if what == "irq"}
    (cpus,) = [value for what, value in named if what == "cpus"]
    columns = next(([int(word[3:]) for word in words] for words in map(str.split, lines) if words[:1] == ["CPU0"]), [])
    counts: dict[int, dict[int, int]] = {}
    for words in map(str.split, lines):
        number = words[0].removesuffix(":") if words else ""
        if number.isdecimal() and int(number) in numbers and words[0].endswith(":"):
            values = map(int, words[1 : len(columns) + 1])
            counts[int(number)] = dict(zip(columns, values, strict=True))
    if not counts:
        raise CheckError(
            f"expected interrupts {sorted(numbers)} in /proc/interrupts, found none; does a driver use them?"
        )
    return Interrupts(cpus, counts)


def bind(found: Interrupts) -> str:
    """Shell command that lets only the CPUs of the device's NUMA node handle its interrupts, as an administrator."""
    return " && ".join(f"echo {found.cpus} >/proc/irq/{number}/smp_affinity_list" for number in found.counts)


def complaints(before: Interrupts, after: Interrupts) -> list[str]:
    """Whether interrupts between two readings are missing, or were handled far from the device."""
    grown: Counter[int] = Counter()
    for number, counts in after.counts.items():
        for cpu, count in counts.items():
            grown[cpu] += count - before.counts.get(number, {}).get(cpu, 0)
    busy = {cpu: count for cpu, count in grown.items() if count}
    if not busy:
        return ["expected interrupts of the device, found none"]
    far = {cpu: count for cpu, count in busy.items() if cpu not in after.near}
    return [f"expected interrupts on CPUs {after.cpus} only, found {far} on others (by CPU)"] if far else []
