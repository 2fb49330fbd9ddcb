"""Whether this machine can run guests on hardware virtualisation."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


@cache
def accelerator() -> str:
    """QEMU's accelerator here: ``kvm``, or ``tcg`` where the CPU has no ``vmx`` or ``svm`` flag.

    A ``/dev/kvm`` that opens is no proof: inside some virtual machines it is
    there but cannot run a stock kernel.
    """
    flags: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags.update(line.partition(":")[2].split())
            break
    usable = flags & {"vmx", "svm"} and os.access("/dev/kvm", os.R_OK | os.W_OK)
    return "kvm" if usable else "tcg"
