"""Connects a guest's network card with its port of the cluster's bridge, without a tap device.

A tap device needs ``/dev/net/tun``, which may be missing or root's only. A pair of
virtual Ethernet devices and a packet socket (packet(7)) need CAP_NET_ADMIN and
CAP_NET_RAW in the cluster's network namespace only. QEMU's side is ``-netdev stream``:
each frame follows its length, 32 bits in network byte order (qemu/net/stream.c).
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import socket
import struct
from pathlib import Path

# linux/if_ether.h, linux/socket.h, linux/if_packet.h
_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_PACKET_RX_RING = 5
_PACKET_VERSION = 10
_PACKET_IGNORE_OUTGOING = 23
_TPACKET_V2 = 1
_STATUS_KERNEL = 0
# struct tpacket2_hdr: status, length, captured length, offset of the frame.
_HEADER = struct.Struct("=3IH")
_STATUS = struct.Struct("=I")
_LENGTH = struct.Struct("!I")
# A ring, because an ordinary user cannot enlarge a socket's receive buffer. A slot holds a frame of 1500 bytes and its
# header; a frame that finds no free slot is lost, as on any network.
_SLOT_BYTES = 2048
_SLOTS = 1024
_SLOTS_AT_ONCE = 64
_WAITING_BYTES = 1 << 20


class Link(asyncio.Protocol):
    """Copies frames between a connection of QEMU and the network device ``device``, both ways."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._received = bytearray()
        self._slot = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_WAITING_BYTES)
        self._frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self._frames.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._frames.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        slots_a_page = mmap.PAGESIZE // _SLOT_BYTES
        ring = struct.pack("=4I", mmap.PAGESIZE, _SLOTS // slots_a_page, _SLOT_BYTES, _SLOTS)
        self._frames.setsockopt(_SOL_PACKET, _PACKET_RX_RING, ring)
        self._ring = mmap.mmap(self._frames.fileno(), _SLOTS * _SLOT_BYTES)
        self._frames.bind((self._device, _ETH_P_ALL))
        self.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.pause_writing()
        self._ring.close()
        self._frames.close()

    def pause_writing(self) -> None:
        asyncio.get_running_loop().remove_reader(self._frames)

    def resume_writing(self) -> None:
        asyncio.get_running_loop().add_reader(self._frames, self._from_bridge)

    def data_received(self, data: bytes) -> None:
        """Take frames of the guest, in pieces that may end within a frame."""
        self._received += data
        begin = 0
        while len(self._received) >= begin + _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._received, begin)
            end = begin + _LENGTH.size + length
            if len(self._received) < end:
                break
            # A frame that the device refuses is lost, as on any network.
            with contextlib.suppress(OSError):
                self._frames.send(self._received[begin + _LENGTH.size : end])
            begin = end
        del self._received[:begin]

    def _from_bridge(self) -> None:
        frames = []
        for _ in range(_SLOTS_AT_ONCE):
            slot = self._slot * _SLOT_BYTES
            status, _, length, offset = _HEADER.unpack_from(self._ring, slot)
            if status == _STATUS_KERNEL:
                break
            frames += [_LENGTH.pack(length), self._ring[slot + offset : slot + offset + length]]
            _STATUS.pack_into(self._ring, slot, _STATUS_KERNEL)
            self._slot = (self._slot + 1) % _SLOTS
        if frames:
            self._transport.write(b"".join(frames))


async def serve(path: Path, device: str) -> asyncio.Server:
    """Listen on the Unix socket ``path`` for a guest whose frames go through ``device``."""
    return await asyncio.get_running_loop().create_unix_server(lambda: Link(device), str(path))
