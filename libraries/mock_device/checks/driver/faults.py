"""Breaks single stretches of a device's way on a running cluster, and mends them; mending twice does no harm."""

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
    """Let the node agents' DaemonSet select no node."""
    driver.place_agents(api, _NOWHERE)


def bring_agents_back(api: ApiClient) -> None:
    """Let it select all nodes again."""
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
    """Hide the node's CDI folder from containerd below an empty, read-only file system.

    Permissions would not do, root may do all. The node agent has its own mount
    of the folder below and goes on writing there.
    """
    session.on_node(node, f"mount -t tmpfs -o ro,mode=000 tmpfs {FOLDER}")


def turn_clock(session: Session, node: str, ahead: timedelta) -> None:
    """Let the node's clock be ``ahead`` of this machine's, to about the second that a command takes."""
    session.on_node(node, f"date -u -s @{time.time() + ahead.total_seconds():.3f}")


def uncover_cdi_folder(session: Session, node: str) -> None:
    """Take that away, if it is there, and restart containerd.

    containerd 2.4 watched the file system that has gone, and does not read the
    folder below again by itself.
    """
    command = f"""
        mountpoint -q {FOLDER} || exit 0
        while mountpoint -q {FOLDER}; do umount {FOLDER} || exit 1; done
        {runtime.RESTART}
    """
    session.on_node(node, command, runtime.RESTART_TIMEOUT_SECONDS)


def set_default_runtime(session: Session, node: str, name: str) -> None:
    """Let containerd on ``node`` run containers by the runtime ``name``; it restarts, containers go on."""
    edit = f"""sed -i 's/^default_runtime_name = .*/default_runtime_name = "{name}"/' {_CONFIG}"""
    session.on_node(node, f"{edit} && {runtime.RESTART}", runtime.RESTART_TIMEOUT_SECONDS)
