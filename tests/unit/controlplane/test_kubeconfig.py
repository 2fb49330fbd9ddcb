"""Kubeconfig files."""

from __future__ import annotations

import stat
from base64 import b64decode
from pathlib import Path

import yaml

from mock_device.lab.controlplane.kubeconfig import write_kubeconfig
from mock_device.lab.controlplane.pki import Pki


def test_kubeconfig_embeds_certificates_and_key(pki: Pki, tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "config", pki.identity("admin"), "https://127.0.0.1:1234")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = yaml.safe_load(path.read_text())
    assert content["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1234"
    user = content["users"][0]["user"]
    assert b64decode(user["client-key-data"]) == pki.identity("admin").key.read_bytes()
    assert content["contexts"][0]["name"] == content["current-context"]


def test_kubeconfig_trusts_only_the_authority_of_the_cluster(pki: Pki, tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "config", pki.node("node1"), "https://192.168.122.1:6443", "mine")
    content = yaml.safe_load(path.read_text())
    (cluster,), (user,) = content["clusters"], content["users"]
    assert b64decode(cluster["cluster"]["certificate-authority-data"]) == pki.ca.read_bytes()
    assert (cluster["name"], user["name"]) == ("mine", "node-node1")
    assert content["contexts"] == [{"name": "mine", "context": {"cluster": "mine", "user": "node-node1"}}]
