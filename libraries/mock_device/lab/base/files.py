"""Write files atomically, and remove folders whatever their permissions are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def write_file(path: Path, data: str | bytes, mode: int = 0o644) -> None:
    """Write ``path`` atomically: write a file beside it, sync it, rename it over ``path``."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_tree(path: Path) -> None:
    """Remove a folder, even if it contains folders without permissions (Go's module cache, overlayfs)."""
    path.chmod(0o700)
    for folder, folders, _ in os.walk(path):
        for child in folders:
            if not Path(folder, child).is_symlink():
                Path(folder, child).chmod(0o700)
    shutil.rmtree(path)
