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
from mock_device.driver import current
from mock_device.driver.description import Pods
from mock_device.lab.base import timeouts
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster import deploy, module_loader
from mock_device.lab.kube import kubeclient
from mock_device.names import NAMESPACE

_SILENCE_SECONDS = 24 * 3600.0
"""Maximum time without a new line in a followed log."""


class Component(Enum):
    """A component of the driver in use, or the module's loader."""

    NODE_AGENT = "node-agent"
    CONTROLLER = "controller"
    """Not every driver has one."""
    MODULE_LOADER = "module-loader"
    """Only where the module's loader is a DaemonSet."""

    @property
    def pods(self) -> Pods | None:
        """Its pods, None if the driver has no such component."""
        driver = current.driver()
        loader = module_loader.DAEMON_SET
        return {
            Component.NODE_AGENT: driver.node_agent,
            Component.CONTROLLER: driver.controller,
            Component.MODULE_LOADER: Pods(loader, {"app": loader}, loader, loader),
        }[self]

    @property
    def title(self) -> str:
        """Name of its workload, for messages."""
        return self.pods.workload if self.pods else self.value

    @property
    def namespace(self) -> str:
        """Namespace of its pods."""
        return NAMESPACE if self is Component.MODULE_LOADER else current.driver().namespace


def namespace() -> str:
    """Namespace of the driver in use."""
    return current.driver().namespace


def namespace_of(pod: str) -> str:
    """Namespace of a pod of the driver in use or of the module's loader, by its name."""
    return NAMESPACE if pod.startswith(f"{module_loader.DAEMON_SET}-") else namespace()


def wait_ready(api: ApiClient, nodes: int, timeout: timedelta) -> None:
    """Wait until a node agent runs on each of ``nodes`` nodes, and the controller, if any; CheckError says why not."""
    try:
        deploy.wait_available(api, current.driver(), nodes, timeouts.seconds(timeout))
    except StepError as error:
        raise CheckError(str(error)) from error


def pod_of(api: ApiClient, component: Component, node: str | None = None) -> str:
    """Name of the only pod of ``component`` (on ``node``). Raises CheckError if there is none or more than one."""
    names = list(pods(api, component, node))
    if len(names) != 1:
        where = f" on {node}" if node else ""
        raise CheckError(
            f"expected one pod of {component.title}{where}, found {', '.join(names) or 'none'}; "
            f"look at: kubectl -n {component.namespace} get pods"
        )
    return names[0]


def pods(api: ApiClient, component: Component, node: str | None = None) -> dict[str, Any]:
    """Pods of ``component`` (on ``node``) that are not being deleted, by name."""
    described = component.pods
    if described is None:
        return {}
    lister = client.CoreV1Api(api).list_namespaced_pod
    found: list[Any] = lister(component.namespace, label_selector=described.selector).items
    return {
        item.metadata.name: item
        for item in found
        if item.metadata.deletion_timestamp is None and node in (None, item.spec.node_name)
    }


def restart(api: ApiClient, component: Component, node: str | None, nodes: int, timeout: timedelta) -> None:
    """Delete the pod of ``component`` (on ``node``) and wait until a new one is ready."""
    old = pod_of(api, component, node)
    core = client.CoreV1Api(api)
    core.delete_namespaced_pod(old, component.namespace)
    selection = {"namespace": component.namespace, "field_selector": f"metadata.name={old}"}
    seconds = timeouts.seconds(timeout)
    if kubeclient.watch_until(core.list_namespaced_pod, lambda found: not found, seconds, **selection):
        raise CheckError(f"pod {old} is still terminating after {seconds:.0f} s; look at its log")
    wait_ready(api, nodes, timeout)


def log_of(api: ApiClient, pod: str, *, tail_lines: int | None = None, since_seconds: int | None = None) -> str:
    """The log of a pod of the driver, by default all of it."""
    # Raw, because the client would parse a log that looks like JSON.
    answer: Any = client.CoreV1Api(api).read_namespaced_pod_log(
        pod, namespace_of(pod), tail_lines=tail_lines, since_seconds=since_seconds, _preload_content=False
    )
    return str(answer.data, "utf-8", "replace")


def follow_log(api: ApiClient, pod: str, *, since_seconds: int | None = None) -> Iterator[str]:
    """Follow the log of a pod of the driver, line by line, until the pod ends."""
    answer: Any = client.CoreV1Api(api).read_namespaced_pod_log(
        pod,
        namespace_of(pod),
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
    change_agents(
        api,
        {"spec": {"containers": [{"name": current.driver().node_agent.container, "env": environment}]}},
        nodes,
        timeout,
    )


def change_agents(api: ApiClient, template: kube.Object, nodes: int, timeout: timedelta) -> None:
    """Change the node agents' pod template by a strategic merge patch; returns when all agents use it."""
    # Update all nodes at once: node by node would multiply the time by the number of nodes.
    patch_agents(api, {"updateStrategy": _update("100%", 0), "template": template})
    try:
        workload = current.driver().node_agent.workload
        kubeclient.wait_daemonset(api, namespace(), workload, timeouts.seconds(timeout), nodes=nodes)
    except StepError as error:
        raise CheckError(str(error)) from error
    finally:
        patch_agents(api, {"updateStrategy": _update(0, 1)})


def _update(unavailable: int | str, surge: int) -> kube.Object:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}


def patch_agents(api: ApiClient, spec: kube.Object) -> None:
    """Change the node agents' DaemonSet by a strategic merge patch; returns before the agents restart."""
    workload = current.driver().node_agent.workload
    client.AppsV1Api(api).patch_namespaced_daemon_set(workload, namespace(), {"spec": spec})


def agent_environment(api: ApiClient) -> set[str]:
    """Names of the environment variables that the node agents' manifest sets."""
    workload = current.driver().node_agent.workload
    daemon_set: Any = client.AppsV1Api(api).read_namespaced_daemon_set(workload, namespace())
    name = current.driver().node_agent.container
    containers = [item for item in daemon_set.spec.template.spec.containers if item.name == name]
    return {variable.name for container in containers for variable in container.env or []}
