"""Interrupts of a mock accelerator. It raises none itself, but clients can set up, trigger and remove them."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from mock_accel_server import eventfds
from mock_accel_server.protocol import IrqFlag, IrqIndex, IrqSetFlag, RefusedError

_DATA = IrqSetFlag.DATA_NONE | IrqSetFlag.DATA_BOOL | IrqSetFlag.DATA_EVENTFD
_ACTION = IrqSetFlag.ACTION_MASK | IrqSetFlag.ACTION_UNMASK | IrqSetFlag.ACTION_TRIGGER
_FLAGS = int(_DATA | _ACTION)  # int, because ~ of an IntFlag drops unnamed bits


@dataclass(frozen=True)
class IrqInfo:
    """An interrupt type, for ``VFIO_USER_DEVICE_GET_IRQ_INFO``."""

    flags: IrqFlag
    count: int


IRQS = {
    # No interrupt pin, no MSI and no MSI-X capability in the configuration space.
    IrqIndex.INTX: IrqInfo(IrqFlag.EVENTFD | IrqFlag.MASKABLE | IrqFlag.AUTOMASKED, 0),
    IrqIndex.MSI: IrqInfo(IrqFlag.EVENTFD | IrqFlag.NORESIZE, 0),
    IrqIndex.MSIX: IrqInfo(IrqFlag.EVENTFD | IrqFlag.NORESIZE, 0),
    # Without ERR, QEMU warns that it cannot enable error recovery.
    IrqIndex.ERR: IrqInfo(IrqFlag.EVENTFD | IrqFlag.NORESIZE, 1),
    IrqIndex.REQ: IrqInfo(IrqFlag.EVENTFD | IrqFlag.NORESIZE, 1),
}


class IrqTable:
    """The eventfds of one connection, shared with the client. The server only signals and closes them."""

    def __init__(self) -> None:
        self._triggers: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self._triggers)

    def set(self, flags: int, index: int, start: int, count: int, data: bytes, fds: list[int]) -> None:
        """Execute ``VFIO_USER_DEVICE_SET_IRQS``; removes kept descriptors from ``fds``. Raises RefusedError."""
        kind, action = self._check(flags, index, start, count, data, fds)
        if kind == IrqSetFlag.DATA_EVENTFD:
            self._assign(index, start, count, fds)
        elif count == 0:
            self._drop(index)
        elif action == IrqSetFlag.ACTION_TRIGGER:
            for number in range(count):
                if kind == IrqSetFlag.DATA_NONE or data[number]:
                    self._trigger(index, start + number)

    def _check(
        self, flags: int, index: int, start: int, count: int, data: bytes, fds: list[int]
    ) -> tuple[IrqSetFlag, IrqSetFlag]:
        kind, action = IrqSetFlag(flags & _DATA), IrqSetFlag(flags & _ACTION)
        if flags & ~_FLAGS or kind.bit_count() != 1 or action.bit_count() != 1:
            raise RefusedError(f"interrupt flags {flags:#x}: expected one data and one action")
        if index not in IRQS:
            raise RefusedError(f"interrupt type {index} does not exist")
        info = IRQS[IrqIndex(index)]
        if action != IrqSetFlag.ACTION_TRIGGER and IrqFlag.MASKABLE not in info.flags:
            raise RefusedError(f"interrupt type {index} cannot be masked")
        if start + count > info.count:
            raise RefusedError(f"interrupt type {index} has {info.count}, asked for {count} from {start}")
        disable = kind == IrqSetFlag.DATA_NONE and action == IrqSetFlag.ACTION_TRIGGER and start == 0
        if count == 0 and not disable:
            raise RefusedError("count 0 is for disabling: no data, trigger, start 0")
        if len(data) != (count if kind == IrqSetFlag.DATA_BOOL else 0):
            raise RefusedError(f"{len(data)} bytes of data do not fit interrupt flags {flags:#x} and count {count}")
        if fds and (kind != IrqSetFlag.DATA_EVENTFD or len(fds) != count):
            raise RefusedError(f"{len(fds)} file descriptors do not fit interrupt flags {flags:#x} and count {count}")
        if not all(map(eventfds.is_eventfd, fds)):
            raise RefusedError("a file descriptor for an interrupt is not an eventfd")
        return kind, action

    def _assign(self, index: int, start: int, count: int, fds: list[int]) -> None:
        for number in range(start, start + count):
            old = self._triggers.pop((index, number), None)
            if old is not None:
                os.close(old)
            if fds:
                self._triggers[index, number] = fds.pop(0)

    def _trigger(self, index: int, number: int) -> None:
        fd = self._triggers.get((index, number))
        if fd is not None:
            try:
                eventfds.signal(fd)
            except OSError as error:
                number = error.errno or errno.EIO
                raise RefusedError(f"an interrupt cannot be signalled: {error.strerror}", number) from error

    def _drop(self, index: int) -> None:
        for key in [key for key in self._triggers if key[0] == index]:
            os.close(self._triggers.pop(key))

    def clear(self) -> None:
        """Close all eventfds."""
        for index in IRQS:
            self._drop(index)
