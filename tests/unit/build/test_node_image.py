"""The node image, and whether it fits the files that each node gets at boot."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest
from support.topologies import CLUSTER

from mock_device.lab.base.variables import PROFILE_SCHEMA
from mock_device.lab.build.node_image import (
    DATA,
    MASKED,
    ON_DEMAND,
    PACKAGES,
    SERVICES,
    kube_proxy_config,
    kubelet_config,
)
from mock_device.lab.controlplane.addresses import (
    CLUSTER_CIDR,
    DNS_ADDRESS,
    HOST_ADDRESS,
    REGISTRY_NAME,
    REGISTRY_PORT,
    pod_cidr,
)
from mock_device.lab.controlplane.pki import create_pki
from mock_device.lab.controlplane.sshkeys import create_ssh_keys
from mock_device.lab.guest.node_files import cni_config, node_files

IN_THE_IMAGE = {"/etc/kubernetes/kubelet.yaml", "/etc/kubernetes/kube-proxy.yaml"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, int]]:
    """Content and mode of the second node's files, by path."""
    folder = tmp_path_factory.mktemp("node")
    pki = create_pki(folder / "pki", [(node.name, node.address) for node in CLUSTER.nodes])
    keys = create_ssh_keys(folder / "ssh", [node.name for node in CLUSTER.nodes])
    found = node_files(CLUSTER.nodes[1], 2, pki, keys, "A=true,B=false", "runc", "maxPods: 9\n")
    return {file.path: (file.content, file.mode) for file in found}


def test_files_named_by_units_and_configurations_exist(files: dict[str, tuple[bytes, int]]) -> None:
    texts = [json.dumps([kubelet_config(), kube_proxy_config()])]
    texts += [path.read_text() for path in DATA.rglob("*") if path.is_file()]
    named = set(re.findall(r"/etc/kubernetes/[-.\w]+", "\n".join(texts)))
    assert len(named) > 5
    folders = {str(PurePosixPath(path).parent) for path in files}
    assert named <= files.keys() | folders | IN_THE_IMAGE


def test_profile_adds_to_the_configuration_of_the_kubelet(files: dict[str, tuple[bytes, int]]) -> None:
    unit = (DATA / "etc/systemd/system/kubelet.service").read_text()
    folder = re.findall(r"--config-dir=(\S+)", unit)
    assert files[f"{folder[0]}/10-profile.conf"][0] == b"maxPods: 9\n"


def test_secrets_are_only_readable_by_root(files: dict[str, tuple[bytes, int]]) -> None:
    secret = {
        path for path, (content, _) in files.items() if b"PRIVATE KEY" in content or b"client-key-data" in content
    }
    assert len(secret) == 4
    assert {path for path, (_, mode) in files.items() if mode == 0o600} == secret


def test_kubelet_gets_its_address_and_feature_gates(files: dict[str, tuple[bytes, int]]) -> None:
    assert files["/etc/kubernetes/kubelet.env"][0] == b"NODE_IP=192.168.122.212\nFEATURE_GATES=A=true,B=false\n"
    unit = (DATA / "etc/systemd/system/kubelet.service").read_text()
    assert {"NODE_IP", "FEATURE_GATES"} <= set(re.findall(r"\$\{?(\w+)", unit))


def test_default_runtime_is_one_of_those_that_containerd_knows(files: dict[str, tuple[bytes, int]]) -> None:
    config = tomllib.loads((DATA / "etc/containerd/config.toml").read_text())
    (path,) = [path for path in files if any(fnmatch(path, pattern) for pattern in config["imports"])]
    imported = tomllib.loads(files[path][0].decode())
    assert imported["version"] == config["version"]
    plugin = "io.containerd.cri.v1.runtime"
    # The last of containerd's files that has a value wins; one file must have it.
    assert imported["plugins"][plugin] == {"containerd": {"default_runtime_name": "runc"}}
    known = config["plugins"][plugin]["containerd"]
    assert known.keys() == {"runtimes"}
    choices = json.loads(PROFILE_SCHEMA.read_text())["properties"]["default-runtime"]["enum"]
    assert known["runtimes"].keys() == set(choices)
    # crun runs by a script, see test_node_data.py.
    programs = {"crun": "/usr/local/bin/crun", "runc": "/usr/bin/runc"}
    assert {name: entry["options"]["BinaryName"] for name, entry in known["runtimes"].items()} == programs
    assert set(choices) <= set(PACKAGES)


def test_each_node_has_its_own_pod_addresses() -> None:
    ranges = set()
    for number in (1, 2):
        bridge = json.loads(cni_config(number))["plugins"][0]
        ((entry,),) = bridge["ipam"]["ranges"]
        assert entry["subnet"] == pod_cidr(number)
        ranges.add(entry["subnet"])
    assert len(ranges) == 2


def test_kubelet_uses_images_whose_content_it_pulled_under_another_name() -> None:
    assert kubelet_config()["imagePullCredentialsVerificationPolicy"] == "NeverVerify"


def test_containerd_asks_the_clusters_registry_first() -> None:
    config = tomllib.loads((DATA / "etc/containerd/config.toml").read_text())
    assert config["plugins"]["io.containerd.cri.v1.images"]["registry"] == {"config_path": "/etc/containerd/certs.d"}
    hosts = DATA / "etc/containerd/certs.d"
    url = f"http://{HOST_ADDRESS}:{REGISTRY_PORT}"
    # Without a key server containerd asks the image's own registry next.
    default = tomllib.loads((hosts / "_default/hosts.toml").read_text())
    assert default == {"host": {url: {"capabilities": ["pull", "resolve"]}}}
    # containerd, core/remotes/docker/config/config_unix.go: NAME_PORT_ stands for NAME:PORT.
    own = tomllib.loads((hosts / f"{REGISTRY_NAME}_{REGISTRY_PORT}_/hosts.toml").read_text())
    assert own == {"server": url}


def test_nodes_ask_the_clusters_name_server() -> None:
    assert (DATA / "etc/resolv.conf").read_text() == f"nameserver {HOST_ADDRESS}\n"


def test_logind_starts_when_it_is_asked() -> None:
    """``systemctl reboot`` asks it."""
    assert not set(ON_DEMAND) & set(MASKED)
    assert "systemd-logind.service" in ON_DEMAND


def test_kubelet_asks_the_api_server_for_access_decisions() -> None:
    config = kubelet_config()
    assert config["authentication"] == {
        "anonymous": {"enabled": False},
        "webhook": {"enabled": True},
        "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"},
    }
    assert config["authorization"] == {"mode": "Webhook"}


def test_nodes_and_control_plane_agree_on_addresses() -> None:
    assert kubelet_config()["clusterDNS"] == [DNS_ADDRESS]
    assert kube_proxy_config()["clusterCIDR"] == CLUSTER_CIDR


def test_no_service_of_a_node_is_masked() -> None:
    assert not {f"{service}.service" for service in SERVICES} & set(MASKED)


@pytest.mark.parametrize(
    "service", [name for name in SERVICES if (DATA / f"etc/systemd/system/{name}.service").exists()]
)
def test_programs_of_the_labs_units_exist(service: str) -> None:
    unit = (DATA / f"etc/systemd/system/{service}.service").read_text()
    for program in re.findall(r"^Exec\w+=[-@+!]*(/usr/local/\S+)", unit, re.MULTILINE):
        path = DATA / Path(program).relative_to("/")
        built = {"kubelet", "kube-proxy", "containerd"}
        assert path.exists() or path.name in built, program
