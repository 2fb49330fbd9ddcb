"""The CDI folder of a node, as seen by the node and by the node agent in its container."""

from __future__ import annotations

from dataclasses import dataclass

from mock_device.checks.nodes.cdi import FOLDER

PROBE = rf"""
f={FOLDER}
kind=absent; [ -e "$f" ] && kind=$(stat -L -c %F "$f")
access=; [ -r "$f" ] && access=r; [ -w "$f" ] && access=${{access}}w
mount=; mountpoint -q "$f" && mount=mounted
printf '%s\t%s\t%s\t%s\n' "$kind" "$([ -e "$f" ] && stat -L -c %d:%i "$f")" "$access" "$mount"
"""
AGENT_PROBE = f"""
import os, stat
f = {FOLDER!r}
try:
    found = os.stat(f)
except OSError:
    print("absent", "", "", "", sep="\\t")
else:
    kind = "directory" if stat.S_ISDIR(found.st_mode) else "no directory"
    access = "".join(letter for letter, bit in (("r", os.R_OK), ("w", os.W_OK)) if os.access(f, bit))
    print(kind, f"{{found.st_dev}}:{{found.st_ino}}", access, "", sep="\\t")
"""
_FIELDS = 4


@dataclass(frozen=True)
class Folder:
    """The folder of the CDI files, as one side sees it."""

    kind: str
    """``directory``, ``absent``, or another type of file as stat(1) prints it."""
    inode: str
    """``device:inode``, which shows whether two views are of the same folder."""
    readable: bool
    writable: bool
    """False also if its file system is mounted read-only."""
    mounted: bool = False
    """Whether something is mounted on it; only known for the node's view."""


def parse(node: str, output: str) -> Folder:
    """Parse the output of PROBE or AGENT_PROBE on ``node``. Raises ValueError."""
    fields = output.rstrip("\n").split("\t")
    if len(fields) != _FIELDS:
        raise ValueError(f"{node}: expected kind, inode, access and mount of {FOLDER}, found {output!r}")
    kind, inode, access, mount = fields
    return Folder(kind, inode, "r" in access, "w" in access, bool(mount))
