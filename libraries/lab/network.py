"""The network of a cluster, inside the network namespace that its supervisor runs in."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from pyroute2 import IPRoute
from topology import Topology

from lab.spec import HOST_ADDRESS, PREFIX_LENGTH, SERVICE_CIDR, pod_cidr

BRIDGE = "cluster"
# The same in every cluster: a restored guest has it in its ARP cache, and would wait 30 s for another one.
_BRIDGE_MAC = "52:54:00:4d:4f:fe"
_CHUNK_BYTES = 1 << 16
_CONNECT_TIMEOUT_SECONDS = 10.0


def tap_name(number: int) -> str:
    """Tap device of node ``number``, which counts from 1."""
    return f"tap{number}"


def set_up(topology: Topology) -> None:
    """Make bridge, taps and routes to the pods of every node. Needs CAP_NET_ADMIN in the namespace."""
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
        ip.link("add", ifname=BRIDGE, kind="bridge", address=_BRIDGE_MAC)
        bridge = ip.link_lookup(ifname=BRIDGE)[0]
        ip.addr("add", index=bridge, address=HOST_ADDRESS, prefixlen=PREFIX_LENGTH)
        ip.link("set", index=bridge, state="up")
        # A packet for a service needs a way out before kube-proxy's rules see it.
        ip.route("add", dst=SERVICE_CIDR, oif=bridge)
        for number, node in enumerate(topology.nodes, 1):
            ip.link("add", ifname=tap_name(number), kind="tuntap", mode="tap")
            tap = ip.link_lookup(ifname=tap_name(number))[0]
            ip.link("set", index=tap, master=bridge, state="up")
            ip.route("add", dst=pod_cidr(number), gateway=node.address)
    _sysctl("net/ipv4/ip_forward", "1")
    # Frames between guests are switched, not filtered: services are translated in each guest.
    _sysctl("net/bridge/bridge-nf-call-iptables", "0")


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
    """Serve the listening socket ``descriptor``: each connection goes on to ``host:port``.

    The socket belongs to the namespace it was made in, so that a client there
    reaches a server here.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_SECONDS):
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
