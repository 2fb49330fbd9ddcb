"""Files that differ from node to node: identity, addresses, keys."""

from __future__ import annotations

import json

from mock_device.lab.controlplane.addresses import API_PORT, HOST_ADDRESS, pod_cidr
from mock_device.lab.controlplane.kubeconfig import kubeconfig
from mock_device.lab.controlplane.pki import Pki
from mock_device.lab.controlplane.sshkeys import SshKeys
from mock_device.lab.guest.guest import GuestFile
from mock_device.topology import Node


def cni_config(number: int) -> str:
    """CNI network list of node ``number``: a bridge with its own range of pod addresses.

    CNI specification 1.0, section 1 (network configuration format). No masquerading: pods
    of all nodes reach each other by routes, and the cluster has no other network.
    """
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": pod_cidr(number)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}, "backend": "nftables"}
    return json.dumps({"cniVersion": "1.0.0", "name": "mock", "plugins": [bridge, portmap]}, indent=1)


def containerd_config(default_runtime: str) -> str:
    """Settings of containerd that ``/etc/containerd/config.toml`` imports."""
    table = '[plugins."io.containerd.cri.v1.runtime".containerd]'
    return f'version = 3\n\n{table}\ndefault_runtime_name = "{default_runtime}"\n'


def common_files(node: Node, number: int, keys: SshKeys) -> list[GuestFile]:
    """Files of node ``number`` (from 1) in clusters of every make: its pod network and its SSH keys."""
    host_key = keys.host(node.name)
    return [
        GuestFile("/etc/cni/net.d/10-mock.conflist", cni_config(number).encode()),
        GuestFile("/etc/ssh/ssh_host_ed25519_key", host_key.private.read_bytes(), 0o600),
        GuestFile("/etc/ssh/ssh_host_ed25519_key.pub", host_key.public.read_bytes()),
    ]


def node_files(
    node: Node, number: int, pki: Pki, keys: SshKeys, feature_gates: str, default_runtime: str, kubelet_config: str
) -> list[GuestFile]:
    """The files of node ``number`` (from 1); the units of ``lab.build.node_image`` read them.

    ``feature_gates`` is the value of the kubelet's ``--feature-gates``, ``default_runtime`` the name of one of
    containerd's runtimes, ``kubelet_config`` a KubeletConfiguration (YAML) whose keys come on top of the node image's.
    """
    server = f"https://{HOST_ADDRESS}:{API_PORT}"
    identity = pki.node(node.name)
    return [
        *common_files(node, number, keys),
        GuestFile("/etc/kubernetes/ca.crt", pki.ca.read_bytes()),
        GuestFile("/etc/kubernetes/kubelet.crt", identity.certificate.read_bytes()),
        GuestFile("/etc/kubernetes/kubelet.key", identity.key.read_bytes(), 0o600),
        GuestFile("/etc/kubernetes/kubelet.conf", kubeconfig(identity, server).encode(), 0o600),
        GuestFile("/etc/kubernetes/kube-proxy.conf", kubeconfig(pki.node_proxy(node.name), server).encode(), 0o600),
        GuestFile("/etc/kubernetes/kubelet.env", f"NODE_IP={node.address}\nFEATURE_GATES={feature_gates}\n".encode()),
        GuestFile("/etc/kubernetes/kubelet.conf.d/10-profile.conf", kubelet_config.encode()),
        GuestFile("/etc/containerd/conf.d/default-runtime.toml", containerd_config(default_runtime).encode()),
    ]
