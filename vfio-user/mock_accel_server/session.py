"""The commands of one client. No sockets here: bytes and file descriptors in, bytes out."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mock_accel_server import protocol
from mock_accel_server.device import Device
from mock_accel_server.dma import DmaTable
from mock_accel_server.irqs import IRQS, IrqTable
from mock_accel_server.protocol import (
    Command,
    DeviceFlag,
    EndConnectionError,
    IrqIndex,
    RefusedError,
    RegionFlag,
    unpack,
    unpack_request,
)

_CAPABILITIES: dict[str, int | bool] = {
    "max_msg_fds": protocol.MAX_MSG_FDS,
    "max_data_xfer_size": protocol.MAX_DATA_XFER_SIZE,
    "max_dma_maps": protocol.MAX_DMA_MAPS,
    "pgsizes": protocol.PAGE_SIZE,
    "write_multiple": True,
}
_READ_WRITE = RegionFlag.READ | RegionFlag.WRITE

Handler = Callable[[bytes, list[int]], bytes]


class Session:
    """Negotiated state, DMA ranges and interrupts of one client; the device outlives it and has one at a time.

    A handler gets the payload of a command and returns that of the reply, or raises
    RefusedError. It removes the file descriptors that it keeps from the list; the
    caller closes the others.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.dma = DmaTable()
        self.irqs = IrqTable()
        self.negotiated = False
        self.reply_fds: list[int] = []
        """Descriptors to send with the reply; the device owns them."""
        self._handlers: dict[int, Handler] = {
            Command.VERSION: self._version,
            Command.DMA_MAP: self._dma_map,
            Command.DMA_UNMAP: self._dma_unmap,
            Command.DEVICE_GET_INFO: self._device_info,
            Command.DEVICE_GET_REGION_INFO: self._region_info,
            Command.DEVICE_GET_IRQ_INFO: self._irq_info,
            Command.DEVICE_SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._region_read,
            Command.REGION_WRITE: self._region_write,
            Command.DEVICE_RESET: self._reset,
        }
        with device.lock:
            device.attach(self.dma, self.irqs)
        self._takes_fds = {Command.DMA_MAP, Command.DEVICE_SET_IRQS}

    def handle(self, command: int, payload: bytes, fds: list[int]) -> bytes:
        """Execute ``command``. Raises RefusedError, or EndConnectionError if the connection must end."""
        if not self.negotiated and command != Command.VERSION:
            raise EndConnectionError(f"expected VERSION first, found command {command}")
        handler = self._handlers.get(command)
        if handler is None:
            raise RefusedError(f"command {command} is not supported", errno.EOPNOTSUPP)
        if fds and command not in self._takes_fds:
            raise RefusedError(f"command {command} takes no file descriptors, found {len(fds)}")
        with self.device.lock:
            return handler(payload, fds)

    def close(self) -> list[int]:
        """Remove the client's state; returns descriptors that another thread must close.

        Section "Client Disconnection": the device keeps its own state.
        """
        with self.device.lock:
            self.device.detach()
            self.irqs.clear()
            return self.dma.clear()

    def _version(self, payload: bytes, _fds: list[int]) -> bytes:
        """Section ``VFIO_USER_VERSION``. The reply has those proposed capabilities that are supported here."""
        if self.negotiated:
            raise RefusedError("expected VERSION only once")
        size = protocol.VERSION.size
        if len(payload) < size:
            raise EndConnectionError(f"VERSION has {len(payload)} bytes")
        major, minor = protocol.VERSION.unpack(payload[:size])
        if major != protocol.MAJOR_VERSION:
            raise EndConnectionError(f"expected major version {protocol.MAJOR_VERSION}, found {major}")
        answer = protocol.VERSION.pack(major, min(minor, protocol.MINOR_VERSION))
        if len(payload) > size:
            proposed = _capabilities(payload[size:])
            agreed = {name: value for name, value in _CAPABILITIES.items() if proposed.get(name, False) is not False}
            answer += json.dumps({"capabilities": agreed}).encode() + b"\0"
            if "write_multiple" in agreed:
                self._handlers[Command.REGION_WRITE_MULTI] = self._region_write_multi
        self.negotiated = True
        return answer

    def _dma_map(self, payload: bytes, fds: list[int]) -> bytes:
        argsz, flags, offset, address, size = unpack(protocol.DMA_MAP, payload)
        _check_request_argsz(argsz, payload)
        self.dma.add(address, size, flags, offset, fds)
        return b""

    def _dma_unmap(self, payload: bytes, fds: list[int]) -> bytes:
        """The caller closes files that no range needs any more, before the reply."""
        argsz, flags, address, size = unpack(protocol.DMA_UNMAP, payload)
        _check_argsz(argsz, protocol.DMA_UNMAP.size)
        if flags == protocol.DMA_UNMAP_ALL:
            if address or size:
                raise RefusedError(f"expected address and size 0 to unmap all, found {size:#x} bytes from {address:#x}")
            released = self.dma.clear()
        elif flags:
            raise RefusedError(f"unknown DMA unmap flags {flags:#x}")
        else:
            released = self.dma.remove(address, size)
        self.device.settle()
        fds += released
        return payload

    def _device_info(self, payload: bytes, _fds: list[int]) -> bytes:
        argsz, *others = unpack_request(protocol.DEVICE_INFO, payload)
        _check_argsz(argsz, protocol.DEVICE_INFO.size)
        _check_zero(others)
        flags = DeviceFlag.RESET | DeviceFlag.PCI
        return protocol.DEVICE_INFO.pack(protocol.DEVICE_INFO.size, flags, protocol.REGION_COUNT, len(IRQS))

    def _region_info(self, payload: bytes, _fds: list[int]) -> bytes:
        argsz, flags, index, *others = unpack_request(protocol.REGION_INFO, payload)
        _check_argsz(argsz, protocol.REGION_INFO.size)
        _check_zero([flags, *others])
        if index >= protocol.REGION_COUNT:
            raise RefusedError(f"region {index} does not exist")
        size = self.device.region_size(index)
        flags = _READ_WRITE if size else RegionFlag(0)
        mapping = self.device.mapping(index)
        if mapping is None:
            return protocol.REGION_INFO.pack(protocol.REGION_INFO.size, flags, index, 0, size, 0)
        flags |= RegionFlag.MMAP
        needed = protocol.REGION_INFO.size + protocol.SPARSE_MMAP.size
        if argsz < needed:  # the client asks again; QEMU refuses the flag CAPS without a capability
            return protocol.REGION_INFO.pack(needed, flags, index, 0, size, 0)
        flags |= RegionFlag.CAPS
        self.reply_fds.append(mapping)
        head = protocol.SPARSE_MMAP_ID, protocol.SPARSE_MMAP_VERSION
        return protocol.REGION_INFO.pack(
            needed, flags, index, protocol.REGION_INFO.size, size, 0
        ) + protocol.SPARSE_MMAP.pack(*head, 0, 1, 0, 0, size)

    def _irq_info(self, payload: bytes, _fds: list[int]) -> bytes:
        argsz, flags, index, count = unpack_request(protocol.IRQ_INFO, payload)
        _check_argsz(argsz, protocol.IRQ_INFO.size)
        _check_zero([flags, count])
        if index not in IRQS:
            raise RefusedError(f"interrupt type {index} does not exist")
        info = IRQS[IrqIndex(index)]
        return protocol.IRQ_INFO.pack(protocol.IRQ_INFO.size, info.flags, index, info.count)

    def _set_irqs(self, payload: bytes, fds: list[int]) -> bytes:
        fixed = protocol.IRQ_SET.size
        argsz, flags, index, start, count = unpack(protocol.IRQ_SET, payload[:fixed])
        _check_request_argsz(argsz, payload)
        self.irqs.set(flags, index, start, count, payload[fixed:], fds)
        return b""

    def _region_read(self, payload: bytes, _fds: list[int]) -> bytes:
        offset, region, count = unpack(protocol.REGION_ACCESS, payload)
        if count > protocol.MAX_DATA_XFER_SIZE:
            raise RefusedError(f"expected a read of at most {protocol.MAX_DATA_XFER_SIZE} bytes, found {count}")
        return payload + self.device.read(region, offset, count)

    def _region_write(self, payload: bytes, _fds: list[int]) -> bytes:
        fixed = protocol.REGION_ACCESS.size
        offset, region, count = unpack(protocol.REGION_ACCESS, payload[:fixed])
        if len(payload) - fixed != count:
            raise RefusedError(f"write of {count} bytes has {len(payload) - fixed}")
        self.device.write(region, offset, payload[fixed:])
        return payload[:fixed]

    def _region_write_multi(self, payload: bytes, _fds: list[int]) -> bytes:
        """Section ``VFIO_USER_REGION_WRITE_MULTI``; writes nothing if one of the writes is invalid."""
        fixed, each = protocol.WRITE_COUNT.size, protocol.SINGLE_WRITE.size
        (number,) = unpack(protocol.WRITE_COUNT, payload[:fixed])
        if number * each != len(payload) - fixed:
            raise RefusedError(f"{number} writes have {len(payload) - fixed} bytes")
        # No list of all writes: it would hold Python's global lock until it is complete.
        writes = partial(protocol.SINGLE_WRITE.iter_unpack, payload[fixed:])
        for offset, region, count, data in writes():
            if count > len(data):
                raise RefusedError(f"expected a write of at most {len(data)} bytes, found {count}")
            self.device.check(region, offset, count)
        for offset, region, count, data in writes():
            self.device.write(region, offset, data[:count])
        return protocol.WRITE_COUNT.pack(number)

    def _reset(self, payload: bytes, _fds: list[int]) -> bytes:
        if payload:
            raise RefusedError(f"DEVICE_RESET has {len(payload)} bytes after the header")
        self.device.reset()
        return b""


def _check_argsz(argsz: int, needed: int) -> None:
    """Section "Message sizes". Replies here have no variable part."""
    if argsz < needed:
        raise RefusedError(f"argsz {argsz}, needs {needed}")


def _check_request_argsz(argsz: int, payload: bytes) -> None:
    """Sections ``VFIO_USER_DMA_MAP`` and ``VFIO_USER_DEVICE_SET_IRQS``: argsz is the size of the request."""
    if argsz != len(payload):
        raise RefusedError(f"argsz {argsz} in a request of {len(payload)} bytes")


def _check_zero(fields: Sequence[int]) -> None:
    """Sections ``VFIO_USER_DEVICE_GET_*INFO``: all fields except argsz and index must be zero."""
    if any(fields):
        raise RefusedError(f"fields that must be zero are {', '.join(map(hex, fields))}")


def _capabilities(data: bytes) -> dict[str, Any]:
    """The capabilities in the JSON of VERSION. Raises EndConnectionError."""
    if not data.endswith(b"\0"):
        raise EndConnectionError("expected a NUL at the end of VERSION's JSON")
    try:
        document = json.loads(data[:-1].decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise EndConnectionError(f"VERSION has invalid JSON: {error}") from error
    capabilities = document.get("capabilities", {}) if isinstance(document, dict) else None
    if not isinstance(capabilities, dict):
        raise EndConnectionError("expected an object with an object 'capabilities' as VERSION's JSON")
    for name, ours in _CAPABILITIES.items():
        theirs = capabilities.get(name, ours)
        if not (isinstance(theirs, bool) if isinstance(ours, bool) else _is_count(theirs)):
            raise EndConnectionError(f"capability {name} cannot be {theirs!r}")
    return capabilities


def _is_count(value: object) -> bool:
    """Whether ``value`` is a non-negative integer; JSON has one number type: 8, 8.0 and 0.8e1 are equal."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value >= 0 and (isinstance(value, int) or value.is_integer())


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
