"""Objects that tests create in the cluster: created with a label, waited for by watches, deleted by that label."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import yaml
from kubernetes import client
from kubernetes.client import ApiClient, ApiException
from kubernetes.stream import stream

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import claims, pod_claims, pods, slices
from mock_device.checks.objects.claims import AllocatedDevice
from mock_device.checks.waiting import until_no_complaints
from mock_device.lab.base import timeouts
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.kube import kubeclient, kubeexplain, manifests
from mock_device.names import MADE_BY_TESTS

LABELS = MADE_BY_TESTS
SELECTOR = ",".join(f"{name}={value}" for name, value in LABELS.items())

Object = dict[str, Any]


def namespace_of_tests(api: ApiClient) -> str:
    """Namespace of all objects that tests create, unless they create one with its own: that of the context."""
    return kubeclient.namespace_of(api)


def create_claim(api: ApiClient, body: Object) -> None:
    """Create a ResourceClaim. Raises CheckError with the API server's reason."""
    create(api, client.ResourceV1Api(api).create_namespaced_resource_claim, client.ResourceV1ResourceClaim, body)


def create_claim_template(api: ApiClient, body: Object) -> None:
    """Create a ResourceClaimTemplate. Raises CheckError with the API server's reason."""
    create(
        api, client.ResourceV1Api(api).create_namespaced_resource_claim_template, client.V1ResourceClaimTemplate, body
    )


def create_pod(api: ApiClient, body: Object) -> None:
    """Create a pod. Raises CheckError with the API server's reason."""
    create(api, client.CoreV1Api(api).create_namespaced_pod, client.V1Pod, body)


def create(api: ApiClient, call: Callable[..., Any], model: Any, body: Object, *, namespaced: bool = True) -> None:
    """Create an object by the client's ``call`` and class ``model``. Raises CheckError with the API server's reason."""
    try:
        call(*[namespace_of_tests(api)] * namespaced, model.from_dict(body))
    except ApiException as error:
        name = f"{body['kind']} {body['metadata']['name']!r}"
        if error.status == HTTPStatus.CONFLICT:
            raise CheckError(f"{name} already exists: an earlier test has not cleaned up") from error
        raise CheckError(f"{name}: the API server refuses it, {kubeclient.refusal(error)}") from error


def apply_manifest(api: ApiClient, text: str) -> list[str]:
    """Apply a manifest, with the label added to all objects; returns the names of the objects."""
    objects = manifests.read_manifest(text)
    for item in objects:
        _add_labels(item)
        if item["kind"] == "ResourceClaimTemplate":
            _add_labels(item["spec"])
    return manifests.apply(api, yaml.safe_dump_all(objects), namespace_of_tests(api))


def _add_labels(item: Object) -> None:
    metadata = item.setdefault("metadata", {})
    metadata["labels"] = {**metadata.get("labels", {}), **LABELS}


def all_claims(api: ApiClient) -> list[Object]:
    """All ResourceClaims of the cluster (API's JSON)."""
    lister = client.ResourceV1Api(api).list_resource_claim_for_all_namespaces
    return [kubeclient.as_json(api, item) for item in lister().items]


def get_claim(api: ApiClient, name: str) -> Object:
    """A ResourceClaim in the tests' namespace. Raises CheckError if it does not exist."""
    for item in all_claims(api):
        if (item["metadata"]["namespace"], item["metadata"]["name"]) == (namespace_of_tests(api), name):
            return item
    raise CheckError(f"there is no claim {name!r} in namespace {namespace_of_tests(api)}")


def allocated_devices(api: ApiClient) -> list[AllocatedDevice]:
    """Devices allocated to any claim in the cluster. Raises CheckError if one is not published."""
    return _when_published(api, lambda: all_claims(api))


def _when_published(api: ApiClient, having: Callable[[], list[Object]]) -> list[AllocatedDevice]:
    """Devices of the claims ``having``, when ResourceSlices publish them all.

    A kubelet that starts deletes the slices of its node, and the driver publishes them again.
    """
    found: list[AllocatedDevice] = []

    def complaints() -> list[str]:
        known = slices.published(api)
        try:
            found[:] = [device for item in having() for device in claims.allocated(item, known)]
        except claims.NotPublishedError as error:
            return [str(error)]
        return []

    until_no_complaints(complaints, Timeout.SLICES.nominal, "expected the devices of claims in ResourceSlices")
    return found


def wait_claim(
    api: ApiClient, name: str, complaints: Callable[[Object], list[str]], timeout: timedelta, expected: str
) -> None:
    """Wait until ``complaints(claim)`` is empty; CheckError has the last complaints."""
    last: list[str] = []

    def done(found: Mapping[str, Any]) -> bool:
        last[:] = complaints(kubeclient.as_json(api, found[name])) if name in found else ["there is no such claim"]
        return not last

    seconds = timeouts.seconds(timeout)
    lister = client.ResourceV1Api(api).list_namespaced_resource_claim
    kubeclient.watch_until(
        lister, done, seconds, namespace=namespace_of_tests(api), field_selector=f"metadata.name={name}"
    )
    if last:
        raise CheckError(f"claim {name!r}: expected {expected} within {seconds:.0f} s: {'; '.join(last)}")


def devices_of_pod(api: ApiClient, name: str, container: str | None = None) -> list[AllocatedDevice]:
    """Devices of all claims of a pod, or those that its container ``container`` uses.

    Raises CheckError if the pod does not exist or has no devices.
    """
    pod = get_pod(api, name)
    own = _claims_of(api, pod, all_claims(api))
    devices = _when_published(api, lambda: own)
    if container is not None:
        used = pod_claims.uses(pod, container)
        devices = [item for item in devices if {(item.claim, None), (item.claim, item.request)} & used]
    if not devices:
        described = "; ".join(claims.describe(item) for item in own) or "it has no claims"
        where = f", container {container!r}," if container else ""
        raise CheckError(f"pod {name!r}{where} has no devices: {described}")
    return devices


def _claims_of(api: ApiClient, pod: Object, everything: list[Object]) -> list[Object]:
    names, own = pods.claim_names(pod), namespace_of_tests(api)
    return [item for item in everything if item["metadata"]["namespace"] == own and item["metadata"]["name"] in names]


def get_pod(api: ApiClient, name: str) -> Object:
    """A pod (API's JSON) in the tests' namespace. Raises CheckError if it does not exist."""
    try:
        pod = client.CoreV1Api(api).read_namespaced_pod(name, namespace_of_tests(api))
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        raise CheckError(f"there is no pod {name!r} in namespace {namespace_of_tests(api)}") from error
    return kubeclient.as_json(api, pod)


def log_of(api: ApiClient, name: str, container: str) -> str:
    """Log of a container of a pod in the tests' namespace."""
    # Raw, because the client would parse a log that looks like JSON.
    answer: Any = client.CoreV1Api(api).read_namespaced_pod_log(
        name, namespace_of_tests(api), container=container, _preload_content=False
    )
    return str(answer.data, "utf-8", "replace")


def wait_pod(api: ApiClient, name: str, done: Callable[[Object], bool], timeout: timedelta, expected: str) -> Object:
    """Wait until ``done(pod)`` and return the pod; CheckError explains what the pod waits for.

    The wait ends early if the pod ends.
    """
    last: list[Object] = []

    def ready(found: Mapping[str, Any]) -> bool:
        last[:] = [kubeclient.as_json(api, found[name])] if name in found else []
        return bool(last) and (done(last[0]) or pods.has_ended(last[0]))

    seconds = timeouts.seconds(timeout)
    lister = client.CoreV1Api(api).list_namespaced_pod
    kubeclient.watch_until(
        lister, ready, seconds, namespace=namespace_of_tests(api), field_selector=f"metadata.name={name}"
    )
    if last and done(last[0]):
        return last[0]
    found = explain_pod(api, last[0]) if last else "there is no such pod"
    raise CheckError(f"pod {name!r}: expected it to be {expected} within {seconds:.0f} s: {found}")


def explain_pod(api: ApiClient, pod: Object) -> str:
    """Explain a pod: phase, unmet conditions, its claims, free devices, and its last event."""
    model = client.V1Pod.from_dict(pod)
    parts = [f"it is {pod['status']['phase']}", *kubeexplain.pod_reasons(model)]
    everything = all_claims(api)
    parts += [claims.describe(item) for item in _claims_of(api, pod, everything)]
    parts.append(claims.describe_free(claims.free(slices.published(api), everything)))
    if events := events_of(api, pod):
        last = max(events, key=lambda event: event.metadata.creation_timestamp)
        parts.append(f"last event: {last.reason}: {last.message}")
    return "; ".join(parts)


def events_of(api: ApiClient, item: Object) -> list[Any]:
    """Events about ``item`` (API's JSON), an object in the tests' namespace."""
    found: list[Any] = (
        client.CoreV1Api(api)
        .list_namespaced_event(namespace_of_tests(api), field_selector=f"involvedObject.uid={item['metadata']['uid']}")
        .items
    )
    return found


def event_complaints(events: Sequence[Any], reason: str, text: str) -> list[str]:
    """A message unless one of ``events`` has ``reason``, and ``text`` in its message."""
    if any(event.reason == reason and text in (event.message or "") for event in events):
        return []
    found = "; ".join(f"{event.reason}: {event.message}" for event in events) or "none"
    return [f"expected an event {reason} with {text!r}, found {found}"]


def start_deleting_pod(api: ApiClient, name: str, *, by_force: bool = False) -> None:
    """Delete a pod without waiting; ``by_force`` removes it from the API server at once, without its node's consent."""
    options: dict[str, Any] = {"grace_period_seconds": 0} if by_force else {}
    client.CoreV1Api(api).delete_namespaced_pod(name, namespace_of_tests(api), **options)


def delete_claim(api: ApiClient, name: str) -> None:
    """Delete a claim without waiting: it is removed when no pod uses it any more."""
    resource = client.ResourceV1Api(api)
    resource.delete_namespaced_resource_claim(name, namespace_of_tests(api))


def delete_pod(api: ApiClient, name: str, timeout: timedelta) -> None:
    """Delete a pod and wait until it is gone; no error if it does not exist."""
    core = client.CoreV1Api(api)
    try:
        core.delete_namespaced_pod(name, namespace_of_tests(api))
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
    wait_pod_gone(api, name, timeout)


def wait_pod_gone(api: ApiClient, name: str, timeout: timedelta) -> None:
    """Wait until a pod that is being deleted is gone. Raises CheckError."""
    lister = client.CoreV1Api(api).list_namespaced_pod
    selection = {"field_selector": f"metadata.name={name}"}
    wait_gone(api, "pods", lister, selection, time.monotonic() + timeouts.seconds(timeout))


def wait_gone(
    api: ApiClient, what: str, lister: Callable[..., Any], selection: Mapping[str, str], deadline: float
) -> None:
    """Wait until no object that ``lister`` finds by ``selection`` is left. Raises CheckError with those that are."""
    # Check at least once, even if earlier waits have used up the time.
    seconds = max(deadline - time.monotonic(), 1.0)
    remaining = kubeclient.watch_until(
        lister, lambda found: not found, seconds, namespace=namespace_of_tests(api), **selection
    )
    if remaining:
        details = []
        for name, item in remaining.items():
            finalizers = ", ".join(item.metadata.finalizers or []) or "none"
            state = f", phase {item.status.phase}" if what == "pods" else ""
            details.append(f"{name} (finalizers: {finalizers}{state})")
        raise CheckError(
            f"{what} that were not deleted: {'; '.join(details)}; look at kubelet's and the node agent's logs"
        )


def execute(
    api: ApiClient,
    pod: str,
    command: list[str],
    timeout: timedelta,
    container: str | None = None,
    namespace: str | None = None,
) -> str:
    """Run a command in a container of the pod and return its output; ``container`` is optional if there is only one.

    Raises CheckError if the command fails or takes too long.
    """
    seconds = timeouts.seconds(timeout)
    selection = {"container": container} if container else {}
    try:
        socket = stream(
            client.CoreV1Api(api).connect_get_namespaced_pod_exec,
            pod,
            namespace or namespace_of_tests(api),
            **selection,
            command=command,
            stdin=False,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
        )
    except ApiException as error:
        raise CheckError(f"pod {pod!r}: {command[0]} cannot be started in it: {error.reason or error.body}") from error
    try:
        socket.run_forever(timeout=seconds)
        if socket.is_open():
            raise CheckError(f"pod {pod!r}: {command[0]} has not ended after {seconds:.0f} s")
        output, errors = socket.read_stdout(), socket.read_stderr()
        # Channel 3 delivers a v1.Status at the end.
        status = yaml.safe_load(socket.read_channel(3)) or {}
    finally:
        socket.close()
    if status.get("status") != "Success":
        printed = errors.strip() or output.strip()
        raise CheckError(f"pod {pod!r}: {command[0]} failed: {status.get('message', 'no status')}: {printed}")
    return str(output)
