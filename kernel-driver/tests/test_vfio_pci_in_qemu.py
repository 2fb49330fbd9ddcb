"""VFs go to vfio-pci and back by ``driver_override``, while their PF and a sibling are in use.

The guest has an IOMMU, without which the nodes' kernel gives vfio-pci no device.
"""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from guest_kernels import DEBUG
from kernel_log import reports
from module_guest import DONE, ModuleGuest
from module_state import PCI, card, pfs, published, restore

from mock_device.topology import Function, Node, Slot

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DEBUG, reason="the debug kernel has no IOMMU and no vfio-pci"),
]

VFIO_PCI = "/sys/bus/pci/drivers/vfio-pci"
_MODULES = ("irqbypass", "vfio", "vfio_iommu_type1", "vfio-pci-core", "vfio-pci")
"""In the order in which they are loaded."""
_DIGEST = hashlib.sha256(bytes(i % 251 for i in range(4096))).hexdigest()


@pytest.fixture(scope="module")
def guest(
    node: Node,
    spare: Slot,
    tmp_path_factory: pytest.TempPathFactory,
    boot: Callable[..., AbstractContextManager[ModuleGuest]],
) -> Iterator[ModuleGuest]:
    from mock_device.lab.build import kbuild

    kernel = kbuild.nodes_kernel()
    folder = tmp_path_factory.mktemp("vfio")
    modules = []
    for name in _MODULES:
        (packed,) = (kernel.root / f"usr/lib/modules/{kernel.release}/kernel").rglob(f"{name}.ko.xz")
        modules.append(folder / f"{name}.ko")
        modules[-1].write_bytes(lzma.decompress(packed.read_bytes()))
    with boot(node, spare, Path(folder), more=modules, iommu=True) as guest:
        for name in _MODULES:
            guest.ok(f"insmod /{name}.ko")
        yield guest


@pytest.fixture(autouse=True)
def known_state(guest: ModuleGuest, node: Node) -> Iterator[None]:
    restore(guest, node)
    yield
    assert not reports(guest.ok("dmesg -c"))


def bind(guest: ModuleGuest, function: Function, driver: str) -> None:
    """Let ``driver`` have the function, which another one has."""
    guest.ok(f"echo {driver} > {PCI}/{function.bdf}/driver_override")
    guest.ok(f"echo {function.bdf} > {PCI}/{function.bdf}/driver/unbind")
    guest.ok(f"echo {function.bdf} > /sys/bus/pci/drivers_probe")


def works(guest: ModuleGuest, function: Function) -> None:
    assert guest.ok(f"/job /dev/mock-accel/{function.name} sha256 4096") == _DIGEST


def test_vf_is_bound_to_vfio_pci_and_back(guest: ModuleGuest, node: Node) -> None:
    pf, first, second = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
    for function in (pf, second):
        assert guest.write(function.name, "status", "1") == DONE
    for _ in range(2):
        bind(guest, first, "vfio-pci")
        assert guest.ok(f"ls -d {VFIO_PCI}/0000:*") == f"{VFIO_PCI}/{first.bdf}"
        assert guest.devices() == pfs(node) | published([second])
        works(guest, pf)
        works(guest, second)
        bind(guest, first, "mock_accel")
        assert guest.devices() == pfs(node) | published([first, second])
        works(guest, first)
    assert [guest.read(function.name, "status") for function in (pf, first, second)] == ["1", "0", "1"]
