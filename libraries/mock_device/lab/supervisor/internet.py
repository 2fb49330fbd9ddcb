"""The cluster's way to the outside: a link to passt(1), which runs on this machine beside the cluster's namespaces.

passt opens a socket of this machine for each connection of the cluster, so it needs no privileges. It knows one
address, so everything that leaves the cluster gets that address (nftables, masquerade).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from pyroute2 import IPRoute

from mock_device.lab.base.commands import run
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.controlplane.addresses import OUTSIDE_ADDRESS, OUTSIDE_GATEWAY, PREFIX_LENGTH
from mock_device.lab.guest.link import Link
from mock_device.lab.supervisor.network import checksum_frames

DEVICE = "outside"
"""Network device in the cluster's namespace."""
_PEER = "passt"
_FRAME_BYTES = 1500
_LONGEST_PACKET_BYTES = 65520
"""passt sends a datagram as one packet, however long it is (``-m`` in passt(1))."""


class PasstLink(Link):
    """Frames between passt and the cluster; calls ``ended`` when passt ends."""

    def __init__(self, device: str, ended: Callable[[], None]) -> None:
        super().__init__(device)
        self._ended = ended

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._ended()


def rules() -> list[str]:
    """nft(8) commands that give everything that leaves by ``DEVICE`` the cluster's address there."""
    chain = "{ type nat hook postrouting priority srcnat; }"
    return [
        "add table ip lab-internet",
        f"add chain ip lab-internet postrouting {chain}",
        f"add rule ip lab-internet postrouting oifname {DEVICE} masquerade",
    ]


def _set_up() -> None:
    with IPRoute() as ip:
        ip.link("add", ifname=DEVICE, kind="veth", mtu=_LONGEST_PACKET_BYTES, peer={"ifname": _PEER})
        device, peer = (ip.link_lookup(ifname=name)[0] for name in (DEVICE, _PEER))
        checksum_frames(DEVICE)
        ip.addr("add", index=device, address=OUTSIDE_ADDRESS, prefixlen=PREFIX_LENGTH)
        ip.link("set", index=device, state="up")
        # This end belongs to passt: the kernel must not answer ARP requests there.
        ip.link("set", index=peer, arp=False, mtu=_LONGEST_PACKET_BYTES, state="up")
        metrics = {"attrs": [["RTAX_MTU", _FRAME_BYTES]]}
        ip.route("add", dst="default", gateway=OUTSIDE_GATEWAY, oif=device, metrics=metrics)
    run(["nft", "; ".join(rules())], timeout=Timeout.NFT.seconds)


async def connect(descriptor: int, ended: Callable[[], None]) -> None:
    """Connect this network namespace with passt, at the other end of the socket ``descriptor``.

    ``ended`` is called when passt ends. Raises StepError, OSError. Needs CAP_NET_ADMIN and CAP_NET_RAW here.
    """
    await asyncio.to_thread(_set_up)
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: PasstLink(_PEER, ended), sock=socket.socket(fileno=descriptor))
