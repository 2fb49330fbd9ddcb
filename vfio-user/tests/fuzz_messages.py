"""Messages for fuzzing: valid ones, mutated ones, and noise, all derived from one random source."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import dataclass, field

from mock_accel_server import protocol
from mock_accel_server.protocol import Command, IrqSetFlag, RegionIndex
from vfio_user_client import QEMU_CAPABILITIES, version

_CHANGED = 0.5
"""Share of mutated messages."""
_BITS = {"H": 16, "I": 32, "Q": 64}
_OTHER_COMMANDS = (0, 6, 11, 12, 14, 16, 17, 18, 0xFFFF)
_IRQ_FLAGS = (0x21, 0x22, 0x24, 0x21, 0x24, 0, 0x61, 0x0C, 0x11)  # IrqSetFlag; the last four are refused


@dataclass(frozen=True)
class Message:
    """Bytes to send, with the number of file descriptors to attach."""

    data: bytes
    fds: int = 0
    message_id: int = 0
    command: int = 0
    answered: bool = False
    """Whether the server must answer it and keep the connection."""
    whole: bool = True
    """Whether the server can tell where it ends and the next message begins."""


@dataclass
class _Draft:
    command: int
    layout: str = "="
    fields: list[int] = field(default_factory=list)
    tail: bytes = b""
    fds: int = 0

    def payload(self) -> bytes:
        return struct.pack(self.layout, *self.fields) + self.tail


def random_message(source: random.Random) -> Message:
    """A message for a connection with a negotiated version."""
    draft = source.choice(_DRAFTS)(source)
    payload = draft.payload()
    if source.random() < _CHANGED:
        payload = _changed(source, draft)
    flags = source.choices([0, protocol.NO_REPLY, protocol.ERROR, source.getrandbits(32)], [90, 6, 2, 2])[0]
    size = protocol.HEADER.size + len(payload)
    if source.random() < 0.02:
        size = source.choice([0, 15, size - 1, size + 1, size + 1000, 1 << 20, 1 << 31, (1 << 32) - 1])
    message_id = source.getrandbits(16)
    data = protocol.HEADER.pack(message_id, draft.command, size, flags, source.choice([0, source.getrandbits(32)]))
    fds = draft.fds if source.random() < 0.9 else source.choice([0, 1, 2, 16, 17, 100, protocol.SCM_MAX_FDS])
    whole = (
        size == protocol.HEADER.size + len(payload) <= protocol.MAX_MESSAGE_SIZE
        and flags & protocol.TYPE_MASK == protocol.TYPE_COMMAND
        and fds <= protocol.MAX_MSG_FDS
    )
    answered = whole and not flags & protocol.NO_REPLY
    return Message(data + payload, fds, message_id, draft.command, answered, whole)


def random_version(source: random.Random) -> bytes:
    """The payload of a VERSION, often an invalid one."""
    capabilities: dict[str, object] = dict(QEMU_CAPABILITIES)
    for name in source.sample(sorted(capabilities), source.randrange(3)):
        capabilities[name] = source.choice(
            [0, 1, -1, 8.0, 1e6, 1.5, 1e300, True, None, "8", [], {}, 10**30, "x" * source.randrange(10_000)]
        )
    payload = version(capabilities, source.choice([0, 0, 0, 1, 65535]), source.choice([0, 1, 65535]))
    if source.random() < 0.3:
        payload = _noise(source, payload)
    if source.random() < 0.1:
        payload = payload[:4] + source.choice([b"[" * 50_000, b"1" * 5000, b'{"a":' * 20_000, b"NaN"]) + b"\0"
    return payload


def _changed(source: random.Random, draft: _Draft) -> bytes:
    """The payload of ``draft`` with changed fields, bytes or length."""
    kind = source.random()
    if kind < 0.5 and draft.fields:
        codes = draft.layout[1:]
        for _ in range(source.choice([1, 1, 2])):
            index = source.randrange(len(draft.fields))
            draft.fields[index] = _number(source, _BITS[codes[index]])
        return draft.payload()
    if kind < 0.95:
        return _noise(source, draft.payload())
    return source.randbytes(source.choice([0, 1, 16, 20, 32, 80, 4096, 70_000]))


def _number(source: random.Random, bits: int) -> int:
    top = 1 << bits
    near = source.choice([0, 16, 20, 32, 4096, top >> 1, top])
    return source.choice([near, near + source.randrange(-4, 5), near - 4096, source.getrandbits(bits)]) % top


def _noise(source: random.Random, payload: bytes) -> bytes:
    changed = bytearray(payload)
    for _ in range(source.randrange(4)):
        if changed:
            changed[source.randrange(len(changed))] = source.getrandbits(8)
    if source.random() < 0.3:
        del changed[source.randrange(len(changed) + 1) :]
    if source.random() < 0.3:
        changed += source.randbytes(source.choice([1, 4, 8, 48, 64]))
    return bytes(changed)


def _dma_map(source: random.Random) -> _Draft:
    address, size = source.randrange(64) << 12, source.choice([1, 1, 2, 16]) << 12
    return _Draft(
        Command.DMA_MAP,
        "=IIQQQ",
        [32, source.choice([1, 3]), 0, address, size],
        fds=source.choice([0, 1, 1, 1]),
    )


def _dma_unmap(source: random.Random) -> _Draft:
    if source.random() < 0.2:
        return _Draft(Command.DMA_UNMAP, "=IIQQ", [24, protocol.DMA_UNMAP_ALL, 0, 0])
    return _Draft(Command.DMA_UNMAP, "=IIQQ", [24, 0, source.randrange(64) << 12, source.choice([1, 2, 16]) << 12])


def _device_info(_source: random.Random) -> _Draft:
    return _Draft(Command.DEVICE_GET_INFO, "=IIII", [16, 0, 0, 0])


def _region_info(source: random.Random) -> _Draft:
    return _Draft(
        Command.DEVICE_GET_REGION_INFO, "=IIIIQQ", [32, 0, source.randrange(9), 0, 0, 0], bytes(source.choice([0, 48]))
    )


def _irq_info(source: random.Random) -> _Draft:
    return _Draft(Command.DEVICE_GET_IRQ_INFO, "=IIII", [16, 0, source.randrange(5), 0])


def _set_irqs(source: random.Random) -> _Draft:
    flags = source.choice(_IRQ_FLAGS)
    tail = bytes([source.randrange(2)]) if flags & IrqSetFlag.DATA_BOOL else b""
    fields = [20 + len(tail), flags, source.choice([3, 3, 4, 0, 1]), 0, source.choice([1, 1, 1, 0])]
    fds = source.choice([0, 1, 1]) if flags & IrqSetFlag.DATA_EVENTFD else 0
    return _Draft(Command.DEVICE_SET_IRQS, "=IIIII", fields, tail, fds)


def _region_read(source: random.Random) -> _Draft:
    region, offset = source.choice([RegionIndex.BAR0, RegionIndex.CONFIG]), source.randrange(4096)
    return _Draft(Command.REGION_READ, "=QII", [offset, region, source.choice([1, 2, 4, 8, 4096 - offset])])


def _region_write(source: random.Random) -> _Draft:
    region, offset = source.choice([RegionIndex.BAR0, RegionIndex.CONFIG]), source.randrange(4096)
    count = source.choice([1, 2, 4, 4096 - offset, protocol.MAX_DATA_XFER_SIZE if source.random() < 0.01 else 8])
    return _Draft(Command.REGION_WRITE, "=QII", [offset, region, count], source.randbytes(count))


def _write_multi(source: random.Random) -> _Draft:
    number = source.randrange(4)
    writes = b"".join(
        protocol.SINGLE_WRITE.pack(source.randrange(4088), source.choice([0, 7]), 4, source.randbytes(8))
        for _ in range(number)
    )
    return _Draft(Command.REGION_WRITE_MULTI, "=Q", [number], writes)


def _reset(_source: random.Random) -> _Draft:
    return _Draft(Command.DEVICE_RESET)


def _again(source: random.Random) -> _Draft:
    return _Draft(
        Command.VERSION, "=HH", [0, 0], json.dumps({"capabilities": source.choice([{}, []])}).encode() + b"\0"
    )


def _other(source: random.Random) -> _Draft:
    return _Draft(source.choice(_OTHER_COMMANDS), "=IIII", [16, 0, 0, 0], fds=source.choice([0, 0, 1]))


_DRAFTS = (
    *[_dma_map] * 4,
    *[_dma_unmap] * 2,
    _device_info,
    *[_region_info] * 2,
    _irq_info,
    *[_set_irqs] * 4,
    *[_region_read] * 3,
    *[_region_write] * 2,
    _write_multi,
    _reset,
    _again,
    _other,
)
