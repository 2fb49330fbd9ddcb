"""A small vfio-user client for tests."""

from __future__ import annotations

import array
import json
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from mock_accel_server import protocol
from mock_accel_server.protocol import Command, RegionIndex

QEMU_CAPABILITIES = {
    "max_msg_fds": 16,
    "max_data_xfer_size": 1 << 20,
    "max_dma_maps": 65535,
    "pgsizes": 4096,
    "write_multiple": True,
    "migration": {"pgsize": 4096, "max_bitmap_size": 1 << 28},
}
_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Reply:
    """A parsed reply message."""

    message_id: int
    command: int
    flags: int
    error: int
    payload: bytes


class Refused(Exception):
    """An error reply."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def version(capabilities: object = QEMU_CAPABILITIES, major: int = 0, minor: int = 0) -> bytes:
    """The payload of VERSION."""
    return struct.pack("=HH", major, minor) + json.dumps({"capabilities": capabilities}).encode() + b"\0"


def irq_set(flags: int, index: int, start: int, count: int, data: bytes = b"") -> bytes:
    """The payload of DEVICE_SET_IRQS."""
    return protocol.IRQ_SET.pack(protocol.IRQ_SET.size + len(data), flags, index, start, count) + data


class Client:
    """A blocking client; every wait has a time limit."""

    def __init__(self, path: Path, *, negotiate: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(_TIMEOUT_SECONDS)
        self.socket.connect(str(path))
        self._next_id = 0
        self.capabilities: dict[str, object] = {}
        if negotiate:
            self.negotiate()

    def negotiate(self) -> None:
        """Agree on the version. Raises EOFError if the server has refused the client."""
        answer = self.call(Command.VERSION, version())
        self.capabilities = json.loads(answer[4:-1])["capabilities"]

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, command: int, payload: bytes = b"", fds: list[int] | None = None, flags: int = 0) -> int:
        """Send a command; returns its message ID."""
        self._next_id = (self._next_id + 1) % (1 << 16)
        message = protocol.HEADER.pack(self._next_id, command, protocol.HEADER.size + len(payload), flags, 0) + payload
        self.send_raw(message, fds)
        return self._next_id

    def send_raw(self, data: bytes, fds: list[int] | None = None) -> None:
        """Send any bytes."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.socket.sendmsg([data], ancillary)
        if sent < len(data):
            self.socket.sendall(data[sent:])

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError(f"{len(data)} of {count} bytes, then the end")
            data += part
        return data

    def receive(self) -> Reply:
        """The next reply. Raises EOFError at the end of the connection."""
        message_id, command, size, flags, error = protocol.HEADER.unpack(self._exactly(protocol.HEADER.size))
        return Reply(message_id, command, flags, error, self._exactly(size - protocol.HEADER.size))

    def call(self, command: int, payload: bytes = b"", fds: list[int] | None = None) -> bytes:
        """Send a command and return its reply's payload. Raises Refused."""
        message_id = self.send(command, payload, fds)
        reply = self.receive()
        assert (reply.message_id, reply.command) == (message_id, command)
        assert reply.flags & protocol.TYPE_MASK == protocol.TYPE_REPLY
        if reply.flags & protocol.ERROR:
            assert reply.payload == b""
            raise Refused(reply.error)
        return reply.payload

    def refused(self, command: int, payload: bytes = b"", fds: list[int] | None = None) -> int:
        """Send a command that must be refused; returns the errno. Asserts that the connection stays usable."""
        try:
            self.call(command, payload, fds)
        except Refused as refusal:
            number = refusal.number
        else:
            raise AssertionError(f"expected command {command} to be refused")
        assert self.read(0, 4) == b"KCOM", "the connection is not usable after the refusal"
        return number

    def read(self, offset: int, count: int, region: int = RegionIndex.BAR0) -> bytes:
        """Read from a region. Raises Refused."""
        answer = self.call(Command.REGION_READ, protocol.REGION_ACCESS.pack(offset, region, count))
        assert answer[:16] == protocol.REGION_ACCESS.pack(offset, region, count)
        return answer[16:]

    def write(self, offset: int, data: bytes, region: int = RegionIndex.BAR0) -> None:
        """Write to a region. Raises Refused."""
        fixed = protocol.REGION_ACCESS.pack(offset, region, len(data))
        assert self.call(Command.REGION_WRITE, fixed + data) == fixed

    def config(self, offset: int, count: int) -> int:
        """A field of the configuration space."""
        return int.from_bytes(self.read(offset, count, RegionIndex.CONFIG), "little")

    def write_config(self, offset: int, count: int, value: int) -> None:
        """Write a field of the configuration space."""
        self.write(offset, value.to_bytes(count, "little"), RegionIndex.CONFIG)

    @property
    def status(self) -> int:
        """The status register."""
        return int.from_bytes(self.read(0x2C, 4), "little")

    def set_status(self, value: int) -> None:
        """Write the status register."""
        self.write(0x2C, value.to_bytes(4, "little"))

    def at_end(self) -> bool:
        """Wait for data or the end of the connection; True at the end."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
