"""What jobs compute, in steps: each step is a short access to memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mock_accel_server.descriptors import Descriptor, Opcode
from mock_accel_server.hashes import hmac_sha256, sha256
from mock_accel_server.places import Places

SLICE = 256 << 10
"""Bytes of a step."""


@dataclass(frozen=True)
class Work:
    """A checked job; before each step, ``places`` are resolved."""

    descriptor: Descriptor
    signer: Signer
    places: Places
    wrong: bool = False
    """Invert the first byte of the result: a fault on demand."""

    def steps(self) -> Iterator[bool]:
        """Do the job: one step for each item. Raises JobError."""
        return _OPERATIONS[Opcode(self.descriptor.opcode)](self)

    def write(self, position: int, data: bytes | bytearray) -> None:
        """Write a part of the result."""
        if self.wrong and position == 0:
            data = bytes([data[0] ^ 0xFF]) + data[1:]
        self.places.destination.write(position, data)


@dataclass(frozen=True)
class Signer:
    """Signs nonces for the device ``uuid``."""

    secret: bytes
    uuid: str

    def sign(self, nonce: bytes | bytearray) -> bytes:
        """HMAC-SHA-256 with the device's key."""
        return hmac_sha256(hmac_sha256(self.secret, self.uuid.encode("ascii")), nonce)


def _slices(length: int) -> Iterator[tuple[int, int]]:
    for position in range(0, length, SLICE):
        yield position, min(SLICE, length - position)


def _copy(work: Work) -> Iterator[bool]:
    for position, count in _slices(work.descriptor.length):
        work.write(position, work.places.source.read(position, count))
        yield True


def _fill(work: Work) -> Iterator[bool]:
    length = work.descriptor.length
    pattern = work.descriptor.argument.to_bytes(8, "little") * -(-min(length, SLICE) // 8)
    for position, count in _slices(length):
        work.write(position, pattern[:count])
        yield True


def _sha256(work: Work) -> Iterator[bool]:
    digest = sha256()
    for position, count in _slices(work.descriptor.length):
        digest.update(work.places.source.read(position, count))
        yield True
    work.write(0, digest.digest())
    yield True


def _identify(work: Work) -> Iterator[bool]:
    nonce = work.places.source.read(0, work.descriptor.length)
    work.write(0, work.signer.sign(nonce))
    yield True


_OPERATIONS: dict[Opcode, Callable[[Work], Iterator[bool]]] = {
    Opcode.COPY: _copy,
    Opcode.FILL: _fill,
    Opcode.SHA256: _sha256,
    Opcode.IDENTIFY: _identify,
}
