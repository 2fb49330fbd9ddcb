"""One client of one device: takes requests apart, answers them, keeps what belongs to the client."""

from __future__ import annotations

import array
import contextlib
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from errno import EEXIST, EINVAL, ENOENT, ENOSPC, ENOTSUP

from mock_accel_server import protocol
from mock_accel_server.device import IRQ_COUNT, REGION_COUNT, Device
from mock_accel_server.protocol import Command, ConnectionEndError, Message, RequestError

_RECEIVE_BYTES = 1 << 16
_DESCRIPTOR_BYTES = array.array("i").itemsize
_MAX_MAPPINGS = 65535
"""As VFIO's own limit (``dma_entry_limit`` of vfio_iommu_type1)."""
_U64_END = 1 << 64
_log = logging.getLogger(__name__)


class Connection:
    """A connected client. Its mappings, interrupts and descriptors end with it; the device's registers stay."""

    def __init__(self, name: str, device: Device, client: socket.socket) -> None:
        self._name = name
        self._device = device
        self._socket = client
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()
        self._negotiated = False
        self._mappings: dict[int, tuple[int, int | None]] = {}
        self._eventfds: dict[tuple[int, int], int] = {}
        self._handlers: dict[int, Callable[[bytes], bytes]] = {
            Command.DMA_MAP: self._dma_map,
            Command.DMA_UNMAP: self._dma_unmap,
            Command.DEVICE_GET_INFO: self._device_info,
            Command.DEVICE_GET_REGION_INFO: self._region_info,
            Command.DEVICE_GET_REGION_IO_FDS: self._region_io_fds,
            Command.DEVICE_GET_IRQ_INFO: self._irq_info,
            Command.DEVICE_SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._region_read,
            Command.REGION_WRITE: self._region_write,
            Command.REGION_WRITE_MULTI: self._region_write_multi,
            Command.DEVICE_RESET: self._reset,
        }

    def receive(self) -> bool:
        """Take what has come and answer it; False when the connection is over."""
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                _RECEIVE_BYTES, socket.CMSG_SPACE(protocol.MAX_FDS * _DESCRIPTOR_BYTES)
            )
            self._take_descriptors(ancillary)
            if flags & socket.MSG_CTRUNC:
                raise ConnectionEndError(f"more than {protocol.MAX_FDS} descriptors in a message")
            if not data:
                if self._buffer:
                    _log.warning("%s: client left in the middle of a message", self._name)
                return False
            self._buffer += data
            while message := protocol.take_message(self._buffer):
                self._answer(message)
            if not self._buffer:
                self._drop_descriptors()
        except BlockingIOError:
            return self._blocked()
        except (ConnectionEndError, OSError) as error:
            _log.warning("%s: connection ended: %s", self._name, error)
            return False
        return True

    def _blocked(self) -> bool:
        """A client that does not read its replies is not waited for."""
        _log.warning("%s: connection ended: the client does not read its replies", self._name)
        return False

    def close(self) -> None:
        """End the connection and everything that belongs to it."""
        self._drop_descriptors()
        for _, descriptor in self._mappings.values():
            if descriptor is not None:
                os.close(descriptor)
        self._mappings.clear()
        self._drop_eventfds(range(IRQ_COUNT))
        self._socket.close()

    def _take_descriptors(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors = array.array("i")
                descriptors.frombytes(data[: len(data) - len(data) % _DESCRIPTOR_BYTES])
                self._descriptors.extend(descriptors)
        if len(self._descriptors) > protocol.MAX_FDS:
            raise ConnectionEndError(f"{len(self._descriptors)} descriptors that no message asked for")

    def _drop_descriptors(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _answer(self, message: Message) -> None:
        try:
            payload = self._handle(message)
        except RequestError as error:
            _log.warning("%s: command %d refused: %s", self._name, message.command, error)
            if message.wants_reply:
                self._socket.sendall(protocol.error_reply(message, error.errno))
            if not self._negotiated:
                raise ConnectionEndError("no version was agreed on") from error
            return
        if message.wants_reply:
            self._socket.sendall(protocol.reply(message, payload))

    def _handle(self, message: Message) -> bytes:
        _log.debug("%s: command %d, %d bytes", self._name, message.command, len(message.payload))
        if message.command == Command.VERSION:
            if self._negotiated:
                raise RequestError(EINVAL, "version was agreed on already")
            capabilities = protocol.parse_version(message.payload)
            self._negotiated = True
            _log.info("%s: client connected, capabilities %s", self._name, capabilities)
            return protocol.version_payload()
        if not self._negotiated:
            raise RequestError(EINVAL, "expected VERSION first")
        handler = self._handlers.get(message.command)
        if handler is None:
            raise RequestError(ENOTSUP, "no such command")
        return handler(message.payload)

    def _dma_map(self, payload: bytes) -> bytes:
        _, flags, _, address, size = protocol.unpack(protocol.DMA_MAP, payload)
        if flags & ~protocol.DMA_FLAG_ALL or size == 0 or address + size > _U64_END:
            raise RequestError(EINVAL, f"mapping of {size} bytes at {address:#x}, flags {flags:#x}")
        if address in self._mappings:
            raise RequestError(EEXIST, f"{address:#x} is mapped already")
        if len(self._mappings) >= _MAX_MAPPINGS:
            raise RequestError(ENOSPC, f"{_MAX_MAPPINGS} mappings are the most")
        descriptor = self._descriptors.popleft() if self._descriptors else None
        self._mappings[address] = (size, descriptor)
        return b""

    def _dma_unmap(self, payload: bytes) -> bytes:
        _, flags, address, size = protocol.unpack(protocol.DMA_UNMAP, payload)
        if flags == protocol.UNMAP_FLAG_ALL:
            addresses = list(self._mappings)
        elif flags:
            raise RequestError(ENOTSUP, f"unmap flags {flags:#x}")
        else:
            addresses = [start for start in self._mappings if address <= start < address + size]
            if any(start + self._mappings[start][0] > address + size for start in addresses):
                raise RequestError(EINVAL, "a mapping cannot be unmapped in part")
            if not addresses:
                raise RequestError(ENOENT, f"nothing is mapped at {address:#x}")
        for start in addresses:
            _, descriptor = self._mappings.pop(start)
            if descriptor is not None:
                os.close(descriptor)
        return payload

    def _device_info(self, payload: bytes) -> bytes:
        protocol.unpack(protocol.DEVICE_INFO, payload)
        flags = protocol.DEVICE_FLAG_RESET | protocol.DEVICE_FLAG_PCI
        return protocol.DEVICE_INFO.pack(protocol.DEVICE_INFO.size, flags, REGION_COUNT, IRQ_COUNT)

    def _region_info(self, payload: bytes) -> bytes:
        _, _, index, *_ = protocol.unpack(protocol.REGION_INFO, payload)
        size = self._device.region_bytes(index)
        flags = protocol.REGION_FLAG_READ | protocol.REGION_FLAG_WRITE if size else 0
        return protocol.REGION_INFO.pack(protocol.REGION_INFO.size, flags, index, 0, size, 0)

    def _region_io_fds(self, payload: bytes) -> bytes:
        raise RequestError(ENOTSUP, f"no ioeventfds ({len(payload)} bytes of request)")

    def _irq_info(self, payload: bytes) -> bytes:
        _, _, index, _ = protocol.unpack(protocol.IRQ_INFO, payload)
        count = self._device.irq_count(index)
        flags = protocol.IRQ_FLAG_EVENTFD | protocol.IRQ_FLAG_NORESIZE if count else 0
        return protocol.IRQ_INFO.pack(protocol.IRQ_INFO.size, flags, index, count)

    def _set_irqs(self, payload: bytes) -> bytes:
        """Section "VFIO_USER_DEVICE_SET_IRQS"."""
        _, flags, index, start, count = protocol.unpack(protocol.IRQ_SET, payload, more=True)
        data = payload[protocol.IRQ_SET.size :]
        kind = flags & (protocol.IRQ_DATA_NONE | protocol.IRQ_DATA_BOOL | protocol.IRQ_DATA_EVENTFD)
        action = flags & ~kind
        if kind.bit_count() != 1 or action not in (
            protocol.IRQ_ACTION_MASK,
            protocol.IRQ_ACTION_UNMASK,
            protocol.IRQ_ACTION_TRIGGER,
        ):
            raise RequestError(EINVAL, f"IRQ flags {flags:#x}: expected one kind of data and one action")
        available = self._device.irq_count(index)
        if start + count > available:
            raise RequestError(EINVAL, f"IRQs {start} to {start + count} of type {index}, which has {available}")
        if len(data) != (count if kind == protocol.IRQ_DATA_BOOL else 0):
            raise RequestError(EINVAL, f"{len(data)} bytes of IRQ data for {count} IRQs")
        if action == protocol.IRQ_ACTION_TRIGGER:
            self._trigger(kind, index, range(start, start + count), data)
        return b""

    def _trigger(self, kind: int, index: int, numbers: range, data: bytes) -> None:
        """Set up, tear down or signal interrupts; those that cannot be masked ignore the other actions."""
        if kind == protocol.IRQ_DATA_EVENTFD:
            if len(self._descriptors) > len(numbers):
                raise RequestError(EINVAL, f"{len(self._descriptors)} descriptors for {len(numbers)} IRQs")
            self._drop_eventfds([index])
            for number in numbers:
                if self._descriptors:
                    self._eventfds[index, number] = self._descriptors.popleft()
        elif kind == protocol.IRQ_DATA_NONE and not numbers:
            self._drop_eventfds([index])
        else:
            for position, number in enumerate(numbers):
                signalled = kind == protocol.IRQ_DATA_NONE or data[position]
                if signalled and (descriptor := self._eventfds.get((index, number))) is not None:
                    with contextlib.suppress(OSError):
                        os.write(descriptor, struct.pack("<Q", 1))

    def _drop_eventfds(self, indices: range | list[int]) -> None:
        for key in [key for key in self._eventfds if key[0] in indices]:
            os.close(self._eventfds.pop(key))

    def _region_read(self, payload: bytes) -> bytes:
        offset, region, count = protocol.unpack(protocol.REGION_ACCESS, payload)
        return payload + self._device.read(region, offset, count)

    def _region_write(self, payload: bytes) -> bytes:
        offset, region, count = protocol.unpack(protocol.REGION_ACCESS, payload, more=True)
        data = payload[protocol.REGION_ACCESS.size :]
        if len(data) != count:
            raise RequestError(EINVAL, f"{len(data)} bytes of data, {count} announced")
        self._device.write(region, offset, data)
        return protocol.REGION_ACCESS.pack(offset, region, count)

    def _region_write_multi(self, payload: bytes) -> bytes:
        """Section "VFIO_USER_REGION_WRITE_MULTI": up to 16 writes of at most 8 bytes."""
        (count,) = protocol.unpack(protocol.WRITE_MULTI, payload, more=True)
        entry = protocol.REGION_ACCESS.size + protocol.WRITE_MULTI_DATA
        if not 0 < count <= protocol.MAX_WRITE_MULTI or len(payload) != protocol.WRITE_MULTI.size + count * entry:
            raise RequestError(EINVAL, f"{count} writes in {len(payload)} bytes")
        for position in range(protocol.WRITE_MULTI.size, len(payload), entry):
            offset, region, length = protocol.REGION_ACCESS.unpack_from(payload, position)
            data = payload[position + protocol.REGION_ACCESS.size :][:length]
            if length > protocol.WRITE_MULTI_DATA:
                raise RequestError(EINVAL, f"a write of {length} bytes, expected at most {protocol.WRITE_MULTI_DATA}")
            self._device.write(region, offset, data)
        return protocol.WRITE_MULTI.pack(count)

    def _reset(self, payload: bytes) -> bytes:
        if payload:
            raise RequestError(EINVAL, f"a reset has no payload, found {len(payload)} bytes")
        self._device.reset()
        return b""
