"""Injects single faults into a running cluster, between device and container, and repairs them idempotently."""

from __future__ import annotations

import time
from datetime import timedelta
from http import HTTPStatus

from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.driver import driver
from mock_device.checks.nodes import runtime
from mock_device.checks.nodes.cdi import FOLDER
from mock_device.checks.nodes.session import Session
from mock_device.lab.cluster import deploy
from mock_device.lab.kube import manifests

_RBAC_MANIFEST = deploy.DRIVER_MANIFESTS / "10-rbac.yaml"
_NOWHERE = {"mock-device.example.com/nowhere": "true"}
"""Labels that no node has."""
_CONFIG = "/etc/containerd/config.toml"
_REQUEST_TIMEOUT_SECONDS = 30.0


def send_agents_away(api: ApiClient) -> None:
    """Remove all node agents: their DaemonSet selects no node."""
    driver.place_agents(api, _NOWHERE)


def bring_agents_back(api: ApiClient) -> None:
    """Run node agents on all nodes again."""
    driver.place_agents(api, None)


def remove_rights(api: ApiClient) -> None:
    """Delete the ClusterRoleBinding of the node agents."""
    rbac = client.RbacAuthorizationV1Api(api)
    try:
        rbac.delete_cluster_role_binding(deploy.NODE_AGENT, _request_timeout=_REQUEST_TIMEOUT_SECONDS)
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise


def restore_rights(api: ApiClient) -> None:
    """Apply the driver's RBAC manifest."""
    manifests.apply(api, _RBAC_MANIFEST)


def cover_cdi_folder(session: Session, node: str) -> None:
    """Hide the node's CDI folder from containerd by mounting an empty, read-only file system over it.

    Changing permissions would have no effect on root. The node agent has its own
    mount of the hidden folder and continues to write there.
    """
    session.on_node(node, f"mount -t tmpfs -o ro,mode=000 tmpfs {FOLDER}")


def turn_clock(session: Session, node: str, ahead: timedelta) -> None:
    """Set the node's clock ``ahead`` of this machine's, accurate to about a second (the duration of a command)."""
    session.on_node(node, f"date -u -s @{time.time() + ahead.total_seconds():.3f}")


def uncover_cdi_folder(session: Session, node: str) -> None:
    """Undo ``cover_cdi_folder``, if necessary, and restart containerd.

    containerd 2.4 watched the file system that was mounted over the folder, and
    without a restart would not read the folder again.
    """
    command = f"""
        mountpoint -q {FOLDER} || exit 0
        while mountpoint -q {FOLDER}; do umount {FOLDER} || exit 1; done
        {runtime.RESTART}
    """
    session.on_node(node, command, runtime.RESTART_TIMEOUT_SECONDS)


def set_default_runtime(session: Session, node: str, name: str) -> None:
    """Set containerd's default runtime on ``node`` to ``name``; containerd restarts, containers keep running."""
    edit = f"""sed -i 's/^default_runtime_name = .*/default_runtime_name = "{name}"/' {_CONFIG}"""
    session.on_node(node, f"{edit} && {runtime.RESTART}", runtime.RESTART_TIMEOUT_SECONDS)
