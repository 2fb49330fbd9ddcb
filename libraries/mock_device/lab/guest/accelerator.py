"""QEMU's accelerator on this machine, and the properties of its CPU that saved guests depend on."""

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

    An accessible ``/dev/kvm`` is not enough: some virtual machines have one that
    cannot run a stock kernel.
    """
    flags = set(_first_cpu().get("flags", "").split())
    usable = flags & {"vmx", "svm"} and os.access("/dev/kvm", os.R_OK | os.W_OK)
    return "kvm" if usable else "tcg"


LOOK_SECONDS = 10.0
"""How long commands that show a cluster wait for a node that does not answer."""
_EMULATED_LOOK_SECONDS = 2 * LOOK_SECONDS


def look_seconds(accelerator: str) -> float:
    """LOOK_SECONDS, or twice that without ``kvm``, where a login alone takes seconds on a busy guest."""
    return LOOK_SECONDS if accelerator == "kvm" else _EMULATED_LOOK_SECONDS


def emulated_vcpus(guests: int) -> str:
    """Value of QEMU's ``-accel tcg,thread=`` for a cluster of ``guests``: ``multi``, a thread per CPU, or ``single``.

    ``single`` when there are at least as many guests as cores of this machine: a
    thread that waits for a core keeps others spinning on locks and interrupt
    acknowledgements, which nearly doubled the time until ten pods ran (docs/measurements.md).
    """
    return "single" if guests >= len(os.sched_getaffinity(0)) else "multi"


def host_cpu(accelerator: str) -> str:
    """Properties of this machine's CPU that must be the same when a saved guest is restored.

    With KVM: model and features. Without: the rate of the time stamp counter in MHz
    (half the kernel's BogoMIPS), which the guest measures at boot and uses as its clock.
    """
    cpu = _first_cpu()
    if accelerator == "kvm":
        return f"{cpu.get('model name')} {cpu.get('flags')}"
    return f"{round(float(cpu.get('bogomips', 0)) / 2 / _MHZ_STEP) * _MHZ_STEP} MHz"
