"""Export of what was built on this machine to a file, and import of such a file into this machine's cache.

Golden clusters are not exported: they fit one kind of CPU only, and hold private keys
(docs/decisions/0029-builds-travel-in-a-file.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mock_device.commands import cache
from mock_device.lab.base import disk, progress
from mock_device.lab.base.disk import mebibytes
from mock_device.lab.base.errors import DiskFullError, StepError
from mock_device.lab.base.paths import cache_root
from mock_device.lab.build import cache_file, store
from mock_device.lab.build.cache_file import CacheFile, Packed

_GOLDEN = "golden-"


@dataclass(frozen=True)
class Exported:
    """What an export has written."""

    file: Path
    size: int
    """Bytes of the file."""
    artifacts: list[Packed]
    missing: list[str]
    """Artifacts (``KIND/KEY``) of the current sources that are not built here."""


@dataclass(frozen=True)
class Imported:
    """What an import has done. All artifacts are named ``KIND/KEY``."""

    file: Path
    added: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Artifacts that were cached before."""
    skipped: list[str] = field(default_factory=list)
    """Artifacts that the current sources do not need."""
    missing: list[str] = field(default_factory=list)
    """Artifacts of the current sources that are still not cached, as far as their keys are known yet."""


def export_to(file: Path) -> Exported:
    """Write all cached artifacts of the current sources to ``file``. Raises StepError if there are none."""
    current = _current()
    complete = [artifact for artifact in current if artifact.is_dir()]
    if not complete:
        raise StepError("nothing to export: no artifact of the current sources is in the cache; build them: lab build")
    manifest = cache_file.write(file, complete)
    written = {artifact.name for artifact in manifest.artifacts}
    missing = [name for name in map(_name, current) if name not in written]
    return Exported(file, file.stat().st_size, manifest.artifacts, missing)


def import_from(file: Path) -> Imported:
    """Add the artifacts of ``file`` that the current sources need and that are not cached.

    All checksums are compared before the first artifact is added. Each artifact appears whole; those that were added
    before an error or Ctrl-C stay. Raises StepError.
    """
    done = Imported(file)
    with cache_file.opened(file) as opened:
        with progress.step(f"checksums of {file.name}"):
            opened.check()
        waiting = {artifact.name: artifact for artifact in opened.manifest.artifacts}
        # An added artifact can make the keys of others known. Each round takes some artifacts from those that wait.
        while ready := [waiting.pop(name) for name in map(_name, _current()) if name in waiting]:
            new = [artifact for artifact in ready if not (cache_root() / artifact.name).is_dir()]
            _check_space(new)
            for artifact in ready:
                (done.added if _add(opened, artifact) else done.kept).append(artifact.name)
    done.skipped.extend(waiting)
    done.missing.extend(_name(artifact) for artifact in _current() if not artifact.is_dir())
    return done


def _current() -> list[Path]:
    return sorted(path for path in cache.current_builds() if not path.parent.name.startswith(_GOLDEN))


def _name(artifact: Path) -> str:
    return f"{artifact.parent.name}/{artifact.name}"


def _add(opened: CacheFile, artifact: Packed) -> bool:
    what = f"unpack {artifact.kind} ({mebibytes(artifact.content.stored)})"
    return store.add(artifact.kind, artifact.key, partial(opened.unpack, artifact), what=what)


def _check_space(artifacts: Iterable[Packed]) -> None:
    """Raise DiskFullError if the cache's file system has no room for ``artifacts``."""
    wanted = list(artifacts)
    needed, free = sum(artifact.needed_bytes for artifact in wanted), disk.free_bytes(cache_root())
    if needed > free:
        raise DiskFullError(
            f"import: it needs {mebibytes(needed)} in {cache_root()}, found {mebibytes(free)} free; "
            "see what can be removed: lab cache"
        )
    entries, status = sum(artifact.content.entries for artifact in wanted), os.statvfs(cache_root())
    # Some file systems (btrfs) have no fixed number of inodes and report 0.
    if status.f_files and entries > status.f_favail:
        raise DiskFullError(f"import: it needs {entries} inodes in {cache_root()}, found {status.f_favail} free")
