"""A kernel that KVM cannot run: its first instruction jumps to an address without memory."""

from __future__ import annotations

_HEADER = {
    # Documentation/arch/x86/boot.rst of Linux, "The Real-Mode Kernel Header".
    0x1F1: b"\x01",  # one sector of setup code after the boot sector
    0x1FE: b"\x55\xaa",
    0x200: b"\xeb\x6e",  # jmp 0x270
    0x202: b"HdrS",
    0x206: b"\x04\x02",  # protocol 2.04
    0x211: b"\x01",  # loaded high
    # ljmp 0xa000:0x0000: the window of a graphics card that the guest does not have. KVM cannot fetch instructions
    # from there, and says so: internal error, suberror 1 (emulation failure).
    0x270: b"\xea\x00\x00\x00\xa0",
}
_BYTES = 4096


def bad_kernel() -> bytes:
    """Content of a bzImage that stops a guest on KVM with an internal error as soon as it starts."""
    image = bytearray(_BYTES)
    for offset, data in _HEADER.items():
        image[offset : offset + len(data)] = data
    return bytes(image)
