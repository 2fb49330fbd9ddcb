"""Sets up a cluster's network as a supervisor does, sends frames as its guests, and prints what they receive as JSON.

Started by ``test_network.py`` as the first process of new namespaces.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from mock_device import topology
from mock_device.lab.controlplane.addresses import HOST_ADDRESS
from mock_device.lab.guest import guest, link
from mock_device.lab.supervisor import network

_QUIET_SECONDS = 1.0
_ARP = 0x0806
_IPV4 = 0x0800
_UDP = 17
_PORT = 5000


def mac(number: int) -> bytes:
    return bytes.fromhex(guest.mac_address(number).replace(":", ""))


def ethernet(target: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    return target + source + struct.pack("!H", kind) + payload


def arp_request(number: int, own: str, wanted: str) -> bytes:
    """RFC 826: who has ``wanted``?"""
    addresses = mac(number) + socket.inet_aton(own) + bytes(6) + socket.inet_aton(wanted)
    return ethernet(b"\xff" * 6, mac(number), _ARP, struct.pack("!HHBBH", 1, _IPV4, 6, 4, 1) + addresses)


def is_arp(frame: bytes) -> bool:
    return frame[12:14] == struct.pack("!H", _ARP)


def internet_sum(data: bytes) -> int:
    """Internet checksum (RFC 1071); 0xffff over data that includes its checksum."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Guest:
    """QEMU's side of a link: sends and receives frames, each after its length."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *frames: bytes) -> None:
        self._writer.write(b"".join(struct.pack("!I", len(frame)) + frame for frame in frames))
        await self._writer.drain()

    async def send_in_pieces(self, *frames: bytes) -> None:
        """Send ``frames`` in pieces of 7 bytes, which end within lengths and within frames."""
        stream = b"".join(struct.pack("!I", len(frame)) + frame for frame in frames)
        for begin in range(0, len(stream), 7):
            self._writer.write(stream[begin : begin + 7])
            await self._writer.drain()

    async def heard(self) -> list[bytes]:
        """Frames received until none comes for a second."""
        frames: list[bytes] = []
        while True:
            try:
                head = await asyncio.wait_for(self._reader.readexactly(4), _QUIET_SECONDS)
            except TimeoutError:
                return frames
            frames.append(await self._reader.readexactly(*struct.unpack("!I", head)))


async def main(topology_file: Path, folder: Path) -> dict[str, Any]:
    nodes = topology.load(topology_file)
    await asyncio.to_thread(network.set_up, nodes)
    guests, servers = [], []
    for number in (1, 2):
        path = folder / f"{number}.sock"
        servers.append(await link.serve(path, network.guest_device(number)))
        guests.append(Guest(*await asyncio.open_unix_connection(str(path))))
    first, second = (node.address for node in nodes.nodes)
    report: dict[str, Any] = {}

    await guests[0].send(arp_request(1, first, HOST_ADDRESS))
    report["says who it is"] = [frame[6:12].hex(":") for frame in await guests[0].heard() if is_arp(frame)]
    report["others hear the question"] = sum(map(is_arp, await guests[1].heard()))

    frames = [ethernet(mac(2), mac(1), 0x88B5, number.to_bytes(2) * 700) for number in range(1000)]
    await guests[1].send(arp_request(2, second, first))
    await guests[0].heard()
    await guests[0].send(*frames)
    report["frames arrive in order"] = await guests[1].heard() == frames
    await guests[0].send_in_pieces(*frames[:20])
    report["frames in pieces arrive whole"] = await guests[1].heard() == frames[:20]

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        await guests[0].send(arp_request(1, first, HOST_ADDRESS))
        await guests[0].heard()
        sender.sendto(b"x" * 1000, (first, _PORT))
        (frame,) = await guests[0].heard()
    packet = frame[14:]
    pseudo = packet[12:20] + struct.pack("!HH", _UDP, len(packet) - 20)
    report["checksum of this machine's packets"] = hex(internet_sum(pseudo + packet[20:]))
    return report


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))))
