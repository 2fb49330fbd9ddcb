"""Locations of the project and its cache."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[4]
"""Root of the checkout."""


def cache_root() -> Path:
    """Folder of all cached artifacts; created if missing."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    root = Path(base).absolute() / "mock-device"
    root.mkdir(parents=True, exist_ok=True)
    return root


def log_path(kind: str) -> Path:
    """Log file of the builds of ``kind``."""
    folder = cache_root() / "logs"
    folder.mkdir(exist_ok=True)
    return folder / f"{kind}.log"
