"""Lists of CPUs, in the kernel's form."""

from __future__ import annotations

from mock_device.lab.base.cpu_list import cpu_numbers


def test_lists_of_cpus() -> None:
    assert list(cpu_numbers("0-2,5,7-8")) == [0, 1, 2, 5, 7, 8]
    assert list(cpu_numbers("")) == []
