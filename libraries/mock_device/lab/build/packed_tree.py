"""Packs the folder of an artifact into one stream, and unpacks such a stream without trusting it.

The stream is a tar (GNU format) with folders, regular files and symbolic links, compressed by Zstandard (RFC 8878).
Names and links are relative to the artifact's folder and lead to nothing outside it. Owners are not recorded: all
files belong to the user who unpacks them, as to the user who builds.
"""

from __future__ import annotations

import os
import stat
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mock_device.lab.base.errors import StepError
from mock_device.lab.build.rootless import WORK

if sys.version_info >= (3, 14):
    from compression.zstd import CompressionParameter, ZstdError, ZstdFile
else:
    from backports.zstd import CompressionParameter, ZstdError, ZstdFile

ENTRY_BYTES = 4096
"""What an entry takes on a disk beside its content: an inode, and the rest of its last block."""
_LEVEL = 3
"""Smaller than by gzip in a quarter of its time; level 9 takes three times as long for a tenth less."""
_MOST_WORKERS = 4
"""Each takes tens of MiB."""
_CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = 64 << 10
"""Blocks of this size that are all zeros become holes."""
_ZEROS = bytes(_CHUNK_BYTES)
_BUFFERS: dict[str, Any] = {"bufsize": _CHUNK_BYTES, "copybufsize": _CHUNK_BYTES}
_LATEST = (1 << 32) - 1
"""Seconds of the latest time that a file gets."""
_LONGEST_NAME_BYTES = 8192
"""Longer than any path on Linux (PATH_MAX)."""
_TREE = "root"
"""Folder of an artifact that is a Debian tree: absolute links in it are relative to it."""
_LEFT_OUT = {
    # Modules are compiled there while others read the tree.
    f"{_TREE}/{WORK}",
    # Properties of the machine that built the tree.
    f"{_TREE}/etc/hostname",
    f"{_TREE}/etc/resolv.conf",
    f"{_TREE}/etc/apt/auth.conf.d",
    f"{_TREE}/etc/apt/sources.list",
    f"{_TREE}/etc/apt/sources.list.d",
    # An ordinary user may not read all of them.
    *(f"{_TREE}/etc/{name}" for name in ("shadow", "shadow-", "gshadow", "gshadow-")),
}
_FOLDER, _FILE, _LINK = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_ALLOWED = "folders, files and symbolic links"


@dataclass(frozen=True)
class Content:
    """How much an artifact holds."""

    size: int
    """Bytes of all files, with holes."""
    stored: int
    """Bytes of all files without blocks of zeros: what they take on a disk."""
    entries: int
    """Folders, files and links."""


class _Entry(tarfile.TarInfo):
    """Refuses all entries but the expected ones before any of their data is read into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Entry:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _LONG_NAMES:
            if info.size > _LONGEST_NAME_BYTES:
                raise StepError(f"a name of {info.size} bytes")
        elif info.type not in (_FOLDER, _FILE, _LINK):
            raise StepError(f"expected {_ALLOWED}, found {info.name!r} of type {info.type!r}")
        return info


def pack(folder: Path, target: IO[bytes]) -> Content:
    """Write the content of ``folder`` to ``target``; memory does not depend on its size.

    Device nodes and sockets are left out; a file with several names becomes several files. Raises StepError if a link
    leads out of the folder.
    """
    size = stored = entries = 0
    options: dict[int, int] = {
        CompressionParameter.compression_level: _LEVEL,
        # Without it, damage in content that was stored as it is would not be found here.
        CompressionParameter.checksum_flag: 1,
        CompressionParameter.nb_workers: min(len(os.sched_getaffinity(0)), _MOST_WORKERS),
    }
    with (
        ZstdFile(target, "w", options=options) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT, **_BUFFERS) as tar,
    ):
        for name in _names(folder, ""):
            path, info = folder / name, tarfile.TarInfo(name)
            status = path.lstat()
            info.mode, info.mtime = stat.S_IMODE(status.st_mode) & 0o777, int(status.st_mtime)
            if stat.S_ISREG(status.st_mode):
                with path.open("rb") as file:
                    info.size = os.fstat(file.fileno()).st_size
                    counting = _Counting(file)
                    tar.addfile(info, counting)  # type: ignore[arg-type] # it only reads
                size, stored = size + info.size, stored + counting.stored
            elif stat.S_ISLNK(status.st_mode):
                info.type, info.linkname = _LINK, _relative(name, str(path.readlink()))
                tar.addfile(info)
            else:
                info.type = _FOLDER
                tar.addfile(info)
            entries += 1
            # It would remember every entry.
            tar.members = []  # type: ignore[attr-defined] # documented, but not in typeshed
    return Content(size, stored, entries)


def _names(folder: Path, prefix: str) -> Iterator[str]:
    """Names of all entries that are packed, each folder before its content."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{prefix}{entry.name}"
        if name in _LEFT_OUT:
            continue
        if entry.is_symlink() or entry.is_file(follow_symlinks=False):
            yield name
        elif entry.is_dir(follow_symlinks=False):
            yield name
            yield from _names(Path(entry.path), f"{name}/")


def _relative(name: str, target: str) -> str:
    """Target of the link ``name``, relative to it. Raises StepError if it leads out of the artifact."""
    found = target
    if target.startswith("/") and name.startswith(f"{_TREE}/"):
        found = os.path.relpath(f"/{_TREE}{os.path.normpath(target)}", f"/{os.path.dirname(name)}")  # noqa: PTH120
    if not _stays_inside(name, found):
        raise StepError(f"link {name}: expected a target inside the artifact, found {target}")
    return found


def _stays_inside(name: str, target: str) -> bool:
    """Whether the link ``name`` leads to a place below the artifact's folder, wherever other such links lead.

    ``..`` may come first only: there it leaves real folders, not the target of a link.
    """
    parts = target.split("/")
    ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    return bool(target) and not target.startswith("/") and ".." not in parts[ups:] and ups <= name.count("/")


class _Counting:
    """A file that counts the bytes that are not in blocks of zeros."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.stored = 0

    def read(self, size: int) -> bytes:
        chunk = self._file.read(size)
        self.stored += sum(len(block) for _, block in _blocks(chunk))
        return chunk


def _blocks(chunk: bytes) -> Iterator[tuple[int, memoryview]]:
    """Blocks of ``chunk`` with other bytes than zeros, each with its offset."""
    if chunk == _ZEROS[: len(chunk)]:
        return
    view = memoryview(chunk)
    for offset in range(0, len(chunk), _BLOCK_BYTES):
        block = view[offset : offset + _BLOCK_BYTES]
        if block != _ZEROS[: len(block)]:
            yield offset, block


def unpack(source: IO[bytes], folder: Path, promised: Content) -> None:
    """Unpack a stream of ``pack`` into the empty ``folder``, which holds nothing else afterwards.

    Raises StepError if the stream is damaged, holds more or less than ``promised``, or holds anything but folders,
    files and symbolic links that stay inside ``folder``. Set-user-ID bits are not set.
    """
    with _explained(), ZstdFile(source) as packed:
        tar = tarfile.open(  # noqa: SIM115 - closing it would read on
            fileobj=packed, mode="r|", tarinfo=_Entry, encoding="utf-8", **_BUFFERS
        )
        unpacking = _Unpacking(folder, promised)
        for info in tar:
            unpacking.add(info, tar)
            tar.members = []  # type: ignore[attr-defined] # documented, but not in typeshed
    if unpacking.found != promised:
        raise StepError(f"expected {promised}, found {unpacking.found}")


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, ZstdError, EOFError, UnicodeError, ValueError) as error:
        raise StepError(f"it is damaged: {error}") from error
    except OSError as error:
        # Without a number: tarfile read fewer bytes than an entry promised.
        if error.errno is not None:
            raise
        raise StepError(f"it is damaged: {error}") from error


class _Unpacking:
    """Entries that were unpacked into a folder."""

    def __init__(self, folder: Path, promised: Content) -> None:
        self._folder = folder
        self._promised = promised
        self._folders = {""}
        self.found = Content(0, 0, 0)

    def add(self, info: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        """Make one entry. Raises StepError if it must not be there."""
        name, path = info.name, self._folder / info.name
        parent, _, last = name.rpartition("/")
        # All folders are made here, and none is ever replaced, so a name leads through no link.
        if last in ("", ".", "..") or parent not in self._folders or "\0" in name:
            raise StepError(f"{name!r}: expected a name in a folder that comes before it")
        self._count(info.size if info.isreg() else 0, 0, 1)
        mode = info.mode & 0o777
        try:
            if info.isdir():
                path.mkdir()
                path.chmod(mode | 0o700)
                self._folders.add(name)
            elif info.issym():
                if not _stays_inside(name, info.linkname):
                    raise StepError(f"link {name!r}: it leads out of the artifact, to {info.linkname!r}")
                path.symlink_to(info.linkname)
            else:
                with path.open("xb", buffering=0) as file:
                    self._write(file, info, tar)
                    os.fchmod(file.fileno(), mode | 0o400)
                    when = min(max(int(info.mtime), 0), _LATEST)
                    os.utime(file.fileno(), (when, when))
        except FileExistsError as error:
            raise StepError(f"{name!r} is there twice") from error

    def _write(self, file: Any, info: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        content = tar.extractfile(info)
        assert content, "it is a regular file"
        position = 0
        while chunk := content.read(_CHUNK_BYTES):
            for offset, block in _blocks(chunk):
                self._count(0, len(block), 0)
                if os.pwrite(file.fileno(), block, position + offset) != len(block):
                    raise StepError(f"{info.name!r}: the disk took only a part of a block")
            position += len(chunk)
        file.truncate(info.size)

    def _count(self, size: int, stored: int, entries: int) -> None:
        found, most = self.found, self._promised
        self.found = Content(found.size + size, found.stored + stored, found.entries + entries)
        if self.found.size > most.size or self.found.stored > most.stored or self.found.entries > most.entries:
            raise StepError(f"it holds more than it promises: {most.size} bytes in {most.entries} entries")
