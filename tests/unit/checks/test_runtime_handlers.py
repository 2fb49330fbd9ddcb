"""OCI runtimes of nodes, from the status that a kubelet of Kubernetes 1.37 wrote."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from kubernetes.client import ApiClient

from mock_device.checks.objects import kube, runtime_handlers

STATUS = {
    "runtimeHandlers": [
        {"name": "", "features": {"recursiveReadOnlyMounts": True, "userNamespaces": True}},
        {"name": "crun", "features": {"recursiveReadOnlyMounts": True, "userNamespaces": True}},
        {"name": "runc", "features": {"recursiveReadOnlyMounts": True, "userNamespaces": False}},
        {"name": "old"},
    ]
}


@pytest.mark.parametrize(
    ("node", "found"),
    [
        ({"status": STATUS}, {"": True, "crun": True, "runc": False, "old": False}),
        ({"status": {"runtimeHandlers": None}}, {}),
        ({}, {}),
    ],
)
def test_user_namespaces_of_runtimes(node: dict[str, Any], found: dict[str, bool]) -> None:
    assert runtime_handlers.user_namespaces(node) == found


def test_class_for_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[str] = []
    monkeypatch.setattr(kube, "apply_manifest", lambda _, text: applied.append(text))
    assert runtime_handlers.apply_class(ApiClient(), "runc") == "mock-device-runc"
    assert [yaml.safe_load(text) for text in applied] == [
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": "mock-device-runc"},
            "handler": "runc",
        }
    ]
