"""Sizes in bytes, as topology files write them."""

from __future__ import annotations

import re

MAX_BYTES = (1 << 63) - 1
"""The largest size: what a Kubernetes quantity and a signed 64-bit integer hold."""
_SIZE = re.compile(r"0*([0-9]+)([KMGT]?)i?B?")
_SIZE_DIGITS = len(str(MAX_BYTES))
WINDOWS = "a power of two from 4K to 16M"
"""Sizes of a window, for messages; ``is_window`` checks them."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Bytes of a size like ``16G``, ``2GiB``, ``512M`` or ``4096``. Units are powers of 1024.

    Raises ValueError, also for more than MAX_BYTES.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match or match[1] == "0":
        raise ValueError(f"expected a size such as 16G or 512M, found {text!r}")
    # Python converts long numbers slowly, and refuses those of more than 4300 digits.
    size = int(match[1]) * _UNITS[match[2]] if len(match[1]) <= _SIZE_DIGITS else MAX_BYTES + 1
    if size > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES >> 40}T ({MAX_BYTES} bytes), found {text[:40]!r}")
    return size


def is_window(size: int) -> bool:
    """Whether a BAR for device memory may have ``size`` bytes."""
    return size.bit_count() == 1 and 4 << 10 <= size <= 16 << 20
