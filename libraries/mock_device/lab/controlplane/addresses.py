"""Addresses and ports, the same in every cluster: each has its own network namespace."""

from __future__ import annotations

HOST_ADDRESS = "192.168.122.1"
"""The control plane's address on the cluster's bridge."""
PREFIX_LENGTH = 24
CLUSTER_CIDR = "10.244.0.0/16"
"""Addresses of all pods."""
SERVICE_CIDR = "10.96.0.0/16"
DNS_ADDRESS = "10.96.0.10"
DNS_DOMAIN = "cluster.local"
API_PORT = 6443
SSH_PORT = 22
REGISTRY_PORT = 5000
REGISTRY_NAME = "registry.mock-device.internal"
"""The registry's name in the cluster; no public name ends in ``internal``."""
OUTSIDE_ADDRESS = "203.0.113.2"
"""The cluster's address on the link to passt(1), which no network uses (RFC 5737)."""
OUTSIDE_GATEWAY = "203.0.113.1"
OUTSIDE_DNS = "203.0.113.3"
"""passt forwards DNS queries from here to this machine's name server."""


def pod_cidr(number: int) -> str:
    """Pod addresses of node ``number``, which counts from 1."""
    return f"10.244.{number}.0/24"
