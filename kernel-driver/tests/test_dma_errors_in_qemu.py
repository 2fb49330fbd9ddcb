"""Memory that cannot be mapped for the device: the guest has 1 MiB of bounce buffers, and uses them for all DMA."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from kernel_log import reports
from module_guest import ModuleGuest
from module_state import restore
from test_jobs_in_qemu import fails, job, pinned

from mock_device.topology import Node, Slot

pytestmark = pytest.mark.slow

_SLABS = (1 << 20) // 2048  # IO_TLB_SIZE
_EIO = 5


@pytest.fixture(scope="module")
def guest(node: Node, spare: Slot, boot: Callable[..., AbstractContextManager[ModuleGuest]]) -> Iterator[ModuleGuest]:
    with (
        tempfile.TemporaryDirectory(prefix="mock-accel-") as folder,
        boot(node, spare, Path(folder), options=f"swiotlb={_SLABS},1,force") as guest,
    ):
        yield guest


@pytest.fixture(autouse=True)
def known_state(guest: ModuleGuest, node: Node) -> Iterator[None]:
    restore(guest, node)
    yield
    assert not reports(guest.ok("dmesg -c"))


@pytest.mark.parametrize("length", [1, 70001, 300000])
def test_bounced_memory_has_the_same_bytes(guest: ModuleGuest, length: int) -> None:
    """Also if a buffer is longer than what can be bounced at once, 256 KiB."""
    assert job(guest, "mock1", "copy", length) == str(length)


def test_job_whose_memory_cannot_be_mapped_leaves_nothing(guest: ModuleGuest) -> None:
    """The first buffer is mapped, or a part of it."""
    for length in (800000, 16 << 20):
        assert fails(guest, "mock1", "copy", length) == f"error {_EIO}"
        assert pinned(guest) == 0
    assert job(guest, "mock1", "copy", 300000) == "300000"
