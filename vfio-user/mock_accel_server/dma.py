"""Guest memory that the client lets the device reach."""

from __future__ import annotations

import errno
import os
from bisect import bisect_right, insort
from dataclasses import dataclass

from mock_accel_server import protocol
from mock_accel_server.protocol import DmaFlag, RefusedError

_FLAGS = int(DmaFlag.READABLE | DmaFlag.WRITEABLE)  # int: ~ of an IntFlag keeps to bits that have names


@dataclass(frozen=True)
class Mapping:
    """One range of guest memory."""

    address: int
    size: int
    flags: DmaFlag
    offset: int
    """Where the range starts in the file."""
    fd: int | None
    """None: reachable only by messages to the client."""


class DmaTable:
    """The ranges of one connection. The device copies no data, so nothing is ever mapped into this process."""

    def __init__(self) -> None:
        self._mappings: dict[int, Mapping] = {}
        self._addresses: list[int] = []

    def __len__(self) -> int:
        return len(self._mappings)

    def add(self, address: int, size: int, flags: int, offset: int, fds: list[int]) -> None:
        """Add a range; takes the file descriptor out of ``fds``. Raises RefusedError."""
        if flags & ~_FLAGS:
            raise RefusedError(f"unknown DMA map flags {flags:#x}")
        if len(fds) > 1:
            raise RefusedError(f"expected at most one file descriptor with a DMA map, found {len(fds)}")
        if size == 0 or address + size > 1 << 64 or (address | size) % protocol.PAGE_SIZE:
            raise RefusedError(f"no range of pages: {size:#x} bytes from {address:#x}")
        if len(self._mappings) >= protocol.MAX_DMA_MAPS:
            raise RefusedError(f"more than {protocol.MAX_DMA_MAPS} DMA maps", errno.ENOSPC)
        index = bisect_right(self._addresses, address)
        before = self._mappings[self._addresses[index - 1]] if index else None
        if (before and before.address + before.size > address) or (
            index < len(self._addresses) and self._addresses[index] < address + size
        ):
            raise RefusedError(f"{size:#x} bytes from {address:#x} are mapped already", errno.EEXIST)
        insort(self._addresses, address)
        self._mappings[address] = Mapping(address, size, DmaFlag(flags), offset, fds.pop() if fds else None)

    def remove(self, address: int, size: int) -> None:
        """Forget the range that was added with exactly these values. Raises RefusedError."""
        found = self._mappings.get(address)
        if found is None or found.size != size:
            raise RefusedError(f"{size:#x} bytes from {address:#x} were never mapped", errno.ENOENT)
        del self._mappings[address]
        self._addresses.remove(address)
        if found.fd is not None:
            os.close(found.fd)

    def clear(self) -> None:
        """Forget all ranges."""
        for mapping in list(self._mappings.values()):
            self.remove(mapping.address, mapping.size)
