"""Make an initial RAM disk from a container image, so that the guest has the content of the loader's pod.

Format: "newc", Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
"""

from __future__ import annotations

import json
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

_TYPES = {tarfile.REGTYPE: stat.S_IFREG, tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK}

INIT = b"""#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/usr/local/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /tmp /lib
ln -s /opt/lib/firmware /lib/firmware
stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>&1
echo '@@0'
# Each line is a command; the answer is its output and a line @@EXIT-CODE.
# In a subshell: background jobs become children of process 1 when their parent ends, and busybox's
# read drops a partial line when a child ends.
(
	while read -r line; do
		(eval "$line") </dev/null 2>&1
		echo "@@$?"
	done
)
echo 'no more commands'
"""


def _entry(out: BinaryIO, name: str, mode: int, data: bytes = b"") -> None:
    encoded = name.encode() + b"\0"
    fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0]
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
    out.write(header + bytes(-len(header) % 4))
    out.write(data + bytes(-len(data) % 4))


def _layers(image: tarfile.TarFile) -> list[str]:
    manifest = image.extractfile("manifest.json")
    assert manifest is not None
    layers = json.load(manifest)[0]["Layers"]
    assert isinstance(layers, list)
    return layers


def write_initramfs(target: Path, archive: Path, more: Sequence[Path] = ()) -> None:
    """Write ``target`` with all files of the docker-archive ``archive``, and an init that runs commands from ttyS1.

    The files ``more`` are added to the root folder.
    """
    entries: dict[str, tuple[int, bytes]] = {"init": (stat.S_IFREG | 0o755, INIT)}
    entries |= {file.name: (stat.S_IFREG | 0o755, file.read_bytes()) for file in more}
    with tarfile.open(archive) as image:
        for layer in _layers(image):
            with tarfile.open(fileobj=image.extractfile(layer)) as files:
                for member in files:
                    data = member.linkname.encode() if member.issym() else b""
                    if member.isreg() or member.islnk():
                        content = files.extractfile(member)
                        data = content.read() if content else b""
                    kind = stat.S_IFREG if member.islnk() else _TYPES.get(member.type)
                    if kind is not None:
                        entries[member.name.strip("./") or "."] = (kind | member.mode, data)
    with target.open("wb") as out:
        # A folder must come before its content.
        for name in sorted(entries):
            _entry(out, name, *entries[name])
        _entry(out, "TRAILER!!!", 0)
