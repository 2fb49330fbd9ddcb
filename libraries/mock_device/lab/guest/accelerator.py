"""QEMU's accelerator on this machine, and the properties of its CPU that saved guests depend on."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from mock_device.lab.base.timeouts import Timeout

_MHZ_STEP = 5
_NESTED = ("/sys/module/kvm_amd/parameters/nested", "/sys/module/kvm_intel/parameters/nested")


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
    cannot run a stock kernel. ``kernel_probe`` finds those that have the flag as well.
    """
    flags = set(_first_cpu().get("flags", "").split())
    usable = flags & {"vmx", "svm"} and os.access("/dev/kvm", os.R_OK | os.W_OK)
    return "kvm" if usable else "tcg"


def look_seconds(accelerator: str) -> float:
    """How long commands that show a cluster wait for a node that does not answer.

    Without ``kvm`` twice as long: a login alone takes seconds on a busy guest.
    """
    return Timeout.LOOK.seconds if accelerator == "kvm" else 2 * Timeout.LOOK.seconds


def cpu_model(accelerator: str, *, nested: bool = False) -> str:
    """Value of QEMU's ``-cpu`` for a guest with ``accelerator``; ``nested``: it can run guests itself, with ``kvm``.

    Without ``nested``, ``svm`` and ``vmx`` are off: nodes would load kvm_amd or kvm_intel, and a saved guest would
    depend on whether this machine's KVM allows nesting.
    """
    if accelerator == "tcg":
        return "max"
    return "host" if nested else "host,svm=off,vmx=off"


def emulated_vcpus(guests: int) -> str:
    """Value of QEMU's ``-accel tcg,thread=`` for a cluster of ``guests``: ``multi``, a thread per CPU, or ``single``.

    ``single`` when there are at least as many guests as cores of this machine: a
    thread that waits for a core keeps others spinning on locks and interrupt
    acknowledgements, which nearly doubled the time until ten pods ran (docs/measurements.md).
    """
    return "single" if guests >= len(os.sched_getaffinity(0)) else "multi"


def host_cpu(accelerator: str, *, nested: bool = False) -> str:
    """Properties of this machine's CPU that must be the same when a saved guest is restored.

    With KVM: model and features, and for guests with ``nested`` virtualisation KVM's setting for it.
    Without: the rate of the time stamp counter in MHz (half the kernel's BogoMIPS), which the guest
    measures at boot and uses as its clock.
    """
    cpu = _first_cpu()
    if accelerator == "kvm":
        settings = [file.read_text().strip() for file in map(Path, _NESTED) if nested and file.exists()]
        return f"{cpu.get('model name')} {cpu.get('flags')}{' nested=' if nested else ''}{''.join(settings)}"
    return f"{round(float(cpu.get('bogomips', 0)) / 2 / _MHZ_STEP) * _MHZ_STEP} MHz"
