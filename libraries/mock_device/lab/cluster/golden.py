"""Golden clusters: booted once, saved without devices, and restored in seconds as often as one likes.

There are two tiers. The first has Ready nodes; the second, made from the first,
has kernel module and driver as well, so that a change to the driver costs the
second only. Each is an artifact of the cache, keyed by all that goes into it.

Files of a golden cluster: ``NODE.ram`` (QEMU's mapped-ram migration format),
``NODE.qcow2`` (read-only base of the restored guests' disks), ``control-plane/etcd``
and ``pki``.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from mock_device.lab.base import disk, progress
from mock_device.lab.base.disk import explained_when_full
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.paths import PROJECT, cache_root
from mock_device.lab.build import images
from mock_device.lab.build.gobuild import build_embedded_k8s
from mock_device.lab.build.node_image import build_node_image
from mock_device.lab.build.qemu_build import ensure_qemu
from mock_device.lab.build.store import Input, cached
from mock_device.lab.cluster import deploy
from mock_device.lab.cluster.cluster import Cluster, start
from mock_device.lab.cluster.launcher import RUN_PREFIX
from mock_device.lab.cluster.profile import Profile, flag
from mock_device.lab.guest.accelerator import emulated_vcpus, host_cpu
from mock_device.topology import Topology

_CODE = [PROJECT / "libraries/mock_device/lab" / room for room in ("controlplane", "guest", "supervisor")]
"""Rooms whose code decides how a saved cluster looks and how it is restored."""
_TOPOLOGY = "topology.txt"
"""File of a golden cluster with the path of the topology file that it was built for."""

_GUEST_BYTES = 704 << 20
_GUEST_DISK_BYTES = 64 << 20
_CONTROL_PLANE_BYTES = 128 << 20


def shape(topology: Topology) -> str:
    """What of a topology a cluster without devices depends on (JSON)."""
    return json.dumps(
        [
            [
                node.name,
                node.address,
                [
                    [numa.id, numa.memory, numa.cpus, numa.bus, numa.wired_to, len(numa.slots)]
                    for numa in node.numa_nodes
                ],
            ]
            for node in topology.nodes
        ]
    )


def with_nodes(topology: Topology, profile: Profile) -> Path:
    """Folder of the golden cluster whose nodes are Ready. Raises StepError."""
    inputs: dict[str, Input] = {
        "shape": shape(topology),
        "profile": [profile.accelerator, flag(profile.feature_gates)],
        "cpu": host_cpu(profile.accelerator),
        # Decides what the guests' kernels were booted with.
        "vcpus": emulated_vcpus(len(topology.nodes)) if profile.accelerator == "tcg" else "",
        "qemu": ensure_qemu().version,
        "kubernetes": str(build_embedded_k8s()),
        "image": str(build_node_image().disk),
        "code": _CODE,
    }
    build = _build(topology, profile, deploy.wait_nodes)
    return cached("golden-nodes", inputs, build, what="golden cluster: nodes Ready (booted once)")


def with_driver(topology: Topology, profile: Profile) -> Path:
    """Folder of the golden cluster with kernel module and driver. Raises StepError."""
    base = with_nodes(topology, profile)
    inputs: dict[str, Input] = {
        "base": str(base),
        "images": [str(deploy.kmod_image()), str(images.driver_image())],
        "manifests": [deploy.MODULE_MANIFEST, deploy.DRIVER_MANIFESTS],
    }
    build = _build(topology, profile, deploy.install_everything, base)
    return cached("golden-driver", inputs, build, what="golden cluster: kernel module and DRA driver deployed")


def topology_files() -> set[Path]:
    """Topology files that the golden clusters in the cache were built for, as far as these files still exist."""
    recorded = cache_root().glob(f"golden-*/*/{_TOPOLOGY}")
    return {path for file in recorded if (path := Path(file.read_text().strip())).is_file()}


def needed_bytes(topology: Topology) -> int:
    """Disk that a golden cluster takes, about a third more than was measured.

    A guest of 2 GiB is saved in 490 MiB when its node is Ready, in 670 MiB with
    module and driver; its disk has 50 MiB, etcd's data 65 MiB, and is copied.
    Memory that a guest never wrote takes none, but what it caches grows with it.
    """
    guests = sum(min(node.memory, _GUEST_BYTES + node.memory // 16) + _GUEST_DISK_BYTES for node in topology.nodes)
    return guests + _CONTROL_PLANE_BYTES


def _check_space(folder: Path, topology: Topology) -> None:
    needed, free = needed_bytes(topology), disk.free_bytes(folder)
    if free < needed:
        raise StepError(
            f"golden cluster of {topology.name}: it needs {disk.mebibytes(needed)} in {folder.parent}, "
            f"found {disk.mebibytes(free)} free; see what can go: lab cache; or boot without one: lab up --cold"
        )


def identity(folder: Path) -> int | None:
    """Which golden cluster ``folder`` is: another number when it was made anew, None when it was set aside."""
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


def set_aside(folder: Path, which: int | None, error: StepError) -> Path | None:
    """Put a golden cluster that cannot be restored where nobody looks for it, with reason and logs; its new folder.

    None when ``folder`` is no longer the one of identity ``which``: another
    process that could not restore it, either, was quicker.
    """
    if which is None or identity(folder) != which:
        return None
    aside = folder.with_name(f"{folder.name}.failed-{int(time.time())}")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return None
    write_file(aside / "reason.txt", f"{error}\n")
    if error.log and error.log.is_dir():
        shutil.copytree(error.log, aside / "logs")
    return aside


def _build(
    topology: Topology, profile: Profile, prepare: Callable[[Cluster], None], base: Path | None = None
) -> Callable[[Path], None]:
    """How a golden cluster is made: one that boots, or is restored from ``base``, is prepared and saved."""

    def build(folder: Path) -> None:
        _check_space(folder, topology)
        write_file(folder / _TOPOLOGY, f"{topology.path.absolute()}\n")
        cluster = start(f"{RUN_PREFIX}golden-{os.getpid()}", topology, profile, "golden cluster", golden=base)
        try:
            # While the cluster's own disks are still there: they may be what fills this machine's.
            with explained_when_full(folder, "golden cluster"):
                prepare(cluster)
                with progress.step("cluster saved", cluster.log_dir):
                    cluster.save(folder)
        finally:
            cluster.release()

    return build
