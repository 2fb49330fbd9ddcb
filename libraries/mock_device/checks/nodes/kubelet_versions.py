"""Releases of the kubelets, as the nodes' objects show them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from kubernetes import client

from mock_device.checks.nodes import node_services
from mock_device.checks.nodes.session import Session
from mock_device.checks.waiting import until_no_complaints
from mock_device.lab.kube import kubeclient


def wait_for(session: Session, node: str, release: str, timeout: timedelta) -> None:
    """Wait until the kubelet of ``node`` is of ``release``, is Ready, and lists all its pods. Raises CheckError."""
    core = client.CoreV1Api(session.api)

    def complaints() -> list[str]:
        return complaints_of(kubeclient.as_json(session.api, core.read_node(node)), release)

    until_no_complaints(complaints, timeout, f"kubelet of {node}")
    node_services.wait_kubelet_lists_pods(session, node, timeout)


def complaints_of(node: Mapping[str, Any], release: str) -> list[str]:
    """Why the kubelet of ``node``, the API's JSON, is not one of ``release`` that is Ready."""
    name, status = node["metadata"]["name"], node.get("status") or {}
    found = (status.get("nodeInfo") or {}).get("kubeletVersion", "")
    ready = next((item["status"] for item in status.get("conditions") or () if item["type"] == "Ready"), "absent")
    wrong = [] if found == release else [f"{name}: expected kubelet {release}, found {found or 'none'}"]
    return wrong if ready == "True" else [*wrong, f"{name} has Ready={ready}"]
