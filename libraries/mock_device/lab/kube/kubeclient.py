"""Client of a cluster's API: connect, count objects, wait for them, and report what is missing.

Waits list once and then watch, so that no change is missed and nothing is polled.
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
from typing import Any, get_args

import yaml
from kubernetes import client, config, watch
from kubernetes.client import ApiClient, ApiException
from urllib3.exceptions import HTTPError, MaxRetryError

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.spec import DamagedFileError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.kube import waits
from mock_device.lab.kube.kubeexplain import explain_node, explain_pods

_RETRY_SECONDS = 0.5

DEFAULT_NAMESPACE = "default"

# Errors that the client raises for a file of another shape, which it does not validate.
_DAMAGES = (OSError, ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError, config.ConfigException)

Object = Any
"""A model of the Kubernetes client, which provides no useful types for its attributes."""


class BoundedApiClient(ApiClient):
    """A client whose requests all end: one that names no ``_request_timeout`` has Timeout.API_REQUEST.

    The time-out bounds the connection and each silence of the API server. A
    stream that may be silent for longer (a watch, a log that is followed) names its own.
    """

    namespace = DEFAULT_NAMESPACE
    """Namespace of the kubeconfig's context."""

    def call_api(
        self,
        method: Any,
        url: Any,
        header_params: Any = None,
        body: Any = None,
        post_params: Any = None,
        _request_timeout: Any = None,
    ) -> Any:
        """As ApiClient; every request of the generated and of the dynamic client comes through here."""
        timeout = _request_timeout or Timeout.API_REQUEST.seconds
        return super().call_api(method, url, header_params, body, post_params, timeout)


def connect(kubeconfig: Path) -> ApiClient:
    """A client for the cluster of ``kubeconfig``; it connects on first use. Raises DamagedFileError.

    Keys in the file stay in memory: the client's own loader writes them to the
    temporary folder, where they would remain if the process is killed.
    """
    settings = client.Configuration()
    # The lab's forwarders listen on loopback, which no proxy reaches.
    settings.no_proxy = ",".join(filter(None, [settings.no_proxy, "127.0.0.1", "localhost"]))
    try:
        content = _without_keys(yaml.safe_load(kubeconfig.read_text()))
        current = content.get("current-context")
        contexts = [item["context"] for item in content["contexts"] if item["name"] == current]
        config.load_kube_config_from_dict(content, client_configuration=settings)  # type: ignore[no-untyped-call]
    except _DAMAGES as error:
        raise DamagedFileError(kubeconfig, f"expected a kubeconfig: {' '.join(str(error).split())}") from error
    api = BoundedApiClient(settings)
    api.namespace = next((item["namespace"] for item in contexts if item.get("namespace")), DEFAULT_NAMESPACE)
    return api


def namespace_of(api: ApiClient) -> str:
    """Namespace of the context that ``api`` was connected by."""
    return api.namespace if isinstance(api, BoundedApiClient) else DEFAULT_NAMESPACE


def _without_keys(content: Any) -> Any:
    """Replace certificates and keys in the ``content`` of a kubeconfig by paths of in-memory files."""
    for kind, entry in (("cluster", "clusters"), ("user", "users")):
        for item in content.get(entry) or []:
            for name in ("certificate-authority", "client-certificate", "client-key"):
                if data := item[kind].pop(f"{name}-data", None):
                    item[kind][name] = _memory_file(data)
    return content


@functools.cache
def _memory_file(data: str) -> str:
    """Path of an in-memory file with ``data`` (Base64), which lives as long as this process."""
    descriptor = os.memfd_create("kubeconfig")
    os.write(descriptor, b64decode(data))
    return f"/proc/self/fd/{descriptor}"


def refusal(error: ApiException) -> str:
    """The API server's reason for refusing a request: status code, and message of the Status in its answer."""
    try:
        message = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        message = error.body or error.reason
    return f"{error.status}: {message}"


def get_text(api: ApiClient, path: str) -> str:
    """Body of the API server's answer to a GET of ``path``, such as ``/metrics``. Raises ApiException."""
    method, url, headers, *_ = api.param_serialize("GET", path, auth_settings=["BearerToken"])
    answer: Any = api.call_api(method, url, headers)
    body = str(answer.read() or b"", "utf-8")
    if answer.status != HTTPStatus.OK:
        raise ApiException(status=answer.status, reason=answer.reason, body=body)
    return body


def wait_nodes_ready(api: ApiClient, names: Sequence[str], timeout: float) -> None:
    """Wait until the nodes ``names`` are Ready; StepError says why each of the others is not.

    ``timeout`` is wall time in seconds, here and below.
    """

    def not_ready(nodes: Mapping[str, Object]) -> list[str]:
        return [name for name in names if name not in nodes or _ready(nodes[name]) != "True"]

    nodes = watch_until(client.CoreV1Api(api).list_node, lambda found: not not_ready(found), timeout)
    if missing := not_ready(nodes):
        reasons = "; ".join(explain_node(name, nodes.get(name)) for name in missing)
        raise StepError(f"{len(missing)} of {len(names)} nodes are not Ready after {timeout:.0f} s: {reasons}")


def wait_daemonset(api: ApiClient, namespace: str, name: str, timeout: float, *, nodes: int | None = None) -> None:
    """Wait until a pod of the DaemonSet's newest version is available on every node that it selects.

    ``nodes`` is the expected number of nodes; without it, any number above zero is accepted.
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
        raise _not_available(api, f"DaemonSet {namespace}/{name}", sets.get(name), counts, timeout)


def wait_deployment(api: ApiClient, namespace: str, name: str, timeout: float) -> None:
    """Wait until all replicas of the Deployment are available in its newest version."""

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
        raise _not_available(api, f"Deployment {namespace}/{name}", found.get(name), counts, timeout)


def watch_until(
    lister: Callable[..., Object],
    done: Callable[[Mapping[str, Object]], bool],
    timeout: float,
    **selection: str,
) -> dict[str, Object]:
    """Watch the objects that ``lister(**selection)`` lists until ``done(objects by name)`` or a time-out.

    ``timeout`` is in seconds. Returns the objects as last seen; the caller calls
    ``done`` again to learn whether the watch timed out. Names of the objects
    must be unique. Retries while the API server is away; raises ApiException
    when it refuses a request, StepError when its port refuses connections for
    Timeout.API_REFUSES. In a block of ``waits.checked`` its check may end the watch.
    """
    deadline = time.monotonic() + timeout
    refused_since: float | None = None
    objects: dict[str, Object] = {}
    while (remaining := deadline - time.monotonic()) > 0:
        begin = time.monotonic()
        waits.check()
        try:
            listing = lister(**selection, _request_timeout=(Timeout.API_CONNECT.seconds, max(remaining, 1.0)))
            objects = {item.metadata.name: item for item in listing.items}
            refused_since = None
            if done(objects):
                break
            version = listing.metadata.resource_version
            for kind, item in _events(
                lister, version, waits.end_of_watch(begin, deadline), selection, item_type(listing)
            ):
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
            # The API server is away: nothing to watch, so retry after a pause.
            refused_since = (refused_since or time.monotonic()) if _refused(error) else None
            if refused_since and time.monotonic() - refused_since > Timeout.API_REFUSES.seconds:
                # A forwarder of the lab accepts connections while its cluster lives.
                raise StepError(f"the cluster has ended, its API server's port refuses connections: {error}") from error
        # Pause also after a watch that ended at once without an error.
        time.sleep(max(min(begin + _RETRY_SECONDS, deadline) - time.monotonic(), 0))
    return objects


def _refused(error: HTTPError) -> bool:
    reason = error.reason if isinstance(error, MaxRetryError) else error
    return reason is not None and isinstance(reason.__cause__, ConnectionRefusedError)


def item_type(listing: Object) -> type | None:
    """Model of the items of ``listing``; None for a list of the tests, which is not a model.

    The client library guesses it by the list's name, and looks for a V1ResourceClaim, which it does not have.
    """
    fields = getattr(type(listing), "model_fields", None)
    model: type | None = get_args(fields["items"].annotation)[0] if fields else None
    return model


def _events(
    lister: Callable[..., Object], version: str, deadline: float, selection: Mapping[str, str], model: type | None
) -> Iterator[tuple[str, Object]]:
    seconds = max(1, int(deadline - time.monotonic()))
    timeouts = (Timeout.API_CONNECT.seconds, seconds + Timeout.API_CONNECT.seconds)
    watcher = watch.Watch(return_type=model)  # type: ignore[no-untyped-call]
    stream = watcher.stream(  # type: ignore[no-untyped-call]
        lister, **selection, resource_version=version, timeout_seconds=seconds, _request_timeout=timeouts
    )
    for event in stream:
        yield event["type"], event["object"]


def _ready(item: Object) -> str:
    """Condition Ready of a node or pod."""
    conditions: dict[str, str] = {condition.type: condition.status for condition in item.status.conditions or []}
    return conditions.get("Ready", "Unknown")


def _not_available(api: ApiClient, what: str, item: Object | None, counts: str, timeout: float) -> StepError:
    if item is None:
        return StepError(f"{what} does not exist after {timeout:.0f} s: is it deployed?")
    reasons = explain_pods(api, item.metadata.namespace, item.spec.selector.match_labels)
    return StepError(f"{what} is not ready after {timeout:.0f} s: {counts}; {reasons}")


def as_json(api: ApiClient, model: Any) -> dict[str, Any]:
    """An object of the client library as in the API's JSON."""
    result: dict[str, Any] = api.sanitize_for_serialization(model)  # type: ignore[no-untyped-call]
    return result
