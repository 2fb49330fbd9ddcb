"""Files of nodes that run k3s server and k3s agent."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from support.fake_supervisor import SPEC
from support.topologies import CLUSTER

from mock_device.lab.base.spec import K3sSpec
from mock_device.lab.controlplane.pki import Pki, create_k3s_pki
from mock_device.lab.controlplane.sshkeys import SshKeys, create_ssh_keys
from mock_device.lab.guest.guest import GuestFile
from mock_device.lab.guest.k3s_files import k3s_files

SERVER, AGENT = CLUSTER.nodes
K3S = K3sSpec(
    server={"disable": ["traefik", "coredns"], "flannel-backend": ["none"]},
    nodes={"resolv-conf": ["/etc/resolv.conf"], "kubelet-arg": ["v=2"]},
)
TLS = "/var/lib/rancher/k3s/server/tls"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    create_k3s_pki(folder)
    create_ssh_keys(folder, [SERVER.name, AGENT.name])
    return folder


def files(pki: Path, number: int, gates: str = "A=true,B=false") -> dict[str, GuestFile]:
    node = CLUSTER.nodes[number - 1]
    spec = replace(SPEC, feature_gates=gates, runtime_config="some/v1=true", default_runtime="runc")
    found = k3s_files(node, number, SERVER, spec, K3S, Pki(pki, "server-ca"), SshKeys(pki), "secret")
    return {file.path: file for file in found}


def config(found: dict[str, GuestFile]) -> dict[str, object]:
    result: dict[str, object] = yaml.safe_load(found["/etc/rancher/k3s/config.yaml"].content)
    return result


def test_server_gets_its_own_flags_those_of_nodes_and_the_labs_networks(pki: Path) -> None:
    gates = "feature-gates=A=true,B=false"
    assert config(files(pki, 1)) == {
        "node-name": SERVER.name,
        "node-ip": SERVER.address,
        "default-runtime": "runc",
        "resolv-conf": "/etc/resolv.conf",
        "disable": ["traefik", "coredns"],
        "flannel-backend": "none",
        "cluster-cidr": "10.244.0.0/16",
        "service-cidr": "10.96.0.0/16",
        "cluster-dns": "10.96.0.10",
        "cluster-domain": "cluster.local",
        "kubelet-arg": ["v=2", gates],
        "kube-proxy-arg": gates,
        "kube-apiserver-arg": [gates, "runtime-config=some/v1=true"],
        "kube-controller-manager-arg": gates,
        "kube-scheduler-arg": gates,
    }


def test_agent_gets_flags_of_nodes_only(pki: Path) -> None:
    assert config(files(pki, 2, gates="")) == {
        "node-name": AGENT.name,
        "node-ip": AGENT.address,
        "default-runtime": "runc",
        "resolv-conf": "/etc/resolv.conf",
        "kubelet-arg": "v=2",
    }


def test_each_node_has_the_environment_of_its_unit_only(pki: Path) -> None:
    server, agent = files(pki, 1), files(pki, 2)
    hash_of_authority = hashlib.sha256((pki / "server-ca.crt").read_bytes()).hexdigest()
    assert server["/etc/systemd/system/k3s.service.env"].content == b"K3S_TOKEN=secret\n"
    assert agent["/etc/systemd/system/k3s-agent.service.env"].content.decode().splitlines() == [
        f"K3S_URL=https://{SERVER.address}:6443",
        f"K3S_TOKEN=K10{hash_of_authority}::server:secret",
    ]
    assert "/etc/systemd/system/k3s-agent.service.env" not in server
    assert "/etc/systemd/system/k3s.service.env" not in agent


def test_only_the_server_gets_the_authorities(pki: Path) -> None:
    server, agent = files(pki, 1), files(pki, 2)
    names = ("client-ca", "server-ca", "request-header-ca", "etcd/server-ca", "etcd/peer-ca")
    assert {path for path in server if path.startswith(TLS)} == {
        f"{TLS}/{name}.{suffix}" for name in names for suffix in ("crt", "key")
    }
    assert server[f"{TLS}/client-ca.key"].content == (pki / "ca.key").read_bytes()
    assert not any(path.startswith(TLS) for path in agent)


def test_secrets_are_readable_by_root_only(pki: Path) -> None:
    for number in (1, 2):
        found = files(pki, number)
        secret = [path for path, file in found.items() if b"secret" in file.content or b"PRIVATE KEY" in file.content]
        assert secret
        assert {found[path].mode for path in secret} == {0o600}


def test_the_clusters_registry_is_asked_first_for_every_image(pki: Path) -> None:
    for number in (1, 2):
        registries = files(pki, number)["/etc/rancher/k3s/registries.yaml"]
        assert yaml.safe_load(registries.content) == {"mirrors": {"*": {"endpoint": ["http://192.168.122.1:5000"]}}}


def test_kubelet_and_pod_network_are_configured_on_every_node(pki: Path) -> None:
    for number in (1, 2):
        found = files(pki, number)
        assert found["/var/lib/rancher/k3s/agent/etc/kubelet.conf.d/10-lab.conf"].content == b"maxPods: 200\n"
        assert f"10.244.{number}.0/24" in found["/etc/cni/net.d/10-mock.conflist"].content.decode()
        # The files of the lab's other layout would start its kubelet.
        assert not any(path.startswith("/etc/kubernetes") for path in found)
