"""The first objects of a cluster: role bindings and the DNS service."""

from __future__ import annotations

import json

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.controlplane import https
from mock_device.lab.controlplane.addresses import DNS_ADDRESS, HOST_ADDRESS
from mock_device.lab.controlplane.controlplane import API_SERVER
from mock_device.lab.controlplane.pki import ADMIN_GROUP, DNS_USER, KUBELET_CLIENT, Pki

_RBAC = "rbac.authorization.k8s.io"
_DNS_LABELS = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}


def bootstrap(pki: Pki, *, dns: bool, server: str = API_SERVER) -> None:
    """Apply the first objects; can be repeated. The API server at ``server`` must be ready.

    ``dns`` adds the objects of the DNS server that listens on the bridge address.
    Raises StepError when the API server refuses an object, OSError when it cannot be reached.
    """
    with pki.bootstrap_identity() as superuser:
        for path, body in objects(dns=dns).items():
            status, answer = https.request(
                f"{server}{path}?fieldManager=lab&force=true",
                superuser,
                method="PATCH",
                body=json.dumps(body).encode(),
                content_type="application/apply-patch+yaml",
                timeout=Timeout.FIRST_OBJECTS.seconds,
            )
            if status not in {200, 201}:
                raise StepError(f"the API server answered {status} to {path}: {answer.strip()[:500]}")


def objects(*, dns: bool) -> dict[str, dict[str, object]]:
    """The objects by their API path."""
    roles = f"/apis/{_RBAC}/v1/clusterroles"
    bindings = f"/apis/{_RBAC}/v1/clusterrolebindings"
    result: dict[str, dict[str, object]] = {
        f"{bindings}/mock-device:admins": _binding("mock-device:admins", "Group", ADMIN_GROUP, "cluster-admin"),
        f"{bindings}/mock-device:kubelet-api": _binding(
            "mock-device:kubelet-api", "User", KUBELET_CLIENT, "system:kubelet-api-admin"
        ),
    }
    if dns:
        result[f"{roles}/system:coredns"] = _dns_role()
        result[f"{bindings}/system:coredns"] = _binding("system:coredns", "User", DNS_USER, "system:coredns")
        result["/api/v1/namespaces/kube-system/services/kube-dns"] = _dns_service()
        slices = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices"
        result[f"{slices}/kube-dns-host"] = _dns_endpoints()
    return result


def _binding(name: str, kind: str, subject: str, role: str) -> dict[str, object]:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _RBAC, "kind": kind, "name": subject}],
    }


def _dns_role() -> dict[str, object]:
    """Rights of CoreDNS's ``kubernetes`` plugin (its README, and the ClusterRole of its deployment)."""
    verbs = ["list", "watch"]
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": verbs},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs},
        ],
    }


def _dns_service() -> dict[str, object]:
    """A service without a selector, because CoreDNS is a process on the host, not a pod."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": _DNS_LABELS},
        "spec": {
            "clusterIP": DNS_ADDRESS,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            ],
        },
    }


def _dns_endpoints() -> dict[str, object]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns-host",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "lab"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [HOST_ADDRESS], "conditions": {"ready": True}}],
        "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        ],
    }
