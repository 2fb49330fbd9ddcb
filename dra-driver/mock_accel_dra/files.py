"""Replace files atomically: after a crash a file has either its old or its new content."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mock_accel_dra import failpoints

_SUFFIX = ".tmp"


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write ``text`` beside ``path``, sync it, and rename it over ``path``.

    The temporary name starts with a dot and ends in ``.tmp``, so a reader that
    looks for ``*.json`` never sees it. Raises OSError and leaves the folder as it
    was. Concurrent calls for the same file are not allowed.
    """

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    _replace(path, write)


def link_atomically(path: Path, target: str) -> bool:
    """Make ``path`` a symbolic link to ``target``; False if it already is one. Raises OSError.

    The temporary name is as in ``write_atomically``.
    """
    try:
        if path.is_symlink() and str(path.readlink()) == target:
            return False
    except FileNotFoundError:
        pass

    def link(beside: Path) -> None:
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)

    _replace(path, link)
    return True


def _replace(path: Path, make: Callable[[Path], None]) -> None:
    """Call ``make`` to write a new file beside ``path``, then rename it over ``path``. Raises OSError."""
    failpoints.hit()
    beside = path.with_name(f".{path.name}{_SUFFIX}")
    try:
        make(beside)
        failpoints.hit()
        beside.rename(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    failpoints.hit()


def remove_half_written(folder: Path, pattern: str) -> None:
    """Remove temporary files that killed writers left, for files whose names match ``pattern``."""
    for path in folder.glob(f".{pattern}{_SUFFIX}"):
        remove(path)


def remove(path: Path) -> bool:
    """Remove ``path`` durably: it stays removed after a power cut. False if it did not exist."""
    failpoints.hit()
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_folder(path.parent)
    failpoints.hit()
    return True


def sync_folder(folder: Path) -> None:
    """Sync ``folder`` so that new, renamed and removed names survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
