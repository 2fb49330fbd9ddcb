"""A cluster's API: apply and delete manifests, wait for what they bring, and say what is missing.

Waiting lists once and then watches, so that nothing is missed and nothing is polled.
"""

from __future__ import annotations

import functools
import json
import os
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config, watch
from kubernetes.client import ApiClient, ApiException
from urllib3.exceptions import HTTPError, MaxRetryError

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.spec import DamagedFileError
from mock_device.lab.kube.kubeexplain import explain_node, explain_pods

_CONNECT_TIMEOUT_SECONDS = 10.0
_REQUEST_TIMEOUT_SECONDS = 30.0
_RETRY_SECONDS = 0.5
_REFUSED_SECONDS = 10.0
"""A cluster whose port nobody listens to for so long has ended: its forwarder takes connections while it lives."""

# What reading a file of another shape ends in: the client checks nothing itself.
_DAMAGES = (OSError, ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError, config.ConfigException)

Object = Any
"""A model of the Kubernetes client, whose attributes it gives no useful types."""


def connect(kubeconfig: Path) -> ApiClient:
    """A client for the cluster of ``kubeconfig``; it connects on first use. Raises DamagedFileError.

    Keys in the file stay in memory (the loader of the client would leave them
    in the temporary folder of a process that is killed).
    """
    settings = client.Configuration()
    # Forwarders of the lab are on loopback, which no proxy reaches.
    settings.no_proxy = ",".join(filter(None, [settings.no_proxy, "127.0.0.1", "localhost"]))
    try:
        content = _without_keys(yaml.safe_load(kubeconfig.read_text()))
        config.load_kube_config_from_dict(content, client_configuration=settings)  # type: ignore[no-untyped-call]
    except _DAMAGES as error:
        raise DamagedFileError(kubeconfig, f"expected a kubeconfig: {' '.join(str(error).split())}") from error
    return ApiClient(settings)


def _without_keys(content: Any) -> Any:
    """``content`` of a kubeconfig with paths in memory instead of certificates and keys."""
    for kind, entry in (("cluster", "clusters"), ("user", "users")):
        for item in content.get(entry) or []:
            for name in ("certificate-authority", "client-certificate", "client-key"):
                if data := item[kind].pop(f"{name}-data", None):
                    item[kind][name] = _memory_file(data)
    return content


@functools.cache
def _memory_file(data: str) -> str:
    """Path of a file without a place on disk that holds ``data`` (Base64), for the life of this process."""
    descriptor = os.memfd_create("kubeconfig")
    os.write(descriptor, b64decode(data))
    return f"/proc/self/fd/{descriptor}"


def refusal(error: ApiException) -> str:
    """What the API server says against a request: its status code and the message of the Status in its answer."""
    try:
        message = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        message = error.body or error.reason
    return f"{error.status}: {message}"


def nodes_ready(api: ApiClient) -> dict[str, str]:
    """Condition Ready (``True``, ``False``, ``Unknown``) of each node."""
    nodes: list[Object] = client.CoreV1Api(api).list_node(_request_timeout=_REQUEST_TIMEOUT_SECONDS).items
    return {node.metadata.name: _ready(node) for node in nodes}


def pods(api: ApiClient, namespace: str) -> list[tuple[str, str, str, bool]]:
    """Name, node, phase and readiness of each pod of ``namespace``."""
    core = client.CoreV1Api(api)
    found: list[Object] = core.list_namespaced_pod(namespace, _request_timeout=_REQUEST_TIMEOUT_SECONDS).items
    return [(pod.metadata.name, pod.spec.node_name or "", pod.status.phase, _ready(pod) == "True") for pod in found]


def count_slices(api: ApiClient, driver: str) -> int:
    """Number of ResourceSlices with devices of ``driver``; those that only have counters are left out."""
    slices: list[Object] = (
        client.ResourceV1Api(api)
        .list_resource_slice(field_selector=f"spec.driver={driver}", _request_timeout=_REQUEST_TIMEOUT_SECONDS)
        .items
    )
    return sum(bool(item.spec.devices) for item in slices if item.spec.driver == driver)


def wait_nodes_ready(api: ApiClient, names: Sequence[str], timeout: float) -> None:
    """Wait until the nodes ``names`` are Ready; StepError says of each other what it lacks.

    ``timeout`` is wall time in seconds, here and below.
    """

    def lacking(nodes: Mapping[str, Object]) -> list[str]:
        return [name for name in names if name not in nodes or _ready(nodes[name]) != "True"]

    nodes = watch_until(client.CoreV1Api(api).list_node, lambda found: not lacking(found), timeout)
    if missing := lacking(nodes):
        reasons = "; ".join(explain_node(name, nodes.get(name)) for name in missing)
        raise StepError(f"{len(missing)} of {len(names)} nodes are not Ready after {timeout:.0f} s: {reasons}")


def wait_daemonset(api: ApiClient, namespace: str, name: str, timeout: float, *, nodes: int | None = None) -> None:
    """Wait until a pod of the DaemonSet's newest version is available on every node that it selects.

    ``nodes`` is how many those must be; without it any number but zero will do.
    """

    def rolled_out(sets: Mapping[str, Object]) -> bool:
        if name not in sets:
            return False
        status = sets[name].status
        wanted = status.desired_number_scheduled or 0
        return bool(
            (status.observed_generation or 0) >= sets[name].metadata.generation
            and wanted == (wanted if nodes is None else nodes)
            and wanted > 0
            and (status.updated_number_scheduled or 0) == wanted
            and (status.number_available or 0) == wanted
        )

    lister = client.AppsV1Api(api).list_namespaced_daemon_set
    sets = watch_until(lister, rolled_out, timeout, namespace=namespace, field_selector=f"metadata.name={name}")
    if not rolled_out(sets):
        counts = ""
        if name in sets:
            status = sets[name].status
            expected = status.desired_number_scheduled if nodes is None else nodes
            counts = f"{status.number_available or 0} of {expected} pods are available"
        raise _not_there(api, f"DaemonSet {namespace}/{name}", sets.get(name), counts, timeout)


def wait_deployment(api: ApiClient, namespace: str, name: str, timeout: float) -> None:
    """Wait until all replicas of the Deployment's newest version are available."""

    def available(deployments: Mapping[str, Object]) -> bool:
        if name not in deployments:
            return False
        status, wanted = deployments[name].status, deployments[name].spec.replicas
        return bool(
            (status.observed_generation or 0) >= deployments[name].metadata.generation
            and (status.updated_replicas or 0) == wanted
            and (status.replicas or 0) == wanted
            and (status.available_replicas or 0) == wanted
        )

    lister = client.AppsV1Api(api).list_namespaced_deployment
    found = watch_until(lister, available, timeout, namespace=namespace, field_selector=f"metadata.name={name}")
    if not available(found):
        counts = ""
        if name in found:
            counts = (
                f"{found[name].status.available_replicas or 0} of {found[name].spec.replicas} replicas are available"
            )
        raise _not_there(api, f"Deployment {namespace}/{name}", found.get(name), counts, timeout)


def watch_until(
    lister: Callable[..., Object],
    done: Callable[[Mapping[str, Object]], bool],
    timeout: float,
    **selection: str,
) -> dict[str, Object]:
    """Follow the objects that ``lister(**selection)`` lists until ``done(objects by name)`` or for ``timeout`` seconds.

    Returns the objects as they were last seen; the caller asks ``done`` again
    to know which of the two it was. Names must be unique among the objects. An
    API server that is away for a while is asked again; what it refuses raises
    ApiException. StepError when nobody listens to its port for 10 s.
    """
    deadline = time.monotonic() + timeout
    refused_since: float | None = None
    objects: dict[str, Object] = {}
    while (left := deadline - time.monotonic()) > 0:
        begin = time.monotonic()
        try:
            listing = lister(**selection, _request_timeout=(_CONNECT_TIMEOUT_SECONDS, max(left, 1.0)))
            objects = {item.metadata.name: item for item in listing.items}
            refused_since = None
            if done(objects):
                break
            version = listing.metadata.resource_version
            for kind, item in _events(lister, version, deadline, selection):
                if kind == "DELETED":
                    objects.pop(item.metadata.name, None)
                else:
                    objects[item.metadata.name] = item
                if done(objects):
                    return objects
        except ApiException as error:
            if error.status != HTTPStatus.GONE:
                raise
        except HTTPError as error:
            # Not there, or gone for a moment: nothing to watch, so ask again in a while.
            refused_since = (refused_since or time.monotonic()) if _refused(error) else None
            if refused_since and time.monotonic() - refused_since > _REFUSED_SECONDS:
                raise StepError(f"the cluster has ended, nobody listens to its API server's port: {error}") from error
        # Also for a watch that ended at once, though nothing was said against it.
        time.sleep(max(min(begin + _RETRY_SECONDS, deadline) - time.monotonic(), 0))
    return objects


def _refused(error: HTTPError) -> bool:
    reason = error.reason if isinstance(error, MaxRetryError) else error
    return reason is not None and isinstance(reason.__cause__, ConnectionRefusedError)


def _events(
    lister: Callable[..., Object], version: str, deadline: float, selection: Mapping[str, str]
) -> Iterator[tuple[str, Object]]:
    seconds = max(1, int(deadline - time.monotonic()))
    timeouts = (_CONNECT_TIMEOUT_SECONDS, seconds + _CONNECT_TIMEOUT_SECONDS)
    watcher = watch.Watch()  # type: ignore[no-untyped-call]
    stream = watcher.stream(  # type: ignore[no-untyped-call]
        lister, **selection, resource_version=version, timeout_seconds=seconds, _request_timeout=timeouts
    )
    for event in stream:
        yield event["type"], event["object"]


def _ready(item: Object) -> str:
    """Condition Ready of a node or pod."""
    conditions: dict[str, str] = {condition.type: condition.status for condition in item.status.conditions or []}
    return conditions.get("Ready", "Unknown")


def _not_there(api: ApiClient, what: str, item: Object | None, counts: str, timeout: float) -> StepError:
    if item is None:
        return StepError(f"{what} does not exist after {timeout:.0f} s: is it deployed?")
    pods_say = explain_pods(api, item.metadata.namespace, item.spec.selector.match_labels)
    return StepError(f"{what} is not ready after {timeout:.0f} s: {counts}; {pods_say}")


def as_json(api: ApiClient, model: Any) -> dict[str, Any]:
    """An object of the client library as in the API's JSON."""
    result: dict[str, Any] = api.sanitize_for_serialization(model)  # type: ignore[no-untyped-call]
    return result
