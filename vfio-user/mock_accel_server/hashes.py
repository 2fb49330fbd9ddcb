"""SHA-256 and HMAC-SHA-256. The library behind them is loaded on first use: idle devices take less memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash


def sha256(data: bytes | bytearray | memoryview = b"") -> _Hash:
    """A hash object that has seen ``data``."""
    import hashlib

    return hashlib.sha256(data)


def hmac_sha256(key: bytes, data: bytes | bytearray) -> bytes:
    """32 bytes."""
    import hmac

    return hmac.digest(key, data, "sha256")
