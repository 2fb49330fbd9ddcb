"""What jobs of ``mock-accel`` must print: signatures, digests, latencies, errors.

Formats: kernel-driver/tools/README.md; keys and signatures: vfio-user/DATASHEET.md, "Jobs".
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from mock_device.checks.errors import CheckError
from mock_device.checks.objects.job_pods import Outcome

NONCE_BYTES = 16
_LINE = 8
"""Bytes of a line of ``pattern``."""
_FIRST = 1_000_000
_WINDOW_WORDS = 2


class ExitCode(IntEnum):
    """Exit codes of ``mock-accel``."""

    SUCCESS = 0
    FILES = 1
    USAGE = 2
    NO_DEVICE = 3
    BUSY = 4
    JOB = 5
    """The job ended with an error, or with a wrong result."""
    LOST = 6
    """The job timed out or was cancelled, or the device is lost."""


@dataclass(frozen=True)
class Identity:
    """Output of ``mock-accel identify``."""

    device: str
    uuid: str
    nonce: bytes
    signature: bytes


def parse_identity(output: str) -> Identity:
    """Parse the output of ``mock-accel identify``. Raises CheckError."""
    fields = dict(line.split("\t", 1) for line in output.splitlines() if "\t" in line)
    try:
        return Identity(
            fields["device"], fields["uuid"], bytes.fromhex(fields["nonce"]), bytes.fromhex(fields["signature"])
        )
    except (KeyError, ValueError) as error:
        raise CheckError(f"expected device, uuid, nonce and signature, found {output[-300:]!r} ({error!r})") from error


def signature_of(secret: bytes, uuid: str, nonce: bytes) -> bytes:
    """What the device ``uuid`` of a server with ``secret`` signs ``nonce`` with."""
    device_key = hmac.digest(secret, uuid.encode("ascii"), "sha256")
    return hmac.digest(device_key, nonce, "sha256")


def identity_complaints(found: Identity, device: str, uuid: str, nonce: bytes, secret: bytes) -> list[str]:
    """Why ``found`` does not prove that the job ran on the device ``uuid``, named ``device`` on its node."""
    pairs = (("device", device, found.device), ("uuid", uuid, found.uuid), ("nonce", nonce.hex(), found.nonce.hex()))
    result = [f"expected {what} {expected}, found {value}" for what, expected, value in pairs if value != expected]
    if not hmac.compare_digest(signature_of(secret, uuid, nonce), found.signature):
        result.append(f"signature {found.signature.hex()} of nonce {nonce.hex()} is not that of device {uuid}")
    return result


def pattern(size: int) -> bytes:
    """``size`` bytes, none of whose 8-byte lines is repeated; ``pattern_command`` writes the same."""
    return b"".join(_lines(size))[:size]


def _lines(size: int) -> Iterator[bytes]:
    return (b"%d\n" % number for number in range(_FIRST, _FIRST + -(-size // _LINE)))


def pattern_command(size: int, path: str) -> str:
    """Shell command that writes ``pattern(size)`` to ``path``."""
    return f"seq {_FIRST} {_FIRST + -(-size // _LINE) - 1} | head -c {size} >{path}"


def digest_complaints(output: str, size: int) -> list[str]:
    """Whether the output of ``mock-accel sha256`` differs from Python's digest of ``pattern(size)``."""
    expected, found = hashlib.sha256(pattern(size)).hexdigest(), output.partition(" ")[0]
    return [] if found == expected else [f"SHA-256 of {size} bytes: expected {expected}, found {found or 'none'}"]


def outcome_complaints(found: Outcome, code: ExitCode, text: str) -> list[str]:
    """Whether a command has ended with another exit code than ``code``, or without ``text`` in its output."""
    if found.code == code and text in found.output:
        return []
    wanted = f"exit code {code.value} ({code.name})" + (f" and {text!r}" if text else "")
    return [f"expected {wanted}, found exit code {found.code} and {found.output[-300:]!r}"]


@dataclass(frozen=True)
class Bench:
    """Output of ``mock-accel bench --json``."""

    jobs_per_second: float
    bytes_per_second: float
    median: float
    """Seconds of a job."""


def parse_bench(output: str) -> Bench:
    """Parse the output of ``mock-accel bench --json``. Raises CheckError."""
    try:
        found = json.loads(output)
        return Bench(found["jobs_per_second"], found["bytes_per_second"], found["latency_us"]["median"] / 1e6)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckError(f"expected the figures of a bench as JSON, found {output[-300:]!r} ({error!r})") from error


def window_probe(folder: str) -> str:
    """Shell command that prints the size of the device memory, and how many of its bytes are not zero."""
    return f"mock-accel dump >{folder}/window && wc -c <{folder}/window && tr -d '\\0' <{folder}/window | wc -c"


def window_complaints(found: Outcome, *, empty: bool) -> list[str]:
    """Whether the device memory is not ``empty``: has bytes that are not zero. Raises CheckError without an answer."""
    words = found.output.split()
    if found.code or len(words) != _WINDOW_WORDS or not all(map(str.isdecimal, words)) or not int(words[0]):
        raise CheckError(f"expected size and content of the device memory, found {found.output[-300:]!r}")
    size, used = map(int, words)
    if (used == 0) == empty:
        return []
    wanted = "all zeros" if empty else "data of a job"
    return [f"device memory of {size} bytes: expected {wanted}, found {used} bytes that are not zero"]
