"""Contexts of a user's kubeconfig."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mock_device.lab.base.errors import StepError
from mock_device.lab.kube import contexts, kubeclient

KUBECONFIG = """\
current-context: one
clusters:
- {name: c1, cluster: {server: 'https://192.0.2.1:6443', certificate-authority: pki/ca.crt}}
- {name: c2, cluster: {server: 'https://192.0.2.2:6443'}}
users:
- {name: u1, user: {client-certificate: pki/me.crt, client-key: /etc/me.key}}
- {name: u2, user: {exec: {command: ./login, apiVersion: v1}}}
contexts:
- {name: one, context: {cluster: c1, user: u1, namespace: mine}}
- {name: two, context: {cluster: c2, user: u2}}
- {name: lost, context: {cluster: c3, user: u1}}
"""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(KUBECONFIG)
    return path


def test_current_context_is_kept_with_the_wanted_namespace(kubeconfig: Path, tmp_path: Path) -> None:
    found = yaml.safe_load(contexts.with_namespace(kubeconfig, "", "tests"))
    assert found["contexts"] == [{"name": "one", "context": {"cluster": "c1", "user": "u1", "namespace": "tests"}}]
    assert found["current-context"] == "one"
    assert [item["name"] for item in found["clusters"]] == ["c1"]
    assert found["clusters"][0]["cluster"]["certificate-authority"] == str(tmp_path / "pki/ca.crt")
    user = found["users"][0]["user"]
    assert (user["client-certificate"], user["client-key"]) == (str(tmp_path / "pki/me.crt"), "/etc/me.key")


def test_named_context_is_taken(kubeconfig: Path, tmp_path: Path) -> None:
    found = yaml.safe_load(contexts.with_namespace(kubeconfig, "two", "tests"))
    assert found["clusters"][0]["cluster"]["server"] == "https://192.0.2.2:6443"
    assert found["users"][0]["user"]["exec"]["command"] == str(tmp_path / "login")


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        ("three", "expected context 'three', found one, two, lost"),
        ("lost", "expected cluster 'c3', found c1, c2"),
    ],
)
def test_missing_part_is_named(kubeconfig: Path, context: str, reason: str) -> None:
    with pytest.raises(StepError, match=reason):
        contexts.with_namespace(kubeconfig, context, "tests")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("clusters: []", "expected a current context, found none"),
        ("- a list", "expected a kubeconfig, found \"\\['a list'\\]\""),
        ("a: [", "expected a kubeconfig, it cannot be read"),
    ],
)
def test_file_of_another_kind_is_refused(kubeconfig: Path, text: str, reason: str) -> None:
    kubeconfig.write_text(text)
    with pytest.raises(StepError, match=reason):
        contexts.with_namespace(kubeconfig, "", "tests")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="nowhere: expected a kubeconfig, it cannot be read"):
        contexts.with_namespace(tmp_path / "nowhere", "", "tests")


def test_client_knows_the_namespace_of_its_context(tmp_path: Path, kubeconfig: Path) -> None:
    text = KUBECONFIG.replace(", certificate-authority: pki/ca.crt", "").replace(
        "{client-certificate: pki/me.crt, client-key: /etc/me.key}", "{token: secret}"
    )
    kubeconfig.write_text(text)
    path = tmp_path / "one"
    path.write_text(contexts.with_namespace(kubeconfig, "", "tests"))
    assert kubeclient.namespace_of(kubeclient.connect(path)) == "tests"
    path.write_text(text.replace(", namespace: mine", ""))
    assert kubeclient.namespace_of(kubeclient.connect(path)) == "default"
