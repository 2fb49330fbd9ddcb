"""Replace files atomically: after a crash a file has either its old or its new content."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
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


def link_atomically(path: Path, target: str) -> None:
    """Make ``path`` a symbolic link to ``target``. Raises OSError. The temporary name is as in ``write_atomically``."""
    _replace(path, lambda beside: beside.symlink_to(target))


def links_in(folder: Path) -> dict[str, str]:
    """Targets of the symbolic links in ``folder`` by name; empty targets for other files. Raises OSError."""
    return {path.name: str(path.readlink()) if path.is_symlink() else "" for path in folder.iterdir()}


def make_folder_of_links(folder: Path, links: Mapping[str, str], mode: int = 0o755) -> None:
    """Make ``folder`` contain the symbolic ``links``, by name with their targets, and nothing else. Raises OSError.

    A new folder appears with all its links. An existing one is corrected in place,
    link by link, because containers may have it mounted.
    """

    def make(beside: Path) -> None:
        beside.mkdir()
        beside.chmod(mode)  # mkdir obeys the umask
        for name, target in links.items():
            (beside / name).symlink_to(target)
        sync_folder(beside)

    if folder.is_symlink() or not folder.is_dir():
        _discard(folder)  # rename(2) does not replace a file by a folder
        _replace(folder, make)
        return
    found = links_in(folder)
    for name, target in links.items():
        if found.get(name) != target:
            link_atomically(folder / name, target)
    for name in found.keys() - links.keys():
        remove(folder / name)


def _replace(path: Path, make: Callable[[Path], None]) -> None:
    """Call ``make`` to write a new file beside ``path``, then rename it over ``path``. Raises OSError."""
    failpoints.hit()
    beside = path.with_name(f".{path.name}{_SUFFIX}")
    _discard(beside)
    try:
        make(beside)
        failpoints.hit()
        beside.rename(path)
    except OSError:
        _discard(beside)
        raise
    sync_folder(path.parent)
    failpoints.hit()


def remove_half_written(folder: Path, pattern: str) -> None:
    """Remove temporary files that killed writers left, for files whose names match ``pattern``."""
    for path in folder.glob(f".{pattern}{_SUFFIX}"):
        remove(path)


def remove(path: Path) -> bool:
    """Remove ``path``, a file or a folder, durably: it stays removed after a power cut. False if it did not exist."""
    failpoints.hit()
    if not _discard(path):
        return False
    sync_folder(path.parent)
    failpoints.hit()
    return True


def _discard(path: Path) -> bool:
    """Remove ``path``, a file or a folder; False if it did not exist."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return False
    return True


def sync_folder(folder: Path) -> None:
    """Sync ``folder`` so that new, renamed and removed names survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
