"""The artifact store: builds each artifact once and caches it under a hash of its inputs.

Layout: ``$XDG_CACHE_HOME/mock-device/<kind>/<hash>/``; build logs in
``logs/<kind>.log`` beside the kinds. A build writes to a temporary folder, which
is renamed when the build is complete: a folder with its final name is complete.

An artifact has the same key wherever the cache is, so that it can serve another machine.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mock_device.lab.base import disk, progress
from mock_device.lab.base.disk import explained_when_full
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import remove_tree
from mock_device.lab.base.locks import locked
from mock_device.lab.base.paths import cache_root, log_path

Input = str | bytes | Path | Sequence["str | Path"]


class NotCachedError(StepError):
    """An artifact is not cached and must not be built inside ``only_looking``."""


# Global to the process: builders cache their artifacts and request each only once.
_requested: set[Path] = set()
_looking = False


@contextmanager
def only_looking() -> Iterator[set[Path]]:
    """Build nothing: a missing artifact raises NotCachedError. Yields the set of all requested artifacts."""
    global _looking  # noqa: PLW0603 - a process either looks or builds
    before, _looking = _looking, True
    try:
        yield _requested
    finally:
        _looking = before


def _hash_path(digest: hashlib._Hash, path: Path) -> None:
    if path.is_symlink():
        digest.update(b"link " + str(path.readlink()).encode())
    elif path.is_dir():
        digest.update(b"dir")
        for child in sorted(path.iterdir()):
            if child.name in {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}:
                continue
            digest.update(child.name.encode() + b"\0")
            _hash_path(digest, child)
    else:
        executable = b"x" if path.stat().st_mode & stat.S_IXUSR else b"-"
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(b"file" + executable + content)


def key_of(inputs: Mapping[str, Input]) -> str:
    """Hash (16 hex digits) of ``inputs``; a ``Path`` stands for the content of the file or folder.

    A text that is a path in the cache counts without the cache's folder.
    """
    digest = hashlib.sha256()
    here = f"{cache_root()}/"
    for name in sorted(inputs):
        value = inputs[name]
        digest.update(name.encode() + b"=")
        items: Sequence[str | bytes | Path] = [value] if isinstance(value, str | bytes | Path) else value
        for item in items:
            if isinstance(item, Path):
                _hash_path(digest, item)
            else:
                digest.update(item if isinstance(item, bytes) else item.removeprefix(here).encode())
            digest.update(b"\0")
    return digest.hexdigest()[:16]


def cached(kind: str, inputs: Mapping[str, Input], build: Callable[[Path], None], *, what: str) -> Path:
    """Return the folder of an artifact; call ``build(folder)`` first if it is not cached.

    ``what`` describes the work in progress output. Processes that need the same
    artifact at the same time build it once. A failed build leaves only its log.
    Raises DiskFullError if the disk is full, even if only the final sync reveals it.
    """
    final = cache_root() / kind / key_of(inputs)
    _requested.add(final)
    if final.is_dir():
        if not _looking:
            final.touch()
        return final
    if _looking:
        raise NotCachedError(f"{what}: not in the cache")
    _make(final, build, what, log_path(kind))
    return final


def add(kind: str, key: str, fill: Callable[[Path], None], *, what: str) -> bool:
    """Add an artifact that was built elsewhere: call ``fill(folder)`` if it is not cached, and return whether it was.

    As for a build, ``what`` describes the work, and if it fails nothing is left.
    """
    return _make(cache_root() / kind / key, fill, what, None)


@contextmanager
def reading(artifact: Path, what: str) -> Iterator[bool]:
    """Keep ``artifact`` from being removed or built meanwhile. Yields whether it is there, then complete."""
    with locked(_lock_of(artifact), what, shared=True):
        yield artifact.is_dir()


def _lock_of(artifact: Path) -> Path:
    return artifact.with_name(f"{artifact.name}.lock")


def _make(final: Path, build: Callable[[Path], None], what: str, log: Path | None) -> bool:
    """Fill the folder ``final`` by ``build``, unless another process has; whether this one did."""
    with locked(_lock_of(final), what):
        if final.is_dir():
            return False
        for stale in final.parent.glob(f"{final.name}.tmp*"):
            remove_tree(stale)
        partial = final.with_name(f"{final.name}.tmp{os.getpid()}")
        partial.mkdir()
        descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with progress.step(what, log), explained_when_full(partial, what):
                if log:
                    log.write_text("")
                build(partial)
                # fsync(2) of each file takes 13 s for QEMU's tree, syncfs(2) 0.4 s.
                disk.sync(descriptor)
            partial.rename(final)
        except BaseException:
            remove_tree(partial)
            raise
        finally:
            os.close(descriptor)
    return True
