"""Profiles of clusters that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.variables import topology_path
from mock_device.lab.cluster import inventory, profile
from mock_device.lab.cluster.ssh import JumpHost

PROFILE = """\
kind: external
kubeconfig: files/kubeconfig
context: mine
ssh: {user: admin, port: 2022, key: files/key, known-hosts: /etc/hosts_known, sudo: true}
nodes:
  - {name: worker1, host: 192.0.2.1}
  - {name: worker2, user: root, sudo: false, jump: {host: gate, user: guest}}
install: {module: none}
topology: numa-cluster
timeout-factor: 3
"""


def load(tmp_path: Path, text: str) -> inventory.Inventory:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return inventory.load(str(path))


def test_nodes_have_the_profiles_ssh_settings_unless_they_have_their_own(tmp_path: Path) -> None:
    found = load(tmp_path, PROFILE)
    first, second = found.nodes
    assert (first.host, first.port, first.user, first.sudo, first.jump) == ("192.0.2.1", 2022, "admin", True, None)
    assert (first.key_file, first.known_hosts) == (tmp_path / "files/key", Path("/etc/hosts_known"))
    assert (second.host, second.port, second.user, second.sudo) == ("worker2", 2022, "root", False)
    assert second.jump == JumpHost("gate", 22, "guest", tmp_path / "files/key", Path("/etc/hosts_known"))
    assert (found.kubeconfig, found.context) == (tmp_path / "files/kubeconfig", "mine")
    assert (found.module, found.driver, found.namespace) == ("none", "manifests", "mock-device-tests")
    assert found.topology == topology_path("numa-cluster")
    assert found.timeout_factor == 3


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    found = load(tmp_path, "{kind: external, kubeconfig: ~/.kube/config, nodes: [{name: worker1}]}")
    (node,) = found.nodes
    assert (node.host, node.port, node.user, node.sudo) == ("worker1", 22, "root", False)
    assert node.key_file == Path("/home/me/.ssh/id_ed25519")
    assert node.known_hosts == Path("/home/me/.ssh/known_hosts")
    assert found.kubeconfig == Path("/home/me/.kube/config")
    assert (found.module, found.driver, found.context, found.topology) == ("pod", "manifests", "", None)
    assert found.timeout_factor == 1


def test_copy_is_read_with_the_paths_of_its_origin(tmp_path: Path) -> None:
    origin = load(tmp_path, PROFILE)
    copy = tmp_path / "elsewhere" / "copy.yaml"
    copy.parent.mkdir()
    copy.write_text(PROFILE)
    assert inventory.load_copy(copy, origin.path) == origin


def test_template_of_the_project_is_valid() -> None:
    assert inventory.load("external").node_names == ["worker1", "worker2"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("kind: external", "kind: embedded", "this key is not allowed here"),
        ("kubeconfig: files/kubeconfig\n", "", "expected the key kubeconfig"),
        ("worker2", "worker1", "nodes: worker1 stands there more than once"),
        ("topology: numa-cluster", "topology: nowhere", "no topology 'nowhere'; available: "),
        ("topology: numa-cluster", "topology: nowhere.yaml", "no topology '.*/nowhere.yaml'; available: "),
        ("{module: none}", "{module: dkms}", "install.module: expected .*kmm.*, found 'dkms'"),
        ("port: 2022", "port: 70000", "ssh.port: expected a number from 1 to 65535, found 70000"),
        ("topology:", "accelerator: kvm\ntopology:", "accelerator: this key is not allowed here"),
    ],
)
def test_bad_profile_is_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in PROFILE
    with pytest.raises(StepError, match=reason):
        load(tmp_path, PROFILE.replace(old, new, 1))


def test_profiles_of_other_kinds_start_clusters_and_these_do_not(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="expected kind external, found embedded, which starts clusters: lab up"):
        inventory.load("embedded")
    with pytest.raises(StepError, match="describes a cluster that exists; use it by: lab attach --profile external"):
        profile.load("external")


def test_unknown_node_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no node 'worker3' in .*; it has worker1, worker2"):
        load(tmp_path, PROFILE).node("worker3")
