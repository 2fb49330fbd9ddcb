"""Whether KVM runs the nodes' kernel on this machine, before a cluster relies on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.spec import QemuSpec
from mock_device.lab.build.qemu_build import ensure_qemu
from mock_device.lab.build.store import cached
from mock_device.lab.cluster.profile import Profile
from mock_device.lab.guest import kernel_probe
from mock_device.lab.guest.accelerator import cpu_model

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_REASON = "reason"


class NoKvmError(StepError):
    """A profile asks for KVM, which cannot run the nodes' kernel here."""


def with_working_accelerator(profile: Profile, warn: Callable[[str], None] | None = None) -> Profile:
    """``profile``, or with QEMU's emulation in place of KVM that cannot run the nodes' kernel, after a warning.

    The kernel is tried once after each boot of this machine. Raises NoKvmError if
    the profile asks for ``accelerator: kvm``, which does not work.
    """
    if profile.accelerator != "kvm" or not (reason := _complaint(profile)):
        return profile
    if not profile.accelerator_found:
        raise NoKvmError(
            f"{profile.path}: accelerator: kvm: KVM cannot run the nodes' kernel on this machine: {reason}; "
            "expected a kernel that starts; use accelerator: auto or tcg"
        )
    if warn:
        warn(f"warning: KVM cannot run the nodes' kernel on this machine ({reason}); guests are emulated (tcg)")
    return replace(profile, accelerator="tcg")


def _complaint(profile: Profile) -> str:
    qemu, kernel = ensure_qemu(), profile.node_image().kernel
    spec = QemuSpec(qemu.system_argv, qemu.env, profile.accelerator, profile.nested)

    def build(folder: Path) -> None:
        write_file(folder / _REASON, kernel_probe.complaint(spec, kernel))

    inputs = {
        "boot": _BOOT_ID.read_text(),
        "qemu": qemu.system_argv,
        "kernel": str(kernel),
        "cpu": cpu_model("kvm", nested=profile.nested),
    }
    return (cached("kvm-probe", inputs, build, what="KVM runs the nodes' kernel") / _REASON).read_text()
