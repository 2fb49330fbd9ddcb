"""OCI runtimes of a node, as its kubelet publishes them, and RuntimeClasses with which pods choose one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.checks.objects import kube
from mock_device.lab.kube import kubeclient

DEFAULT = ""
"""Name of the default runtime in a node's status."""


def user_namespaces(node: Mapping[str, Any]) -> dict[str, bool]:
    """Runtimes of ``node`` (API's JSON, ``status.runtimeHandlers``), and whether they support user namespaces.

    The default runtime has an entry under its name and another under ``DEFAULT``.
    """
    handlers = (node.get("status") or {}).get("runtimeHandlers") or []
    return {item.get("name", DEFAULT): bool((item.get("features") or {}).get("userNamespaces")) for item in handlers}


def of_node(api: ApiClient, node: str) -> dict[str, bool]:
    """``user_namespaces`` of the node named ``node``."""
    return user_namespaces(kubeclient.as_json(api, client.CoreV1Api(api).read_node(node)))


def apply_class(api: ApiClient, handler: str) -> str:
    """Make a RuntimeClass with which pods choose ``handler``, and return its name. Tests delete it by its label."""
    name = f"mock-device-{handler}"
    item = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": handler}
    kube.apply_manifest(api, yaml.safe_dump(item))
    return name
