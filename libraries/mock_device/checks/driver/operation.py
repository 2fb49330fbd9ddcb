"""What the programs of a cluster say of themselves over HTTP: how to ask them, and what the answers must be."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubernetes.client import ApiClient

from mock_device.checks.driver import metrics
from mock_device.checks.errors import CheckError
from mock_device.lab.cluster import deploy
from mock_device.topology import Node, Topology

# Of a verbose answer of /livez and /readyz (k8s.io/apiserver, pkg/server/healthz): `[+]etcd ok`, `[-]etcd failed: …`.
_CHECK = re.compile(r"^\[(?P<mark>[+-])\](?P<name>\S+) (?P<said>.*)$")
_PASSED = re.compile(r"^(livez|readyz) check passed$")


@dataclass(frozen=True)
class HttpAccess:
    """What a client of the API server needs; the files last as long as this process."""

    url: str
    certificate: str
    """Path of the client's certificate, PEM."""
    key: str
    """Path of its key, PEM."""
    authority: str
    """Path of the certificate of the authority that signed the server's, PEM."""
    proxies: dict[str, str]
    """For ``requests``: no proxy of this machine is asked for a port on loopback."""


def access(api: ApiClient) -> HttpAccess:
    """How ``api`` reaches its server, for another client. Raises CheckError when it has no client certificate."""
    found = api.configuration
    if not (found.cert_file and found.key_file and found.ssl_ca_cert):
        raise CheckError("expected a kubeconfig with a client certificate and an authority; look at: lab kubeconfig")
    return HttpAccess(
        str(found.host), str(found.cert_file), str(found.key_file), str(found.ssl_ca_cert), {"no_proxy": "127.0.0.1"}
    )


def proxy_path(pod: str) -> str:
    """Path at the API server below which a pod of the driver answers ``/healthz``, ``/readyz`` and ``/metrics``."""
    return f"/api/v1/namespaces/{deploy.NAMESPACE}/pods/{pod}:{metrics.PORT}/proxy"


def check_complaints(answer: str) -> list[str]:
    """What the API server's verbose answer does not call ok, a sentence each; also an answer without any check."""
    lines = answer.strip().splitlines()
    checks = [match for line in lines if (match := _CHECK.match(line))]
    found = [
        f"check {match['name']}: expected ok, found {match['said']}"
        for match in checks
        if (match["mark"], match["said"]) != ("+", "ok")
    ]
    if not checks:
        found.append(f"expected a list of checks, found {answer[:200]!r}")
    if not lines or not _PASSED.match(lines[-1]):
        found.append(f"expected 'check passed' at the end, found {lines[-1] if lines else 'nothing'!r}")
    return found


def agent_complaints(figures: str, node: Node, allocated: int) -> list[str]:
    """Where a node agent counts other devices than ``node`` has, no VF enabled; ``allocated`` of them are claims'."""
    expected = {"free": len(node.pfs) - allocated, "allocated": allocated}
    return [
        f"{node.name}: {complaint}"
        for state, count in expected.items()
        for complaint in _device_complaints(figures, count, state=state)
    ]


def controller_complaints(figures: str, topology: Topology) -> list[str]:
    """Where the controller counts other devices than the topology has, no VF enabled, a sentence each."""
    return [
        complaint
        for node in topology.nodes
        if node.pfs
        for complaint in _device_complaints(figures, len(node.pfs), node=node.name, device_type="pf")
    ]


def _device_complaints(figures: str, expected: int, **labels: str) -> list[str]:
    found = metrics.parse_value(figures, metrics.DEVICES, **labels)
    if found == expected:
        return []
    return [f"expected {metrics.series(metrics.DEVICES, **labels)} {expected} by the topology, found {found:g}"]
