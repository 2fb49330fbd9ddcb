"""Files of a node that runs k3s: its configuration, the secret by which nodes join, the cluster's authorities.

Paths and keys are those of k3s's documentation ("Configuration file", "Using custom CA
certificates", "Kubelet configuration files", "Private Registry Configuration", "Manual install of units").
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath

import yaml

from mock_device.lab.base.spec import ClusterSpec, K3sSpec
from mock_device.lab.controlplane.addresses import (
    API_PORT,
    CLUSTER_CIDR,
    DNS_ADDRESS,
    DNS_DOMAIN,
    HOST_ADDRESS,
    REGISTRY_PORT,
    SERVICE_CIDR,
)
from mock_device.lab.controlplane.pki import K3S_AUTHORITIES, Pki
from mock_device.lab.controlplane.sshkeys import SshKeys
from mock_device.lab.guest.guest import GuestFile
from mock_device.lab.guest.node_files import common_files
from mock_device.topology import Node

CONFIG = "/etc/rancher/k3s/config.yaml"
REGISTRIES = "/etc/rancher/k3s/registries.yaml"
DATA = PurePosixPath("/var/lib/rancher/k3s")
_KUBELET_CONFIG = DATA / "agent/etc/kubelet.conf.d/10-lab.conf"
_GATES = {
    "server": ("kube-apiserver-arg", "kube-controller-manager-arg", "kube-scheduler-arg"),
    "nodes": ("kubelet-arg", "kube-proxy-arg"),
}


def join_token(pki: Pki, secret: str) -> str:
    """The token of agents: it has a hash of the servers' authority, by which an agent knows its server.

    Format of k3s's documentation ("k3s token", secure format).
    """
    return f"K10{hashlib.sha256(pki.server_ca.read_bytes()).hexdigest()}::server:{secret}"


def config(node: Node, spec: ClusterSpec, k3s: K3sSpec, *, server: bool) -> dict[str, list[str]]:
    """config.yaml of ``node``: the profile's settings, the node's name and address, and the lab's networks."""
    own = {"node-name": [node.name], "node-ip": [node.address], "default-runtime": [spec.default_runtime]}
    parts: list[Mapping[str, list[str]]] = [k3s.nodes, own, _gates("nodes", spec.feature_gates)]
    if server:
        networks = {
            "cluster-cidr": [CLUSTER_CIDR],
            "service-cidr": [SERVICE_CIDR],
            "cluster-dns": [DNS_ADDRESS],
            "cluster-domain": [DNS_DOMAIN],
        }
        served = {"kube-apiserver-arg": [f"runtime-config={spec.runtime_config}"]} if spec.runtime_config else {}
        parts += [k3s.server, networks, _gates("server", spec.feature_gates), served]
    merged: dict[str, list[str]] = {}
    for part in parts:
        for key, values in part.items():
            merged.setdefault(key, []).extend(values)
    return merged


def _gates(part: str, feature_gates: str) -> dict[str, list[str]]:
    return {key: [f"feature-gates={feature_gates}"] for key in _GATES[part]} if feature_gates else {}


def _yaml(settings: Mapping[str, list[str]]) -> bytes:
    """``settings`` with one value as a scalar: k3s reads a list of a flag that cannot be repeated as an error."""
    plain = {key: values[0] if len(values) == 1 else values for key, values in settings.items()}
    return yaml.safe_dump(plain).encode()


def _registries() -> dict[str, object]:
    """The cluster's registry as a mirror of every registry, its own name included; see decision 0027.

    After a mirror, k3s asks the image's registry itself.
    """
    return {"mirrors": {"*": {"endpoint": [f"http://{HOST_ADDRESS}:{REGISTRY_PORT}"]}}}


def k3s_files(
    node: Node, number: int, server: Node, spec: ClusterSpec, k3s: K3sSpec, pki: Pki, keys: SshKeys, secret: str
) -> list[GuestFile]:
    """The files of node ``number`` (from 1) of a cluster whose control plane runs on node ``server``.

    The units of ``lab.build.k3s_image`` start ``k3s server`` or ``k3s agent``, by the environment file that the
    node has. ``secret`` is what nodes join with.
    """
    is_server = node.name == server.name
    files: list[GuestFile] = [
        *common_files(node, number, keys),
        GuestFile(CONFIG, _yaml(config(node, spec, k3s, server=is_server)), 0o600),
        GuestFile(REGISTRIES, yaml.safe_dump(_registries()).encode(), 0o600),
        GuestFile(str(_KUBELET_CONFIG), spec.kubelet_config.encode(), 0o600),
    ]
    if is_server:
        environment = f"K3S_TOKEN={secret}\n"
        files += _authorities(pki)
    else:
        environment = f"K3S_URL=https://{server.address}:{API_PORT}\nK3S_TOKEN={join_token(pki, secret)}\n"
    unit = "k3s" if is_server else "k3s-agent"
    return [*files, GuestFile(f"/etc/systemd/system/{unit}.service.env", environment.encode(), 0o600)]


def _authorities(pki: Pki) -> list[GuestFile]:
    """The cluster's authorities, where k3s looks for them at its first start."""
    return [
        GuestFile(
            str(DATA / "server/tls" / f"{theirs}{suffix}"), (pki.directory / f"{ours}{suffix}").read_bytes(), 0o600
        )
        for ours, theirs in K3S_AUTHORITIES.items()
        for suffix in (".crt", ".key")
    ]
