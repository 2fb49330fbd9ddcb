"""What the cache holds, and what of it no input leads to any more."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import topology as topologies

from lab import deploy, golden, images, kbuild, profile
from lab.artifacts import PROJECT, NotCachedError, cache_root, only_looking, remove_tree, try_lock
from lab.gobuild import build_containerd, build_embedded_k8s
from lab.node_image import build_node_image
from lab.qemu_root import ensure_qemu

_BLOCK_BYTES = 512
_NO_ARTIFACTS = {"clusters", "logs"}


@dataclass(frozen=True)
class Entry:
    """One artifact of the cache."""

    path: Path
    size: int
    """Bytes on disk."""
    age: float
    """Seconds since it was used."""
    current: bool
    """Whether today's inputs lead to it."""

    @property
    def kind(self) -> str:
        return self.path.parent.name


def entries() -> list[Entry]:
    """All artifacts, those of one kind together, the newest first."""
    wanted = _current()
    now = time.time()
    found = [Entry(path, disk_usage(path), now - path.stat().st_mtime, path in wanted) for path in _folders()]
    return sorted(found, key=lambda entry: (entry.kind, entry.age))


def prune() -> list[Entry]:
    """Remove what no input leads to any more, but nothing that is being built; what was removed."""
    removed = []
    for entry in entries():
        if entry.current:
            continue
        key = entry.path.name.partition(".")[0]
        with entry.path.with_name(f"{key}.lock").open("a+") as lock:
            if try_lock(lock):
                remove_tree(entry.path)
                removed.append(entry)
    return removed


def disk_usage(path: Path) -> int:
    """Bytes that a folder takes on disk; holes of sparse files do not count."""
    return sum(item.lstat().st_blocks * _BLOCK_BYTES for item in path.rglob("*"))


def _folders() -> Iterator[Path]:
    for kind in cache_root().iterdir():
        if kind.is_dir() and kind.name not in _NO_ARTIFACTS:
            yield from (path for path in kind.iterdir() if path.is_dir())


def _current() -> set[Path]:
    """Artifacts that today's inputs lead to: of all topologies and profiles of the project, built or not."""
    builds: list[Callable[[], object]] = [
        ensure_qemu,
        build_embedded_k8s,
        build_containerd,
        images.build_base_images,
        build_node_image,
        kbuild.check_module,
        deploy.kmod_image,
        images.driver_image,
    ]
    for file in [*PROJECT.glob("variables/topologies/*.yaml"), *PROJECT.glob("tests/data/topologies/*.yaml")]:
        for profile_file in PROJECT.glob("variables/*.yaml"):
            builds.append(_golden(file, profile_file))
    with only_looking() as asked_for:
        for build in builds:
            with contextlib.suppress(NotCachedError):
                build()
    return asked_for


def _golden(topology: Path, profile_file: Path) -> Callable[[], object]:
    return lambda: golden.with_driver(topologies.load(topology), profile.load(str(profile_file)))
