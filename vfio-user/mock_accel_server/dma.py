"""Ranges of guest memory that the client maps for the device, and the files behind them."""

from __future__ import annotations

import errno
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from mock_accel_server import protocol
from mock_accel_server.guest_files import GuestFiles
from mock_accel_server.mappable import check_mappable
from mock_accel_server.protocol import DmaFlag, RefusedError

_FLAGS = int(DmaFlag.READABLE | DmaFlag.WRITEABLE)  # int, because ~ of an IntFlag drops unnamed bits
_NO_FILE = 0


@dataclass(frozen=True)
class Extent:
    """Bytes of a file."""

    fd: int
    offset: int
    length: int


class DmaTable:
    """The ranges of one connection, sorted by address.

    A range without a file, or with a file that jobs cannot use, is known but has faults.
    Callers hold the device's lock.
    """

    def __init__(self) -> None:
        self._addresses = array("Q")
        self._sizes = array("Q")
        self._offsets = array("Q")
        self._flags = array("B")
        self._keys = array("H")
        """Numbers of files in ``_files``; ``_NO_FILE`` for none."""
        self._files = GuestFiles()
        self.changes = 0
        """Number of removals: what was resolved before the last one may be gone."""

    def __len__(self) -> int:
        return len(self._addresses)

    def add(self, address: int, size: int, flags: int, offset: int, fds: list[int]) -> None:
        """Add a range. Raises RefusedError. The caller keeps ``fds``."""
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
        key = _NO_FILE
        if fds:
            check_mappable(fds[0], offset, size, flags)
            key = self._files.use(fds[0], bool(flags & DmaFlag.WRITEABLE))
        elif offset:
            raise RefusedError(f"offset {offset:#x} in a file, without a file descriptor")
        self._addresses.insert(index, address)
        self._sizes.insert(index, size)
        self._offsets.insert(index, offset)
        self._flags.insert(index, flags)
        self._keys.insert(index, key)

    def remove(self, address: int, size: int) -> list[int]:
        """Remove the range that was added with exactly these values; returns descriptors to close.

        Raises RefusedError.
        """
        index = bisect_left(self._addresses, address)
        if index == len(self) or (self._addresses[index], self._sizes[index]) != (address, size):
            raise RefusedError(f"{size:#x} bytes from {address:#x} were never mapped", errno.ENOENT)
        key = self._keys[index]
        for column in (self._addresses, self._sizes, self._offsets, self._flags, self._keys):
            del column[index]
        self.changes += 1
        return self._files.release(key) if key else []

    def clear(self) -> list[int]:
        """Remove all ranges; returns descriptors to close."""
        for column in (self._addresses, self._sizes, self._offsets, self._flags, self._keys):
            del column[:]
        self.changes += 1
        return self._files.clear()

    def resolve(self, address: int, length: int, access: DmaFlag) -> list[Extent] | None:
        """Where ``length`` bytes from ``address`` are; None if a byte has no such ``access``."""
        extents: list[Extent] = []
        end = address + length
        while address < end:
            index = bisect_right(self._addresses, address) - 1
            if index < 0:
                return None
            within = address - self._addresses[index]
            key = self._keys[index]
            if within >= self._sizes[index] or not key or self._flags[index] & access != access:
                return None
            count = min(self._sizes[index] - within, end - address)
            extents.append(Extent(self._files.fd(key), self._offsets[index] + within, count))
            address += count
        return extents
