"""Whether this machine can run guests on hardware virtualisation, and what of its CPU a saved guest depends on."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

_MHZ_STEP = 5


@cache
def _first_cpu() -> dict[str, str]:
    """Fields of the first CPU in /proc/cpuinfo (proc_cpuinfo(5))."""
    first, _, _ = Path("/proc/cpuinfo").read_text().partition("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


@cache
def accelerator() -> str:
    """QEMU's accelerator here: ``kvm``, or ``tcg`` where the CPU has no ``vmx`` or ``svm`` flag.

    A ``/dev/kvm`` that opens is no proof: inside some virtual machines it is
    there but cannot run a stock kernel.
    """
    flags = set(_first_cpu().get("flags", "").split())
    usable = flags & {"vmx", "svm"} and os.access("/dev/kvm", os.R_OK | os.W_OK)
    return "kvm" if usable else "tcg"


LOOK_SECONDS = 10.0
"""How long a person who looks at a cluster waits for a node that does not answer."""
_EMULATED_LOOK_SECONDS = 2 * LOOK_SECONDS


def look_seconds(accelerator: str) -> float:
    """LOOK_SECONDS, or twice that where a login alone takes seconds while the guest is busy (without ``kvm``)."""
    return LOOK_SECONDS if accelerator == "kvm" else _EMULATED_LOOK_SECONDS


def emulated_vcpus(guests: int) -> str:
    """How QEMU emulates the CPUs of each of a cluster's ``guests``: ``multi``, a thread each, or ``single``.

    ``single`` when each core of this machine has a guest already: threads that wait
    for a core keep others spinning, on locks and on answers to interrupts, which
    nearly doubled the time until ten pods ran (docs/clusters.md).
    """
    return "single" if guests >= len(os.sched_getaffinity(0)) else "multi"


def host_cpu(accelerator: str) -> str:
    """What of this machine's CPU a guest takes for granted for as long as it lives, also when it is saved and restored.

    With KVM its model and features; without, the rate of its time stamp counter,
    which the guest has measured once and takes as its clock (MHz; the kernel's
    BogoMIPS is twice that).
    """
    cpu = _first_cpu()
    if accelerator == "kvm":
        return f"{cpu.get('model name')} {cpu.get('flags')}"
    return f"{round(float(cpu.get('bogomips', 0)) / 2 / _MHZ_STEP) * _MHZ_STEP} MHz"
