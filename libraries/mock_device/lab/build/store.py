"""Artifacts: built once, kept in the cache under a hash of everything that goes into them.

Layout: ``$XDG_CACHE_HOME/mock-device/<kind>/<hash>/``; logs of builds in
``logs/<kind>.log`` beside the kinds. A build runs in a folder of its own and is
renamed when it is complete, so a folder with its final name is whole.
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
    """An artifact that would have to be built, while ``only_looking``."""


# Of the whole process: builders remember their artifacts, and ask for them once only.
_asked_for: set[Path] = set()
_looking = False


@contextmanager
def only_looking() -> Iterator[set[Path]]:
    """Build nothing: what is not cached raises NotCachedError. Gives the set of all artifacts that are asked for."""
    global _looking  # noqa: PLW0603 - one process looks or builds
    _looking = True
    try:
        yield _asked_for
    finally:
        _looking = False


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
    """Hash (16 hex digits) of ``inputs``; a ``Path`` counts by its content, files and folders."""
    digest = hashlib.sha256()
    for name in sorted(inputs):
        value = inputs[name]
        digest.update(name.encode() + b"=")
        items: Sequence[str | bytes | Path] = [value] if isinstance(value, str | bytes | Path) else value
        for item in items:
            if isinstance(item, Path):
                _hash_path(digest, item)
            else:
                digest.update(item if isinstance(item, bytes) else item.encode())
            digest.update(b"\0")
    return digest.hexdigest()[:16]


def cached(kind: str, inputs: Mapping[str, Input], build: Callable[[Path], None], *, what: str) -> Path:
    """Return the folder of an artifact, after ``build(folder)`` if it is not there yet.

    ``what`` names the work for people. Two processes that need the same artifact
    build it once. Whatever ``build`` raises leaves nothing behind but the log.
    Raises DiskFullError when the disk is full, also if that shows only when it is synced.
    """
    final = cache_root() / kind / key_of(inputs)
    _asked_for.add(final)
    if final.is_dir():
        if not _looking:
            final.touch()
        return final
    if _looking:
        raise NotCachedError(f"{what}: not in the cache")
    with locked(cache_root() / kind / f"{final.name}.lock", what):
        if final.is_dir():
            return final
        for stale in final.parent.glob(f"{final.name}.tmp*"):
            remove_tree(stale)
        partial = final.with_name(f"{final.name}.tmp{os.getpid()}")
        partial.mkdir()
        descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with progress.step(what, log_path(kind)), explained_when_full(partial, what):
                log_path(kind).write_text("")
                build(partial)
                # Not fsync(2) of each file: that takes 13 s for QEMU's tree, this 0.4 s.
                disk.sync(descriptor)
            partial.rename(final)
        except BaseException:
            remove_tree(partial)
            raise
        finally:
            os.close(descriptor)
    return final
