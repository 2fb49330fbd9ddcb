"""The network of a cluster, inside the network namespace that its supervisor runs in."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import socket
import struct
from pathlib import Path

from pyroute2 import IPRoute

from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.controlplane.addresses import HOST_ADDRESS, PREFIX_LENGTH, SERVICE_CIDR, pod_cidr
from mock_device.topology import Topology

BRIDGE = "cluster"
# The same in every cluster: a restored guest has it in its ARP cache, and would need 30 s to learn another.
BRIDGE_MAC = "52:54:00:4d:4f:fe"
_CHUNK_BYTES = 1 << 16
# linux/sockios.h, linux/ethtool.h, linux/if.h
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17
_IFNAMSIZ = 16


def guest_device(number: int) -> str:
    """Network device that the frames of node ``number`` go through, see ``lab.guest.link``; nodes count from 1."""
    return f"guest{number}"


def set_up(topology: Topology) -> None:
    """Create bridge, devices of the guests, and routes to the pods of every node. Needs CAP_NET_ADMIN here."""
    # IPv6 is not used, and each device would announce itself to all guests.
    _sysctl("net/ipv6/conf/default/disable_ipv6", "1")
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
        ip.link("add", ifname=BRIDGE, kind="bridge", address=BRIDGE_MAC)
        bridge = ip.link_lookup(ifname=BRIDGE)[0]
        ip.addr("add", index=bridge, address=HOST_ADDRESS, prefixlen=PREFIX_LENGTH)
        ip.link("set", index=bridge, state="up")
        # A packet for a service needs a way out before kube-proxy's rules see it.
        ip.route("add", dst=SERVICE_CIDR, oif=bridge)
        for number, node in enumerate(topology.nodes, 1):
            port = f"port{number}"
            ip.link("add", ifname=port, kind="veth", peer={"ifname": guest_device(number)})
            checksum_frames(port)
            ip.link("set", index=ip.link_lookup(ifname=port)[0], master=bridge, state="up")
            # This end belongs to the guest: the host must not answer ARP requests there.
            ip.link("set", index=ip.link_lookup(ifname=guest_device(number))[0], arp=False, state="up")
            ip.route("add", dst=pod_cidr(number), gateway=node.address)
    _sysctl("net/ipv4/ip_forward", "1")
    # Frames between guests are switched, not filtered: services are translated in each guest.
    _sysctl("net/bridge/bridge-nf-call-iptables", "0")


def checksum_frames(device: str) -> None:
    """Make the kernel finish checksums and segments before ``device``: the other side does neither."""
    value = array.array("I", [_ETHTOOL_STXCSUM, 0])
    request = struct.pack(f"{_IFNAMSIZ}sP", device.encode(), value.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)


def _sysctl(name: str, value: str) -> None:
    path = Path("/proc/sys") / name
    if path.exists():
        path.write_text(value)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


async def forward(descriptor: int, host: str, port: int) -> asyncio.Server:
    """Forward each connection to the listening socket ``descriptor`` to ``host:port``.

    A socket belongs to the network namespace that it was created in, so that a
    client there reaches a server here.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(Timeout.CONNECT_GUEST.seconds):
                far_reader, far_writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError):
            writer.close()
            return
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            for side in (writer, far_writer):
                side.close()
                with contextlib.suppress(OSError):
                    await side.wait_closed()

    return await asyncio.start_server(serve, sock=socket.socket(fileno=descriptor))
