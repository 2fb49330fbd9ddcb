"""Make the firmware image of the mock accelerators: ``python3 firmware.py FILE``.

Format: ``vfio-user/DATASHEET.md``, "Firmware image": header of 32 bytes (magic, version, size and checksum of the
payload), then the payload, which has no meaning. Nothing of the project is imported, so that any build can run this.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from pathlib import Path

MAJOR, MINOR = 1, 0
_HEADER = struct.Struct("<4sHHII16s")
_PAYLOAD = b"Mock accelerator firmware: without it a device runs no jobs.\n" * 64


def image(major: int = MAJOR, minor: int = MINOR, payload: bytes = _PAYLOAD) -> bytes:
    """A firmware image of version ``major.minor``."""
    checksum = hashlib.sha256(payload).digest()[:16]
    return _HEADER.pack(b"MACF", major, minor, len(payload), 0, checksum) + payload


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(image())
