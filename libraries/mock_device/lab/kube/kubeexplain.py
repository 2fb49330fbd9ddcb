"""Explain why nodes and pods are not ready, by their status and events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException

_EVENTS = 3
_LOG_LINES = 5


def explain_node(name: str, node: Any) -> str:
    """Why a node is not Ready; ``node`` is None if the API server does not have it."""
    if node is None:
        return f"{name} has not registered (look at its console and at kubelet's journal)"
    for condition in node.status.conditions or []:
        if condition.type == "Ready":
            return f"{name} has Ready={condition.status}, {condition.reason}: {condition.message}"
    return f"{name} has not reported its condition yet"


def explain_pods(api: ApiClient, namespace: str, labels: Mapping[str, str]) -> str:
    """What the unready pods with ``labels`` wait for, with their last events and the logs of failed containers."""
    core = client.CoreV1Api(api)
    selector = ",".join(f"{name}={value}" for name, value in labels.items())
    pods: list[Any] = core.list_namespaced_pod(namespace, label_selector=selector).items
    if not pods:
        return f"no pod has labels {selector} (look at the events of its owner)"
    lines = []
    for pod in pods:
        reasons = list(pod_reasons(pod))
        if not reasons:
            continue
        events: list[Any] = core.list_namespaced_event(
            namespace, field_selector=f"involvedObject.uid={pod.metadata.uid}"
        ).items
        last = sorted(events, key=lambda event: event.metadata.creation_timestamp)[-_EVENTS:]
        details = "".join(f"; event {event.reason}: {event.message}" for event in last)
        details += "".join(failed_logs(core, pod))
        where = pod.spec.node_name or "no node"
        lines.append(f"pod {pod.metadata.name} on {where} is {pod.status.phase}: {', '.join(reasons)}{details}")
    return "\n  ".join(lines) or "all its pods are ready now"


def failed_logs(core: Any, pod: Any) -> Iterator[str]:
    """The end of the log of each container that failed."""
    for container in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]:
        now, before = container.state and container.state.terminated, container.last_state.terminated
        if not (ended := now or before) or not ended.exit_code:
            continue
        try:
            log: str = core.read_namespaced_pod_log(
                pod.metadata.name,
                pod.metadata.namespace,
                container=container.name,
                previous=not now,
                tail_lines=_LOG_LINES,
            )
        except ApiException:
            continue
        yield f"; log of {container.name}:" + "".join(f"\n    {line}" for line in log.strip().splitlines())


def pod_reasons(pod: Any) -> Iterator[str]:
    """Reasons why a pod is not ready, from its conditions and containers."""
    status = pod.status
    for condition in status.conditions or []:
        if condition.status != "True" and condition.type in {"PodScheduled", "Initialized", "Ready"}:
            detail = f" ({condition.message})" if condition.message else ""
            yield f"{condition.type}={condition.status} {condition.reason or ''}{detail}"
    for container in [*(status.init_container_statuses or []), *(status.container_statuses or [])]:
        state, last = container.state, container.last_state
        if state and state.waiting:
            yield f"container {container.name} waits: {state.waiting.reason} {state.waiting.message or ''}".rstrip()
        ended = (state and state.terminated) or (last and last.terminated)
        if ended and ended.exit_code:
            message = f": {ended.message.strip()}" if ended.message else ""
            yield f"container {container.name} ended with {ended.exit_code} ({ended.reason}){message}"
