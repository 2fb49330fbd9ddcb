"""The CDI folder of a node, as the node sees it and as the node agent does in its container."""

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
    """A place where CDI files should be."""

    kind: str
    """``directory``, ``absent``, or what else is there in the words of stat(1)."""
    inode: str
    """``device:inode``, by which two views are known to be of the same folder."""
    readable: bool
    writable: bool
    """Also that its file system is not mounted read-only."""
    mounted: bool = False
    """Something is mounted on it, as the node sees it."""


def parse(node: str, output: str) -> Folder:
    """What PROBE or AGENT_PROBE printed. Raises ValueError."""
    fields = output.rstrip("\n").split("\t")
    if len(fields) != _FIELDS:
        raise ValueError(f"{node}: expected kind, inode, access and mount of {FOLDER}, found {output!r}")
    kind, inode, access, mount = fields
    return Folder(kind, inode, "r" in access, "w" in access, bool(mount))
