"""A kernel that KVM cannot run: it jumps to an address without memory."""

from __future__ import annotations

_PARTS = {
    # Documentation/arch/x86/boot.rst of Linux, "The Real-Mode Kernel Header".
    0x1F1: b"\x01",  # one sector of setup code after the boot sector
    0x1FE: b"\x55\xaa",
    0x200: b"\xeb\x6e",  # jmp 0x270
    0x202: b"HdrS",
    0x206: b"\x04\x02",  # protocol 2.04
    0x211: b"\x01",  # loaded high: the setup code is at 0x10000, and CS:0 at 0x10200
    0x22C: b"\xff\xff\xff\x37",  # highest address of an initial RAM disk
    0x270: (
        b"\xfa"  # cli
        b"\x2e\x0f\x01\x16\xb0\x00"  # lgdt cs:0xb0
        b"\x0f\x20\xc0\x0c\x01\x0f\x22\xc0"  # cr0 |= 1: protected mode
        # ljmp 0x08:0xfed40000: there is no memory, and no device in a guest of the lab. KVM cannot fetch instructions
        # from there, and says so: internal error, suberror 1 (emulation failure).
        b"\x66\xea\x00\x00\xd4\xfe\x08\x00"
    ),
    0x2B0: b"\x0f\x00\xc0\x02\x01\x00",  # size and address (0x102c0) of the descriptors
    0x2C8: b"\xff\xff\x00\x00\x00\x9a\xcf\x00",  # segment 0x08: code, 32 bits, all 4 GiB
}
_BYTES = 4096


def bad_kernel() -> bytes:
    """Content of a bzImage that stops a guest on KVM with an internal error as soon as it starts."""
    image = bytearray(_BYTES)
    for offset, data in _PARTS.items():
        image[offset : offset + len(data)] = data
    return bytes(image)
