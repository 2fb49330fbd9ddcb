"""Interrupts of a mock accelerator: clients set up eventfds for them, the device signals these."""

from __future__ import annotations

import errno
import logging
import os
import threading
from dataclasses import dataclass

from mock_accel_server import eventfds
from mock_accel_server.protocol import IrqFlag, IrqIndex, IrqSetFlag, RefusedError

_DATA = IrqSetFlag.DATA_NONE | IrqSetFlag.DATA_BOOL | IrqSetFlag.DATA_EVENTFD
_ACTION = IrqSetFlag.ACTION_MASK | IrqSetFlag.ACTION_UNMASK | IrqSetFlag.ACTION_TRIGGER
_FLAGS = int(_DATA | _ACTION)  # int, because ~ of an IntFlag drops unnamed bits

VECTORS = 2
"""MSI vectors. Not MSI-X: QEMU 10.1 to 11.1 aborts when a vfio-user device with MSI-X is unplugged."""
COMPLETION_VECTOR = 0
EVENT_VECTOR = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IrqInfo:
    """An interrupt type, for ``VFIO_USER_DEVICE_GET_IRQ_INFO``."""

    flags: IrqFlag
    count: int


IRQS = {
    # No interrupt pin and no MSI-X capability in the configuration space.
    IrqIndex.INTX: IrqInfo(IrqFlag.EVENTFD | IrqFlag.MASKABLE | IrqFlag.AUTOMASKED, 0),
    IrqIndex.MSI: IrqInfo(IrqFlag.EVENTFD, VECTORS),
    IrqIndex.MSIX: IrqInfo(IrqFlag.EVENTFD | IrqFlag.NORESIZE, 0),
    # Without ERR, QEMU warns that it cannot enable error recovery.
    IrqIndex.ERR: IrqInfo(IrqFlag.EVENTFD | IrqFlag.NORESIZE, 1),
    IrqIndex.REQ: IrqInfo(IrqFlag.EVENTFD | IrqFlag.NORESIZE, 1),
}


class IrqTable:
    """The eventfds of one connection, shared with the client. The server only signals and closes them.

    Its lock is held for moments only, because signalling does not block. Masking is up
    to the client, a machine emulator for example: it changes the eventfd of a vector.
    """

    def __init__(self) -> None:
        self._triggers: dict[tuple[int, int], int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._triggers)

    def set(self, flags: int, index: int, start: int, count: int, data: bytes, fds: list[int]) -> None:
        """Execute ``VFIO_USER_DEVICE_SET_IRQS``; removes kept descriptors from ``fds``. Raises RefusedError."""
        kind, action = self._check(flags, index, start, count, data, fds)
        with self._lock:
            if kind == IrqSetFlag.DATA_EVENTFD:
                self._assign(index, start, count, fds)
            elif count == 0:
                self._drop(index)
            elif action == IrqSetFlag.ACTION_TRIGGER:
                for number in range(count):
                    if kind == IrqSetFlag.DATA_NONE or data[number]:
                        self._trigger(index, start + number)

    def signal(self, index: IrqIndex, number: int) -> None:
        """Raise an interrupt of the device; lost if the client has set up none. From any thread.

        A vector that the guest has not enabled is raised as vector 0.
        """
        with self._lock:
            if (index, number) not in self._triggers:
                number = 0
            try:
                self._trigger(index, number)
            except RefusedError as error:
                log.debug("interrupt %s %d: %s", index.name, number, error)

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
        with self._lock:
            for index in IRQS:
                self._drop(index)
