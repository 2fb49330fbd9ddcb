"""Files that are either the old or the new one, whatever happens in between."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mock_accel_dra import faults

_SUFFIX = ".tmp"


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write ``text`` beside ``path``, sync it, and rename it over ``path``.

    The name in between starts with a dot and ends in ``.tmp``, so a reader of
    the folder that looks for ``*.json`` never sees it. Raises OSError; the
    folder is then as it was. Not to be called for the same file at the same time.
    """

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    _replace(path, write)


def link_atomically(path: Path, target: str) -> bool:
    """Make ``path`` a symbolic link that says ``target``; False when it does already. Raises OSError.

    The name in between is like that of ``write_atomically``.
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
    """Call ``make`` to write the new file beside ``path``, and rename that over ``path``. Raises OSError."""
    faults.point()
    beside = path.with_name(f".{path.name}{_SUFFIX}")
    try:
        make(beside)
        faults.point()
        beside.rename(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    faults.point()


def remove_half_written(folder: Path, pattern: str) -> None:
    """Remove what a ``write_atomically`` that was killed left of files whose names match ``pattern``."""
    for path in folder.glob(f".{pattern}{_SUFFIX}"):
        remove(path)


def remove(path: Path) -> bool:
    """Remove ``path``, for good also after a power cut; False when it was not there."""
    faults.point()
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_folder(path.parent)
    faults.point()
    return True


def sync_folder(folder: Path) -> None:
    """Make names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
