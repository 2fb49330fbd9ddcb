"""Fixtures: a guest with the content of the loader's image, and the devices of a node of the default topology."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mock_device import topology

sys.path.insert(0, str(Path(__file__).parent))  # for module_guest, initramfs, and others

from device_servers import serving
from guest_kernels import DEBUG, NUMA_NODE_MEMORY, guest_kernel
from initramfs import write_initramfs
from kernel_log import reports
from module_guest import ModuleGuest
from module_state import restore

TOPOLOGY = Path(__file__).resolve().parents[2] / "variables/topologies/numa-cluster.yaml"


@pytest.fixture(scope="session")
def node() -> topology.Node:
    """The first node of the default topology, with less memory."""
    node = topology.load(TOPOLOGY).nodes[0]
    return replace(node, numa_nodes=tuple(replace(numa, memory=NUMA_NODE_MEMORY) for numa in node.numa_nodes))


@pytest.fixture(scope="session")
def spare(node: topology.Node) -> topology.Slot:
    """A slot with one more PF, after all others in PCI order."""
    bus = node.slots[-1].bus + 1
    port = f"rp{bus:02x}"
    like = next(function for function in node.slots[-1].functions if not function.total_vfs)
    pf = replace(like, name="spare", uuid="SPARE", bdf=f"0000:{bus:02x}:00.0", function=0, multifunction=False)
    return topology.Slot(port, bus, (replace(pf, root_port=port),), node.slots[-1].root)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder with a short name: a socket's path has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="mock-accel-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def guest(node: topology.Node, spare: topology.Slot, folder: Path) -> Iterator[ModuleGuest]:
    """A booted guest without plugged devices and without the module."""
    with booted(node, spare, folder) as guest:
        yield guest
        # After its first report lockdep is silent.
        assert not DEBUG or "debug_locks: 1" in " ".join(guest.ok("cat /proc/lockdep_stats").split())


@pytest.fixture(scope="module")
def own_guest(node: topology.Node, spare: topology.Slot) -> Iterator[ModuleGuest]:
    """A separate guest for the tests of one file, which change it permanently."""
    with tempfile.TemporaryDirectory(prefix="mock-accel-") as folder, booted(node, spare, Path(folder)) as guest:
        yield guest


@contextmanager
def booted(
    node: topology.Node,
    spare: topology.Slot,
    folder: Path,
    *,
    more: Sequence[Path] = (),
    iommu: bool = False,
    options: str = "",
) -> Iterator[ModuleGuest]:
    """A guest with a root port per slot and the files ``more``; the node's devices are served.

    ``options`` are added to the kernel's command line.
    """
    from mock_device.lab.build.qemu_build import ensure_qemu

    kernel = guest_kernel()
    write_initramfs(folder / "initrd", kernel.archive, [*kernel.more, *more])
    *others, last = node.numa_nodes
    wired = replace(node, numa_nodes=(*others, replace(last, slots=(*last.slots, spare))))
    with ExitStack() as stack:
        devices = stack.enter_context(serving(node.functions, folder))
        started = ModuleGuest(ensure_qemu(), kernel.image, wired, folder, iommu=iommu, options=options)
        guest = stack.enter_context(started)
        guest.served = devices
        guest.boot()
        yield guest


@pytest.fixture(scope="session")
def boot() -> Callable[[topology.Node, topology.Slot, Path], AbstractContextManager[ModuleGuest]]:
    """Function that boots a guest with another node than the usual one."""
    return booted


@pytest.fixture
def known_state(guest: ModuleGuest, node: topology.Node) -> Iterator[None]:
    """A test starts with all PFs, no VF and all devices free; it fails if the kernel logs a warning."""
    restore(guest, node)
    yield
    assert not reports(guest.ok("dmesg -c"))
