"""The driver's pods: find them, read their logs, restart them, change the node agents' settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import Enum
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.checks.driver.logs import LogMark
from mock_device.checks.errors import CheckError
from mock_device.checks.objects import kube
from mock_device.lab.base import timeouts
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster import deploy, module_loader
from mock_device.lab.kube import kubeclient

_SILENCE_SECONDS = 24 * 3600.0
"""Maximum time without a new line in a followed log."""
_CONTAINER = "node-agent"


class Component(Enum):
    """A component of the driver; the value is the label ``app`` of its pods."""

    NODE_AGENT = deploy.NODE_AGENT
    CONTROLLER = deploy.CONTROLLER
    MODULE_LOADER = module_loader.DAEMON_SET
    """Only where the module's loader is a DaemonSet."""


def wait_ready(api: ApiClient, nodes: int, timeout: timedelta) -> None:
    """Wait until a node agent runs on each of ``nodes`` nodes, and the controller; CheckError says why they do not."""
    seconds = timeouts.seconds(timeout)
    try:
        kubeclient.wait_daemonset(api, deploy.NAMESPACE, Component.NODE_AGENT.value, seconds, nodes=nodes)
        kubeclient.wait_deployment(api, deploy.NAMESPACE, Component.CONTROLLER.value, seconds)
    except StepError as error:
        raise CheckError(str(error)) from error


def pod_of(api: ApiClient, component: Component, node: str | None = None) -> str:
    """Name of the only pod of ``component`` (on ``node``). Raises CheckError if there is none or more than one."""
    names = list(pods(api, component, node))
    if len(names) != 1:
        where = f" on {node}" if node else ""
        raise CheckError(
            f"expected one pod of {component.value}{where}, found {', '.join(names) or 'none'}; "
            f"look at: kubectl -n {deploy.NAMESPACE} get pods"
        )
    return names[0]


def pods(api: ApiClient, component: Component, node: str | None = None) -> dict[str, Any]:
    """Pods of ``component`` (on ``node``) that are not being deleted, by name."""
    lister = client.CoreV1Api(api).list_namespaced_pod
    selector = f"app={component.value}"
    found: list[Any] = lister(deploy.NAMESPACE, label_selector=selector).items
    return {
        item.metadata.name: item
        for item in found
        if item.metadata.deletion_timestamp is None and node in (None, item.spec.node_name)
    }


def restart(api: ApiClient, component: Component, node: str | None, nodes: int, timeout: timedelta) -> None:
    """Delete the pod of ``component`` (on ``node``) and wait until a new one is ready."""
    old = pod_of(api, component, node)
    core = client.CoreV1Api(api)
    core.delete_namespaced_pod(old, deploy.NAMESPACE)
    selection = {"namespace": deploy.NAMESPACE, "field_selector": f"metadata.name={old}"}
    seconds = timeouts.seconds(timeout)
    if kubeclient.watch_until(core.list_namespaced_pod, lambda found: not found, seconds, **selection):
        raise CheckError(f"pod {old} is still terminating after {seconds:.0f} s; look at its log")
    wait_ready(api, nodes, timeout)


def log_of(api: ApiClient, pod: str, *, tail_lines: int | None = None, since_seconds: int | None = None) -> str:
    """The log of a pod of the driver, by default all of it."""
    # Raw, because the client would parse a log that looks like JSON.
    answer: Any = client.CoreV1Api(api).read_namespaced_pod_log(
        pod, deploy.NAMESPACE, tail_lines=tail_lines, since_seconds=since_seconds, _preload_content=False
    )
    return str(answer.data, "utf-8", "replace")


def follow_log(api: ApiClient, pod: str, *, since_seconds: int | None = None) -> Iterator[str]:
    """Follow the log of a pod of the driver, line by line, until the pod ends."""
    answer: Any = client.CoreV1Api(api).read_namespaced_pod_log(
        pod,
        deploy.NAMESPACE,
        since_seconds=since_seconds,
        follow=True,
        _preload_content=False,
        _request_timeout=(Timeout.API_REQUEST.seconds, _SILENCE_SECONDS),
    )
    for line in answer:
        yield str(line, "utf-8", "replace").rstrip("\n")


def mark(api: ApiClient, pod: str) -> LogMark:
    """Mark the current end of the log of ``pod``."""
    return LogMark(pod, len(log_of(api, pod).splitlines()))


def set_agent_environment(api: ApiClient, values: Mapping[str, str | None], nodes: int, timeout: timedelta) -> None:
    """Set the node agents' environment variables, or remove those that are None. Returns when all agents use them."""
    environment = [
        {"name": name, "value": value} if value is not None else {"name": name, "$patch": "delete"}
        for name, value in values.items()
    ]
    change_agents(api, {"spec": {"containers": [{"name": _CONTAINER, "env": environment}]}}, nodes, timeout)


def change_agents(api: ApiClient, template: kube.Object, nodes: int, timeout: timedelta) -> None:
    """Change the node agents' pod template by a strategic merge patch; returns when all agents use it."""
    # Update all nodes at once: node by node would multiply the time by the number of nodes.
    patch_agents(api, {"updateStrategy": _update("100%", 0), "template": template})
    try:
        kubeclient.wait_daemonset(api, deploy.NAMESPACE, deploy.NODE_AGENT, timeouts.seconds(timeout), nodes=nodes)
    except StepError as error:
        raise CheckError(str(error)) from error
    finally:
        patch_agents(api, {"updateStrategy": _update(0, 1)})


def _update(unavailable: int | str, surge: int) -> kube.Object:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}


def patch_agents(api: ApiClient, spec: kube.Object) -> None:
    """Change the node agents' DaemonSet by a strategic merge patch; returns before the agents restart."""
    client.AppsV1Api(api).patch_namespaced_daemon_set(deploy.NODE_AGENT, deploy.NAMESPACE, {"spec": spec})


def agent_environment(api: ApiClient) -> set[str]:
    """Names of the environment variables that the node agents' manifest sets."""
    daemon_set: Any = client.AppsV1Api(api).read_namespaced_daemon_set(deploy.NODE_AGENT, deploy.NAMESPACE)
    (container,) = daemon_set.spec.template.spec.containers
    return {variable.name for variable in container.env or []}
