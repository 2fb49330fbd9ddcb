"""A mock accelerator: its regions and its reset; independent of sockets and messages."""

from __future__ import annotations

import threading
from typing import Protocol

from mock_accel_server.config_space import ConfigSpace
from mock_accel_server.protocol import RefusedError, RegionIndex
from mock_accel_server.registers import Identity, Registers


class _Region(Protocol):
    SIZE: int

    def read(self, offset: int, count: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...


class Device:
    """State that outlives connections."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.lock = threading.RLock()
        """Held while a message is handled, and by other threads for moments, never while guest memory is accessed."""
        self.registers = Registers(identity)
        self.config = ConfigSpace(identity, self.reset)
        self._regions: dict[int, _Region] = {RegionIndex.BAR0: self.registers, RegionIndex.CONFIG: self.config}

    def region_size(self, index: int) -> int:
        """Size in bytes; 0 for a region that does not exist."""
        region = self._regions.get(index)
        return region.SIZE if region else 0

    def check(self, index: int, offset: int, count: int) -> _Region:
        """The region, if it contains the whole range. Raises RefusedError."""
        region = self._regions.get(index)
        if region is None:
            raise RefusedError(f"region {index} does not exist")
        if offset + count > region.SIZE:
            raise RefusedError(f"region {index} has {region.SIZE} bytes, asked for {count} from {offset:#x}")
        return region

    def read(self, index: int, offset: int, count: int) -> bytes:
        """``count`` bytes of region ``index``. Raises RefusedError."""
        return self.check(index, offset, count).read(offset, count)

    def write(self, index: int, offset: int, data: bytes) -> None:
        """Write to region ``index``. Raises RefusedError."""
        self.check(index, offset, len(data)).write(offset, data)

    def reset(self) -> None:
        """Set the status to free and restore the configuration space after power on."""
        self.registers.reset()
        self.config.reset()
