"""Health endpoints and metrics of a cluster's programs: how to reach them, and what they must report."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubernetes.client import ApiClient

from mock_device.checks.driver import metrics
from mock_device.checks.errors import SkipCheck
from mock_device.driver import current
from mock_device.lab.base.timeouts import Timeout
from mock_device.topology import Node, Topology

# A line of verbose /livez and /readyz (k8s.io/apiserver, pkg/server/healthz): `[+]etcd ok`, `[-]etcd failed: …`.
_CHECK = re.compile(r"^\[(?P<mark>[+-])\](?P<name>\S+) (?P<result>.*)$")
_PASSED = re.compile(r"^(livez|readyz) check passed$")


@dataclass(frozen=True)
class HttpAccess:
    """Settings of a client of the API server; the files exist as long as this process."""

    url: str
    certificate: str
    """Path of the client's certificate, PEM."""
    key: str
    """Path of its key, PEM."""
    authority: str
    """Path of the certificate of the authority that signed the server's certificate, PEM."""
    proxies: dict[str, str]
    """Proxy settings for ``requests``: none for ports on loopback."""
    timeout: float
    """Time-out of a request, wall time in seconds."""


def access(api: ApiClient) -> HttpAccess:
    """How ``api`` reaches its server, for another client. Raises SkipCheck if it has no client certificate.

    That is so where users log in by a token, or by a program that the kubeconfig names.
    """
    found = api.configuration
    if not (found.cert_file and found.key_file and found.ssl_ca_cert):
        raise SkipCheck("the kubeconfig has no client certificate with an authority, which these tests need")
    return HttpAccess(
        str(found.host),
        str(found.cert_file),
        str(found.key_file),
        str(found.ssl_ca_cert),
        {"no_proxy": "127.0.0.1"},
        Timeout.METRICS.seconds,
    )


def proxy_path(pod: str) -> str:
    """Path on the API server below which a driver pod serves ``/healthz``, ``/readyz`` and ``/metrics``."""
    return f"/api/v1/namespaces/{current.driver().namespace}/pods/{pod}:{metrics.PORT}/proxy"


def check_complaints(answer: str) -> list[str]:
    """Failed checks in the API server's verbose answer, a message each; an answer without checks is one as well."""
    lines = answer.strip().splitlines()
    checks = [match for line in lines if (match := _CHECK.match(line))]
    found = [
        f"check {match['name']}: expected ok, found {match['result']}"
        for match in checks
        if (match["mark"], match["result"]) != ("+", "ok")
    ]
    if not checks:
        found.append(f"expected a list of checks, found {answer[:200]!r}")
    if not lines or not _PASSED.match(lines[-1]):
        found.append(f"expected 'check passed' at the end, found {lines[-1] if lines else 'nothing'!r}")
    return found


def agent_complaints(figures: str, node: Node, allocated: int) -> list[str]:
    """How a node agent's device counts differ from ``node`` with no VF enabled and ``allocated`` devices allocated."""
    expected = {"free": len(node.pfs) - allocated, "allocated": allocated}
    return [
        f"{node.name}: {complaint}"
        for state, count in expected.items()
        for complaint in _device_complaints(figures, count, state=state)
    ]


def controller_complaints(figures: str, topology: Topology) -> list[str]:
    """How the controller's device counts differ from the topology with no VF enabled, a message each."""
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
