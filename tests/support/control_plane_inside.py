"""Runs a control plane as a supervisor does, sends requests, and prints the answers as JSON.

Started by ``test_controlplane.py`` as the first process of network, mount and
PID namespaces: when it ends, the kernel kills everything that it started.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
from pyroute2 import IPRoute

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.processes import Children
from mock_device.lab.controlplane import https
from mock_device.lab.controlplane.addresses import HOST_ADDRESS, PREFIX_LENGTH, SERVICE_CIDR
from mock_device.lab.controlplane.bootstrap import bootstrap
from mock_device.lab.controlplane.components import Component, wait_ready
from mock_device.lab.controlplane.controlplane import API_SERVER, ControlPlane
from mock_device.lab.controlplane.kubeconfig import write_kubeconfig
from mock_device.lab.controlplane.pki import Identity, Pki, create_pki
from mock_device.lab.kube import kubeclient, manifests
from support import DATA

NODES = [("node1", "192.168.122.211"), ("node2", "192.168.122.212")]
SERVICE = "10.96.7.7"
GREETING = b"hello from behind the service"
MANIFESTS = DATA / "controlplane"


def set_up_network() -> None:
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
        ip.link("add", ifname="cluster", kind="bridge")
        bridge = ip.link_lookup(ifname="cluster")[0]
        ip.addr("add", index=bridge, address=HOST_ADDRESS, prefixlen=PREFIX_LENGTH)
        ip.link("set", index=bridge, state="up")
        ip.route("add", dst=SERVICE_CIDR, oif=bridge)


def call(path: str, identity: Identity, method: str = "GET", body: Any = None, kind: str = "json") -> tuple[int, Any]:
    """Status and decoded answer of a request to the API server."""
    data = None if body is None else json.dumps(body).encode()
    types = {"json": "application/json", "merge": "application/merge-patch+json"}
    status, text = https.request(f"{API_SERVER}{path}", identity, method=method, body=data, content_type=types[kind])
    return status, json.loads(text)


def anonymous_status(ca: Path) -> int:
    context = ssl.create_default_context(cafile=str(ca))
    connection = http.client.HTTPSConnection(HOST_ADDRESS, 6443, timeout=5, context=context)
    connection.request("GET", "/api/v1/nodes")
    return connection.getresponse().status


def ask_as_admin(admin: Identity) -> dict[str, Any]:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"group": "*", "resource": "*", "verb": "*"}},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    return {
        "version": call("/version", admin)[1],
        "may do everything": call(path, admin, "POST", review)[1]["status"]["allowed"],
        "resource versions": [item["version"] for item in call("/apis/resource.k8s.io", admin)[1]["versions"]],
    }


def register(name: str, address: str, identity: Identity) -> int:
    """Register a node as its kubelet does."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}
    status, _ = call("/api/v1/nodes", identity, "POST", node)
    call(f"/api/v1/nodes/{name}/status", identity, "PATCH", healthy(address), "merge")
    return status


def healthy(address: str) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is ready"}
    resources = {"cpu": "2", "memory": "1Gi", "pods": "10"}
    addresses = [{"type": "InternalIP", "address": address}]
    return {
        "status": {"addresses": addresses, "capacity": resources, "allocatable": resources, "conditions": [condition]}
    }


def ask_as_node(pki: Pki) -> dict[str, int]:
    """HTTP status of each request that node1 tries."""
    node1, node2 = pki.node("node1"), pki.node("node2")
    label = {"metadata": {"labels": {"stolen": "yes"}}}
    return {
        "registers itself": register(*NODES[0], node1),
        "registers another": register(*NODES[1], node1),
        "other registers itself": register(*NODES[1], node2),
        "labels itself": call("/api/v1/nodes/node1", node1, "PATCH", label, "merge")[0],
        "labels another": call("/api/v1/nodes/node2", node1, "PATCH", label, "merge")[0],
        "reports for another": call("/api/v1/nodes/node2/status", node1, "PATCH", healthy("1.2.3.4"), "merge")[0],
        "lists all secrets": call("/api/v1/secrets", node1)[0],
        "lists its pods": call("/api/v1/pods?fieldSelector=spec.nodeName%3Dnode1", node1)[0],
        "binds roles": call("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", node1)[0],
    }


async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    await writer.drain()
    writer.close()


async def ask_service(deadline: float) -> str:
    """Answer at the service's address, where the API server would reach a webhook."""
    error: Exception | None = None
    while time.monotonic() < deadline:
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(SERVICE, 80), 2)
            answer = await asyncio.wait_for(reader.read(), 2)
            writer.close()
            return answer.decode()
        except (OSError, TimeoutError) as failure:
            error = failure
            await asyncio.sleep(0.2)
    return f"no answer: {error!r}"


def resolve(name: str, server: str) -> str:
    """Address of ``name`` or the answer's code: RFC 1035, section 4.1."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0" + b"\0\x01\0\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        query.settimeout(5)
        query.sendto(struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + question, (server, 53))
        answer = query.recv(4096)
    code, answers = answer[3] & 0xF, struct.unpack("!H", answer[6:8])[0]
    return socket.inet_ntoa(answer[-4:]) if answers else f"code {code}"


def ask_dra(kubeconfig: Path, admin: Identity) -> dict[str, Any]:
    """Whether the scheduler respects shared counters: one claim asks for a PF, another one for a VF of it."""
    api = kubeclient.connect(kubeconfig)
    first = manifests.apply(api, MANIFESTS / "counters.yaml")
    again = manifests.apply(api, MANIFESTS / "counters.yaml")
    claims = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
    slices = call("/apis/resource.k8s.io/v1/resourceslices", admin)[1]["items"]

    def count_allocated() -> list[str]:
        items = call(claims, admin)[1]["items"]
        return [item["metadata"]["name"] for item in items if item.get("status", {}).get("allocation")]

    deadline = time.monotonic() + 20
    message = ""
    while time.monotonic() < deadline:
        pods = call("/api/v1/namespaces/default/pods", admin)[1]["items"]
        messages = [c.get("message", "") for pod in pods for c in pod["status"].get("conditions", [])]
        message = next((text for text in messages if "cannot allocate" in text), "")
        if count_allocated() and message:
            break
        time.sleep(0.2)
    result = {
        "applied": first,
        "applied again": again == first,
        "counters kept": sum("sharedCounters" in item["spec"] for item in slices),
        "devices with counters": sum(
            "consumesCounters" in device for item in slices for device in item["spec"].get("devices", [])
        ),
        "allocated": len(count_allocated()),
        "scheduler says": message,
    }
    manifests.delete(api, MANIFESTS / "counters.yaml")
    result["left after delete"] = len(call(claims, admin)[1]["items"])
    return result


def ask_waits(kubeconfig: Path) -> dict[str, str]:
    """Errors of waits that time out."""
    api = kubeclient.connect(kubeconfig)
    manifests.apply(api, MANIFESTS / "stuck.yaml")
    says = {}
    waits: dict[str, Callable[[], None]] = {
        "node": lambda: kubeclient.wait_nodes_ready(api, ["node1", "node9"], 1),
        "daemonset": lambda: kubeclient.wait_daemonset(api, "default", "absent", 1),
        "deployment": lambda: kubeclient.wait_deployment(api, "default", "stuck", 3),
    }
    for name, wait in waits.items():
        try:
            wait()
            says[name] = "nothing"
        except StepError as error:
            says[name] = str(error)
    kubeclient.wait_nodes_ready(api, ["node1"], 5)
    return says


async def main(binaries: Path, folder: Path) -> Mapping[str, Any]:
    await asyncio.to_thread(set_up_network)
    begin = time.monotonic()
    pki = create_pki(folder / "pki", NODES)
    admin = pki.identity("admin")
    report: dict[str, Any] = {"seconds": {"certificates": time.monotonic() - begin}}
    logs = folder / "logs"
    logs.mkdir()
    ended: list[str] = []
    children = Children(logs, lambda child: ended.append(child.name))
    # As in a restored cluster: kube-proxy has the name of a node, which registers soon.
    plane = ControlPlane(binaries, folder / "control-plane", pki, proxy_node="node1")
    plane.prepare()
    components = {component.name: component for component in plane.components()}

    async def start(component: Component) -> None:
        await children.start(component.name, component.argv, cwd=folder, env=component.env)
        if component.needed_by_nodes:
            await wait_ready(component, children[component.name])

    for name in ("etcd", "kube-apiserver"):
        await start(components[name])
    report["seconds"]["API server"] = time.monotonic() - begin
    dns = "coredns" in components
    await asyncio.to_thread(bootstrap, pki, dns=dns)
    await asyncio.to_thread(bootstrap, pki, dns=dns)
    await asyncio.gather(
        *(start(component) for component in components.values() if "kube-apiserver" in component.after)
    )
    report["seconds"]["nodes may come"] = time.monotonic() - begin
    report["admin"] = await asyncio.to_thread(ask_as_admin, admin)
    report["anonymous"] = await asyncio.to_thread(anonymous_status, pki.ca)
    report["node"] = await asyncio.to_thread(ask_as_node, pki)
    kubeconfig = write_kubeconfig(folder / "kubeconfig", admin, API_SERVER)
    report["dra"] = await asyncio.to_thread(ask_dra, kubeconfig, admin)
    report["waits"] = await asyncio.to_thread(ask_waits, kubeconfig)
    for component in components.values():
        await wait_ready(component, children[component.name])
    report["seconds"]["services"] = time.monotonic() - begin
    async with await asyncio.start_server(greet, HOST_ADDRESS, 8080):
        service = MANIFESTS / "service.yaml"
        await asyncio.to_thread(manifests.apply, kubeclient.connect(kubeconfig), service)
        report["service"] = await ask_service(time.monotonic() + 15)
    if dns:
        names = ("kubernetes.default.svc.cluster.local", "echo.default.svc.cluster.local", "nowhere.example")
        report["dns"] = {name: await asyncio.to_thread(resolve, name, "10.96.0.10") for name in names}
    report["memory"] = {state.name: state.memory >> 20 for state in children.states()}
    listening = {
        ":".join(map(str, connection.laddr))
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    report["listening"] = sorted(listening)
    report["ended"] = ended
    await children.kill_all()
    return report


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))))
