"""Connects a cluster's network namespace with an outside that is a namespace, too; prints a report as JSON.

Runs as the outside: a network namespace with a route, a web server, a name server on loopback, and passt. The cluster's
namespace is made below it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import psutil
from pyroute2 import IPRoute

from mock_device.lab.base.spec import ClusterPaths
from mock_device.lab.cluster import passt
from mock_device.lab.controlplane.addresses import OUTSIDE_DNS
from mock_device.lab.supervisor import internet

OUTSIDE = "198.51.100.1"
_LOCAL_DNS = "127.0.0.53"
_GUEST = "192.168.122.211"
_SECONDS = 20.0


def set_up_outside(folder: Path) -> None:
    """An interface with a default route, as any machine with internet has, and a name server on loopback."""
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
        ip.link("add", ifname="eth0", kind="veth", peer={"ifname": "far"})
        ip.link("set", index=ip.link_lookup(ifname="far")[0], state="up")
        device = ip.link_lookup(ifname="eth0")[0]
        ip.addr("add", index=device, address=OUTSIDE, prefixlen=24)
        ip.link("set", index=device, state="up")
        ip.route("add", dst="default", gateway="198.51.100.254")
    resolv = folder / "resolv.conf"
    resolv.write_text(f"nameserver {_LOCAL_DNS}\n")
    subprocess.run(["mount", "--bind", resolv, "/etc/resolv.conf"], check=True)


def serve_outside(stack: ExitStack) -> None:
    """A web server that says who asks, one on loopback, and a name server that answers with the question."""
    for address in ((OUTSIDE, 80), ("127.0.0.1", 81)):
        server = stack.enter_context(socket.create_server(address))
        threading.Thread(target=_greet, args=(server,), daemon=True).start()
    names = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    names.bind((_LOCAL_DNS, 53))
    threading.Thread(target=_echo, args=(names,), daemon=True).start()


def _greet(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"hello")


def _echo(names: socket.socket) -> None:
    while True:
        question, sender = names.recvfrom(2048)
        names.sendto(question, sender)


def add_guest_address() -> None:
    """An address of the cluster; not in a running event loop, which pyroute2 does not accept."""
    with IPRoute() as ip:
        loopback = ip.link_lookup(ifname="lo")[0]
        ip.addr("add", index=loopback, address=_GUEST, prefixlen=32)
        ip.link("set", index=loopback, state="up")


async def inside(descriptor: int) -> dict[str, object]:
    """What the cluster's namespace sees, from an address of the cluster."""
    ended = asyncio.Event()
    await internet.connect(descriptor, ended.set)
    report = {
        "outside answers": await _ask(OUTSIDE, 80),
        "loopback of the outside answers": await _ask("203.0.113.1", 81, seconds=2.0),
        "name server answers": await asyncio.to_thread(_resolve),
    }
    print("asked", flush=True)
    async with asyncio.timeout(_SECONDS):
        await ended.wait()
    return {**report, "end of passt is noticed": True}


async def _ask(host: str, port: int, seconds: float = _SECONDS) -> bool:
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port, local_addr=(_GUEST, 0))
            answer = await reader.read()
            writer.close()
    except (OSError, TimeoutError):
        return False
    return answer == b"hello"


def _resolve() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(_SECONDS)
        client.bind((_GUEST, 0))
        client.sendto(b"question of a guest", (OUTSIDE_DNS, 53))
        return client.recv(2048) == b"question of a guest"


def outside(folder: Path) -> dict[str, object]:
    """Start passt and a cluster's namespace here; what the latter sees, until passt is killed."""
    set_up_outside(folder)
    paths = ClusterPaths(folder)
    paths.logs.mkdir()
    with ExitStack() as servers:
        serve_outside(servers)
        with ExitStack() as stack:
            ours = passt.start(paths, stack)
            command = ["unshare", "--net", sys.executable, __file__, "inside", str(ours.fileno())]
            cluster = subprocess.Popen(command, pass_fds=[ours.fileno()], stdout=subprocess.PIPE, text=True)
        assert cluster.stdout
        cluster.stdout.readline()
        for process in psutil.Process().children(recursive=True):
            if process.name().startswith("passt"):
                process.kill()
        output, _ = cluster.communicate(timeout=_SECONDS * 3)
    result: dict[str, object] = json.loads(output)
    return result


if __name__ == "__main__":
    if sys.argv[1] == "inside":
        add_guest_address()
        print(json.dumps(asyncio.run(inside(int(sys.argv[2])))))
    else:
        print(json.dumps(outside(Path(sys.argv[1]))))
