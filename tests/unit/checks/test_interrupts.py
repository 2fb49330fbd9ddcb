"""Interrupts of a device, from a recorded /proc/interrupts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import interrupts

# A node with four CPUs; the last lines have fewer columns, as the kernel writes them.
OUTPUT = """\
cpus\t2-3
irq\t41
irq\t42
           CPU0       CPU1       CPU2       CPU3
  4:        120          0          0          0  IO-APIC   4-edge      ttyS0
 40:          7          0          0          0  PCI-MSI-0000:00:02.0   0-edge      virtio0-config
 41:          3          0          5          1  PCI-MSI-0000:11:00.0   0-edge      mock_accel
 42:          0          0          0          2  PCI-MSI-0000:11:00.0   1-edge      mock_accel
NMI:          0          0          0          0   Non-maskable interrupts
ERR:          0
MIS:          0
end
"""


def test_interrupts_of_the_device_only() -> None:
    found = interrupts.parse(OUTPUT)
    assert found.counts == {41: {0: 3, 1: 0, 2: 5, 3: 1}, 42: {0: 0, 1: 0, 2: 0, 3: 2}}
    assert (found.cpus, found.near) == ("2-3", {2, 3})
    assert interrupts.bind(found) == (
        "echo 2-3 >/proc/irq/41/smp_affinity_list && echo 2-3 >/proc/irq/42/smp_affinity_list"
    )


def test_where_interrupts_arrived() -> None:
    before = interrupts.parse(OUTPUT)
    near = replace(before, counts={**before.counts, 41: {0: 3, 1: 0, 2: 9, 3: 1}})
    assert interrupts.complaints(before, near) == []
    far = replace(before, counts={**near.counts, 42: {0: 0, 1: 6, 2: 0, 3: 2}})
    assert interrupts.complaints(before, far) == [
        "expected interrupts on CPUs 2-3 only, found {1: 6} on others (by CPU)"
    ]
    assert interrupts.complaints(before, before) == ["expected interrupts of the device, found none"]


@pytest.mark.parametrize("output", ["", OUTPUT.removesuffix("end\n")])
def test_incomplete_output(output: str) -> None:
    with pytest.raises(CheckError, match="expected the interrupts of a device, found "):
        interrupts.parse(output)


def test_device_without_interrupts() -> None:
    with pytest.raises(CheckError, match=r"expected interrupts \[\] in /proc/interrupts, found none"):
        interrupts.parse(OUTPUT.replace("irq\t41\nirq\t42\n", ""))
