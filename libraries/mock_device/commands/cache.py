"""List cached artifacts and find stale ones."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mock_device import topology as topologies
from mock_device.commands import overview
from mock_device.lab.base.files import remove_tree
from mock_device.lab.base.locks import try_lock
from mock_device.lab.base.paths import cache_root
from mock_device.lab.base.spec import ClusterPaths, ClusterSpec, DamagedFileError
from mock_device.lab.base.variables import profile_names, topology_names, topology_path
from mock_device.lab.build import images, kbuild, kubernetes_e2e, tools_program
from mock_device.lab.build.gobuild import (
    build_containerd,
    build_embedded_k8s,
    build_go_driver,
    build_helm,
    build_registry,
)
from mock_device.lab.build.k3s_image import NoBinaryError
from mock_device.lab.build.node_image import build_node_image
from mock_device.lab.build.outer_guest import build_outer_guest
from mock_device.lab.build.qemu_build import ensure_qemu
from mock_device.lab.build.store import NotCachedError, only_looking
from mock_device.lab.cluster import deploy, golden, inventory, kvm, profile
from mock_device.lab.cluster.kvm import NoKvmError
from mock_device.lab.cluster.loader_settings import LoaderKind
from mock_device.lab.cluster.operator_files import MissingFilesError
from mock_device.topology import TopologyError

_BLOCK_BYTES = 512
_NOT_ARTIFACTS = {"attached", "clusters", "logs"}


@dataclass(frozen=True)
class Entry:
    """One artifact of the cache."""

    path: Path
    size: int
    """Bytes on disk."""
    age: float
    """Seconds since the last use."""
    needed_by: list[str]
    """``inputs`` if it is built from the current inputs, ``cluster NAME`` for each user, ``a build`` in progress."""

    @property
    def kind(self) -> str:
        return self.path.parent.name

    def as_dict(self) -> dict[str, Any]:
        """Fields for JSON."""
        return {**asdict(self), "kind": self.kind}


def entries() -> list[Entry]:
    """All artifacts, grouped by kind, the most recently used first."""
    users: dict[Path, list[str]] = {}
    for path in _current():
        users.setdefault(path, []).append("inputs")
    for name in overview.running():
        for path in used_by(name):
            users.setdefault(path, []).append(f"cluster {name}")
    now = time.time()
    found = []
    for path in _folders():
        with contextlib.suppress(FileNotFoundError):
            busy = [] if path in users or not _locked(path) else ["a build"]
            age = now - path.stat().st_mtime
            found.append(Entry(path, disk_usage(path), age, users.get(path, busy)))
    return sorted(found, key=lambda entry: (entry.kind, entry.age))


def prune(*, dry_run: bool = False) -> list[Entry]:
    """Remove stale artifacts and return them; with ``dry_run`` only return them."""
    removed = []
    for entry in entries():
        if entry.needed_by:
            continue
        if dry_run:
            removed.append(entry)
            continue
        with _lock_of(entry.path).open("a+") as lock:
            # A cluster may have started from it since the check.
            if try_lock(lock) and not any(entry.path in used_by(name) for name in overview.running()):
                # Rename first: a partly removed folder must not look like a complete artifact.
                grave = Path(tempfile.mkdtemp(prefix=f"{entry.path.name}.tmp", dir=entry.path.parent))
                remove_tree(entry.path.rename(grave))
                removed.append(entry)
    return removed


def used_by(name: str) -> set[Path]:
    """Artifacts that the running cluster ``name`` uses, with the bases of its disks.

    Every cache path in the cluster's spec counts, also inside an argument.
    """
    try:
        spec = str(ClusterSpec.load(ClusterPaths.of(name).spec))
    except DamagedFileError as error:
        # No spec: the cluster has ended or uses nothing yet. A damaged spec: it may use anything.
        return set() if isinstance(error.__cause__, FileNotFoundError) else set(_folders())
    names = re.findall(rf"{re.escape(str(cache_root()))}/([\w.-]+/[\w.-]+)", spec)
    used: set[Path] = set()
    waiting = [path for path in map(cache_root().joinpath, names) if path.parent.name not in _NOT_ARTIFACTS]
    while waiting:
        if (path := waiting.pop()) not in used:
            used.add(path)
            bases = [base for disk in path.glob("*.qcow2") if (base := backing_file(disk))]
            waiting += [base.parent for base in bases if base.is_relative_to(cache_root())]
    return used


def backing_file(disk: Path) -> Path | None:
    """Backing file of a qcow2 disk; None for a disk without one and for other formats.

    Format: QEMU's docs/interop/qcow2.txt, section Header.
    """
    with disk.open("rb") as file:
        magic, _, offset, size = struct.unpack(">4sIQI", file.read(20).ljust(20, b"\0"))
        if magic != b"QFI\xfb" or not offset:
            return None
        file.seek(offset)
        return disk.parent / os.fsdecode(file.read(size))


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name.partition('.')[0]}.lock")


def _locked(path: Path) -> bool:
    """Whether a process is building this artifact."""
    try:
        with _lock_of(path).open() as lock:
            return not try_lock(lock)
    except FileNotFoundError:
        return False


def disk_usage(path: Path) -> int:
    """Bytes that a folder occupies on disk, without the holes of sparse files."""
    total = 0
    for item in path.rglob("*"):
        # A running build may remove files.
        with contextlib.suppress(FileNotFoundError):
            total += item.lstat().st_blocks * _BLOCK_BYTES
    return total


def _folders() -> Iterator[Path]:
    for kind in cache_root().iterdir():
        if kind.is_dir() and kind.name not in _NOT_ARTIFACTS:
            yield from (path for path in kind.iterdir() if path.is_dir())


def current_builds() -> set[Path]:
    """Artifacts that are built from the current inputs, with all profiles; golden clusters are not built.

    Keys depend on artifacts: those of some are known only when others are cached.
    """
    builds: list[Callable[[], object]] = [
        ensure_qemu,
        build_embedded_k8s,
        build_containerd,
        build_registry,
        build_helm,
        images.build_base_images,
        build_node_image,
        *kbuild.CHECKS.values(),
        kbuild.build_test_modules,
        deploy.kmod_image,
        images.driver_image,
        lambda: images.tools_image(tools_program.program()),
        *(partial(_node_image, name) for name in _profiles_for_guests()),
    ]
    return _requested_by(builds)


def _go_driver_image() -> Path:
    return images.go_driver_image(build_go_driver())


def _current() -> set[Path]:
    """Artifacts of the current inputs: every profile with each topology of the project and of a golden cluster."""
    goldens: list[Callable[[], object]] = []
    for file in {*map(topology_path, topology_names()), *golden.topology_files()}:
        goldens += [partial(_golden, file, name, loader) for name in _profiles_for_guests() for loader in LoaderKind]
    # What `make test-kvm` and `make kubernetes-e2e` need, and the example in Go, are not exported: most machines do not
    # need them.
    return current_builds() | _requested_by(
        [*goldens, build_outer_guest, kubernetes_e2e.build_images, _go_driver_image]
    )


def _requested_by(builds: Iterable[Callable[[], object]]) -> set[Path]:
    with only_looking() as asked_for:
        for build in builds:
            # Files of a module loader, and k3s, are the user's, who may not have them any more.
            with contextlib.suppress(NotCachedError, MissingFilesError, NoBinaryError, NoKvmError, TopologyError):
                build()
    return set(asked_for)


def _profiles_for_guests() -> list[str]:
    return [name for name in profile_names() if profile.read(name)[1]["kind"] != inventory.KIND]


def _node_image(profile_name: str) -> None:
    profile.load(profile_name).node_image()


def _golden(topology: Path, profile_name: str, loader: LoaderKind) -> None:
    chosen = replace(kvm.with_working_accelerator(profile.load(profile_name)), module_loader=loader)
    golden.with_driver(topologies.load(topology), chosen)
