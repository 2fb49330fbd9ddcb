"""Files of DMA maps: a file that cannot be mapped is refused at once, as by mmap(2)."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from mock_accel_server import protocol
from mock_accel_server.mappable import check_mappable
from mock_accel_server.protocol import Command, RefusedError
from running_server import Connect
from vfio_user_client import Refused

PAGE = protocol.PAGE_SIZE
READ, READ_WRITE = 1, 3

Opener = Callable[[Path], int]


def pipe(_folder: Path) -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def memfd(size: int, seals: int = 0) -> Opener:
    def opened(_folder: Path) -> int:
        fd = os.memfd_create("ram", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return fd

    return opened


def file(flags: int) -> Opener:
    def opened(folder: Path) -> int:
        path = folder / "ram"
        path.write_bytes(bytes(PAGE))
        return os.open(path, flags)

    return opened


def device(name: str) -> Opener:
    return lambda _folder: os.open(f"/dev/{name}", os.O_RDWR)


REFUSED: dict[str, tuple[Opener, int, int, int]] = {
    # opener, offset, flags, errno
    "socket": (lambda _: socket.socket(socket.AF_UNIX).detach(), 0, READ, errno.EINVAL),
    "pipe": (pipe, 0, READ_WRITE, errno.EINVAL),
    "eventfd": (lambda _: os.eventfd(0), 0, READ, errno.EINVAL),
    "folder": (lambda folder: os.open(folder, os.O_RDONLY), 0, READ, errno.EINVAL),
    "/dev/null": (device("null"), 0, READ_WRITE, errno.EINVAL),
    "path only": (file(os.O_PATH), 0, READ, errno.EINVAL),
    "empty": (memfd(0), 0, READ, errno.EINVAL),
    "offset at the end": (memfd(PAGE), PAGE, READ, errno.EINVAL),
    "offset past the end": (memfd(PAGE), 1 << 40, READ, errno.EINVAL),
    "highest offset": (memfd(PAGE), (1 << 64) - PAGE, READ, errno.EINVAL),
    "offset within a page": (memfd(2 * PAGE), 1, READ, errno.EINVAL),
    "read-only": (file(os.O_RDONLY), 0, READ_WRITE, errno.EACCES),
    "write-only": (file(os.O_WRONLY), 0, READ, errno.EACCES),
    "sealed": (memfd(PAGE, fcntl.F_SEAL_WRITE), 0, READ_WRITE, errno.EACCES),
}


@pytest.mark.parametrize(("opener", "offset", "flags", "number"), REFUSED.values(), ids=REFUSED)
def test_file_that_cannot_be_mapped_is_refused(
    connect: Connect, tmp_path: Path, opener: Opener, offset: int, flags: int, number: int
) -> None:
    client = connect()
    fd = opener(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    try:
        with pytest.raises(Refused) as caught:
            client.call(Command.DMA_MAP, protocol.DMA_MAP.pack(32, flags, offset, 0, PAGE), [fd])
        assert caught.value.number == number
        # The server closes the file before its next reply.
        client.call(Command.DMA_MAP, protocol.DMA_MAP.pack(32, flags, 0, 0, PAGE))
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("opener", "offset", "size", "flags"),
    [
        (memfd(4 * PAGE), PAGE, 3 * PAGE, READ_WRITE),
        (memfd(PAGE + 1), PAGE, PAGE, READ_WRITE),
        (memfd(PAGE, fcntl.F_SEAL_WRITE), 0, PAGE, READ),
        (file(os.O_RDONLY), 0, PAGE, READ),
        (file(os.O_RDWR), 0, PAGE, READ_WRITE),
    ],
)
def test_file_that_can_be_mapped_is_accepted(
    tmp_path: Path, opener: Opener, offset: int, size: int, flags: int
) -> None:
    fd = opener(tmp_path)
    try:
        check_mappable(fd, offset, size, flags)
        with pytest.raises(RefusedError):
            check_mappable(fd, offset, size + PAGE, flags)
    finally:
        os.close(fd)


def test_offset_without_a_file_is_refused(connect: Connect) -> None:
    """Section ``VFIO_USER_DMA_MAP``: the offset is zero if the region is not mappable."""
    with pytest.raises(Refused) as caught:
        connect().call(Command.DMA_MAP, protocol.DMA_MAP.pack(32, READ, PAGE, 0, PAGE))
    assert caught.value.number == errno.EINVAL
