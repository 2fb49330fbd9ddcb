"""Golden clusters: booted once, saved without devices, then restored in seconds any number of times.

There are two tiers. The first has Ready nodes. The second, built from the first,
adds kernel module and driver, so that a change to the driver rebuilds only the
second. Each is a cached artifact whose key hashes all of its inputs.

Files of a golden cluster: ``NODE.ram`` (QEMU's mapped-ram migration format),
``NODE.qcow2`` (read-only base of the restored guests' disks), ``control-plane/etcd``
and ``pki``.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from mock_device.driver import current
from mock_device.driver.description import Driver
from mock_device.lab.base import disk, progress
from mock_device.lab.base.disk import explained_when_full
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.paths import PROJECT, cache_root
from mock_device.lab.build.gobuild import build_embedded_k8s
from mock_device.lab.build.qemu_build import ensure_qemu
from mock_device.lab.build.store import Input, cached
from mock_device.lab.cluster import deploy
from mock_device.lab.cluster.guest_cluster import GuestCluster, start
from mock_device.lab.cluster.launcher import RUN_PREFIX
from mock_device.lab.cluster.module_loader import POD_MANIFEST
from mock_device.lab.cluster.profile import Profile, flag
from mock_device.lab.guest.accelerator import emulated_vcpus, host_cpu
from mock_device.topology import Topology

_CODE = [PROJECT / "libraries/mock_device/lab" / package for package in ("controlplane", "guest", "supervisor")]
"""Packages whose code determines what a saved cluster contains and how it is restored."""
_TOPOLOGY = "topology.txt"
"""File in a golden cluster with the path of the topology file for which it was built."""

_GUEST_BYTES = 704 << 20
_GUEST_DISK_BYTES = 64 << 20
_CONTROL_PLANE_BYTES = 128 << 20
_IMAGE_FACTOR = 4


def shape(topology: Topology) -> str:
    """The parts of a topology that affect a cluster without devices, as JSON."""
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
        "profile": [
            profile.accelerator,
            flag(profile.feature_gates),
            flag(profile.runtime_config),
            profile.default_runtime,
            profile.kubelet_drop_in(),
            *_of_k3s(profile),
        ],
        "cpu": host_cpu(profile.accelerator, nested=profile.nested),
        # It affects the command line with which the guests' kernels boot.
        "vcpus": emulated_vcpus(len(topology.nodes)) if profile.accelerator == "tcg" else "",
        "qemu": ensure_qemu().version,
        "kubernetes": str(build_embedded_k8s()),
        "image": str(profile.node_image().disk),
        "code": _CODE,
        # The saved disks name the disks below them by absolute paths.
        "cache": os.fsencode(cache_root()),
    }
    build = _build(topology, profile, deploy.wait_nodes)
    return cached("golden-nodes", inputs, build, what="golden cluster: nodes Ready (booted once)")


def _of_k3s(profile: Profile) -> list[str]:
    """Settings of a control plane on a node; none for other profiles, whose keys they must not change."""
    return [json.dumps(asdict(profile.k3s.spec), sort_keys=True)] if profile.k3s else []


def with_driver(topology: Topology, profile: Profile) -> Path:
    """Folder of the golden cluster with kernel module and driver. Raises StepError."""
    loader = deploy.loader_of(profile)
    base = with_nodes(topology, profile)
    driver = current.driver()
    inputs: dict[str, Input] = {
        "base": str(base),
        "images": [str(deploy.kmod_image()), *map(str, deploy.built_archives(driver))],
        "manifests": [POD_MANIFEST, *driver.manifests, *driver.archives],
        **_of_chart(driver),
        **loader.inputs(),
    }
    install = partial(deploy.install_everything, loader=loader)
    build = _build(topology, profile, install, base, archives=loader.archives())
    return cached("golden-driver", inputs, build, what="golden cluster: kernel module and DRA driver deployed")


def _of_chart(driver: Driver) -> dict[str, Input]:
    """The driver's chart; nothing for other drivers, whose keys it must not change."""
    if not driver.chart:
        return {}
    values = json.dumps([driver.namespace, driver.chart.release, driver.chart.values], sort_keys=True)
    return {"chart": [driver.chart.path], "chart values": values}


def topology_files() -> set[Path]:
    """Topology files for which the cached golden clusters were built, as far as these files still exist."""
    recorded = cache_root().glob(f"golden-*/*/{_TOPOLOGY}")
    return {path for file in recorded if (path := Path(file.read_text().strip())).is_file()}


def needed_bytes(topology: Topology, archives: Sequence[Path] = ()) -> int:
    """Disk space that a golden cluster needs, in bytes: about a third more than was measured.

    A guest of 2 GiB saves 490 MiB of memory when its node is Ready, 670 MiB with
    module and driver. Its disk takes 50 MiB, the copy of etcd's data 65 MiB.
    Memory that a guest never wrote takes no space, but a guest with more memory
    caches more. Each byte of the ``archives`` of a module loader's images takes
    almost two bytes of a guest's disk, and as many of its memory.
    """
    guests = sum(min(node.memory, _GUEST_BYTES + node.memory // 16) + _GUEST_DISK_BYTES for node in topology.nodes)
    files = [file for path in archives for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    images = sum(file.stat().st_size for file in files) * _IMAGE_FACTOR * len(topology.nodes)
    return guests + images + _CONTROL_PLANE_BYTES


def _check_space(folder: Path, topology: Topology, archives: Sequence[Path] = ()) -> None:
    needed, free = needed_bytes(topology, archives), disk.free_bytes(folder)
    if free < needed:
        raise StepError(
            f"golden cluster of {topology.name}: it needs {disk.mebibytes(needed)} in {folder.parent}, "
            f"found {disk.mebibytes(free)} free; see what can be removed: lab cache; or boot without one: lab up --cold"
        )


def identity(folder: Path) -> int | None:
    """Identity of the golden cluster in ``folder``: changes when it is rebuilt; None if it is quarantined."""
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


def quarantine(folder: Path, which: int | None, error: StepError) -> Path | None:
    """Rename a golden cluster that cannot be restored, add reason and logs, and return its new folder.

    Returns None if ``folder`` no longer has the identity ``which``: another
    process failed to restore it, too, and has quarantined it already.
    """
    if which is None or identity(folder) != which:
        return None
    target = folder.with_name(f"{folder.name}.failed-{int(time.time())}")
    try:
        folder.rename(target)
    except FileNotFoundError:
        return None
    write_file(target / "reason.txt", f"{error}\n")
    if error.log and error.log.is_dir():
        shutil.copytree(error.log, target / "logs")
    return target


def _build(
    topology: Topology,
    profile: Profile,
    prepare: Callable[[GuestCluster], None],
    base: Path | None = None,
    archives: Sequence[Path] = (),
) -> Callable[[Path], None]:
    """Return the builder of a golden cluster: boot one, or restore it from ``base``; prepare it; save it.

    ``archives`` are those of the module loader's images, which need space.
    """

    def build(folder: Path) -> None:
        _check_space(folder, topology, archives)
        write_file(folder / _TOPOLOGY, f"{topology.path.absolute()}\n")
        # Saved clusters do not depend on the internet: it is outside of them.
        cluster = start(
            f"{RUN_PREFIX}golden-{os.getpid()}",
            topology,
            replace(profile, internet=False),
            "golden cluster",
            golden=base,
        )
        try:
            # Check for a full disk while the cluster's disks still exist: they may be what fills it.
            with explained_when_full(folder, "golden cluster"), cluster.failing_fast():
                prepare(cluster)
                with progress.step("cluster saved", cluster.log_dir):
                    cluster.save(folder)
        finally:
            cluster.release()

    return build
