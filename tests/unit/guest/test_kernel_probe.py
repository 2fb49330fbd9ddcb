"""Whether QEMU can run the nodes' kernel: a real guest by emulation, and programs that fail as QEMU does."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_device.lab.base.spec import QemuSpec
from mock_device.lab.build.node_image import build_node_image
from mock_device.lab.build.qemu_build import ensure_qemu
from mock_device.lab.guest.kernel_probe import complaint

KERNEL = Path("/vmlinuz")


def shell(text: str) -> QemuSpec:
    """A program in place of QEMU."""
    return QemuSpec(["sh", "-c", text, "qemu"], {}, "kvm")


@pytest.mark.slow
def test_kernel_starts_by_emulation() -> None:
    qemu = ensure_qemu()
    spec = QemuSpec(qemu.system_argv, qemu.env, "tcg")
    assert complaint(spec, build_node_image().kernel, timeout=100) == ""


def test_qemu_that_ends_gives_its_reason() -> None:
    found = complaint(shell("echo 'warning: slow' >&2; echo 'failed to initialize kvm: denied' >&2; exit 1"), KERNEL)
    assert found == "QEMU ended with 1: failed to initialize kvm: denied"
    assert complaint(shell("exit 3"), KERNEL) == "QEMU ended with 3: it gave no reason"


def test_internal_error_ends_the_wait() -> None:
    found = complaint(shell("echo 'KVM internal error. Suberror: 1' >&2; exec sleep 60"), KERNEL)
    assert found == "KVM internal error. Suberror: 1"


def test_silent_kernel_is_waited_for_until_the_time_out() -> None:
    found = complaint(shell("echo 'warning: no such feature' >&2; exec sleep 60"), KERNEL, timeout=0.3)
    assert found == "the kernel printed nothing within 0 s"
