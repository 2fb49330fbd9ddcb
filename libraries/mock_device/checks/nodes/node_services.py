"""Restarts and configures the kubelet and containerd of a node."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from kubernetes import client
from kubernetes.client import ApiException

from mock_device.checks.nodes import runtime
from mock_device.checks.nodes.session import Session
from mock_device.checks.waiting import until_no_complaints
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.kube import kubeclient


def restart_containerd(session: Session, node: str, timeout: timedelta) -> None:
    """Restart containerd of ``node``, and wait until the kubelet has reconnected to it. Raises CheckError."""
    session.on_node(node, lambda found: found.restart, Timeout.RUNTIME_RESTART.seconds)
    _wait_kubelet_runs(session, node, "runningpods/", timeout)


def restart_kubelet(session: Session, node: str, timeout: timedelta) -> None:
    """Restart the kubelet of ``node``, and wait until it lists all its pods again. Raises CheckError."""
    session.on_node(node, lambda found: f"systemctl restart {found.kubelet_service}")
    wait_kubelet_lists_pods(session, node, timeout)


def wait_kubelet_lists_pods(session: Session, node: str, timeout: timedelta) -> None:
    """Wait until the kubelet of ``node`` lists all its pods. Raises CheckError."""
    _wait_kubelet_runs(session, node, "pods", timeout)


def _wait_kubelet_runs(session: Session, node: str, path: str, timeout: timedelta) -> None:
    """Wait until the kubelet's list at ``path`` (its pods, or those that containerd runs) has all pods of the node."""
    core = client.CoreV1Api(session.api)

    def complaints() -> list[str]:
        selector = f"spec.nodeName={node}"
        listing: Any = core.list_pod_for_all_namespaces(field_selector=selector)
        try:
            answer: Any = core.connect_get_node_proxy_with_path(node, path, _preload_content=False)
        except ApiException as error:
            return [kubeclient.refusal(error)]
        known = {pod["metadata"]["uid"] for pod in json.loads(answer.data)["items"] or ()}
        return [
            f"expected pod {pod.metadata.name} in /{path}" for pod in listing.items if pod.metadata.uid not in known
        ]

    until_no_complaints(complaints, timeout, f"kubelet of {node}")


def set_default_runtime(session: Session, node: str, name: str) -> None:
    """Make ``name`` containerd's default runtime on ``node``. containerd restarts, containers keep running."""
    found = session.runtime(node)
    command = f"{runtime.set_default(found.config, name)} && {found.restart}"
    session.on_node(node, command, Timeout.RUNTIME_RESTART.seconds)
