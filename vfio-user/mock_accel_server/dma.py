"""Ranges of guest memory that the client maps for the device."""

from __future__ import annotations

import errno
from array import array
from bisect import bisect_left, bisect_right

from mock_accel_server import protocol
from mock_accel_server.mappable import check_mappable
from mock_accel_server.protocol import DmaFlag, RefusedError

_FLAGS = int(DmaFlag.READABLE | DmaFlag.WRITEABLE)  # int, because ~ of an IntFlag drops unnamed bits


class DmaTable:
    """The ranges of one connection, sorted by address.

    The device transfers no data, so a file is checked and not kept: the server holds
    none of the client's memory after an unmap or after the client's death.
    """

    def __init__(self) -> None:
        self._addresses = array("Q")
        self._sizes = array("Q")

    def __len__(self) -> int:
        return len(self._addresses)

    def add(self, address: int, size: int, flags: int, offset: int, fds: list[int]) -> None:
        """Add a range. Raises RefusedError."""
        if flags & ~_FLAGS:
            raise RefusedError(f"unknown DMA map flags {flags:#x}")
        if len(fds) > 1:
            raise RefusedError(f"expected at most one file descriptor with a DMA map, found {len(fds)}")
        if size == 0 or address + size > 1 << 64 or (address | size) % protocol.PAGE_SIZE:
            raise RefusedError(f"no range of pages: {size:#x} bytes from {address:#x}")
        index = bisect_right(self._addresses, address)
        if (index and self._addresses[index - 1] + self._sizes[index - 1] > address) or (
            index < len(self) and self._addresses[index] < address + size
        ):
            raise RefusedError(f"{size:#x} bytes from {address:#x} are mapped already", errno.EEXIST)
        if len(self) >= protocol.MAX_DMA_MAPS:
            raise RefusedError(f"more than {protocol.MAX_DMA_MAPS} DMA maps", errno.ENOSPC)
        if fds:
            check_mappable(fds[0], offset, size, flags)
        elif offset:
            raise RefusedError(f"offset {offset:#x} in a file, without a file descriptor")
        self._addresses.insert(index, address)
        self._sizes.insert(index, size)

    def remove(self, address: int, size: int) -> None:
        """Remove the range that was added with exactly these values. Raises RefusedError."""
        index = bisect_left(self._addresses, address)
        if index == len(self) or (self._addresses[index], self._sizes[index]) != (address, size):
            raise RefusedError(f"{size:#x} bytes from {address:#x} were never mapped", errno.ENOENT)
        del self._addresses[index], self._sizes[index]

    def clear(self) -> None:
        """Remove all ranges."""
        del self._addresses[:], self._sizes[:]
