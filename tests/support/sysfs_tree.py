"""Parts of the sysfs of nodes, recorded from a cluster of the default topology: ``tests/support/data/sysfs``.

A line is ``file``, path and content (``|`` for a line end), or ``link``, path and target.
"""

from __future__ import annotations

from pathlib import Path

_RECORDS = Path(__file__).with_name("data") / "sysfs"


def make_tree(record: str, folder: Path) -> Path:
    """The tree of ``record`` below ``folder``; returns what stands for ``/sys``."""
    for line in (_RECORDS / f"{record}.txt").read_text().splitlines():
        kind, path, content = line.split("\t")
        place = folder / path.removeprefix("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            place.symlink_to(content)
        else:
            place.write_text(content.replace("|", "\n"))
    return folder / "sys"
