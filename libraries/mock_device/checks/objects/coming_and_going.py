"""Objects that are made and taken away in ways that tests seldom need: by force, by namespace, by the hundred."""

from __future__ import annotations

import time
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import yaml
from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import claims, kube, pods
from mock_device.checks.objects.claims import DeviceRequest
from mock_device.checks.objects.kube import LABELS, NAMESPACE
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import deploy
from mock_device.lab.kube import kubeclient, manifests

_REQUEST_TIMEOUT_SECONDS = 30.0
_ADMIN_ACCESS = "resource.kubernetes.io/admin-access"
_IN_FLIGHT = 5
"""Pods that exist at the same time while many come and go."""


def start_deleting_pod(api: ApiClient, name: str, *, by_force: bool = False) -> None:
    """Delete a pod without waiting; ``by_force``, the API server forgets it at once, whatever its node does."""
    options: dict[str, Any] = {"grace_period_seconds": 0} if by_force else {}
    client.CoreV1Api(api).delete_namespaced_pod(name, NAMESPACE, _request_timeout=_REQUEST_TIMEOUT_SECONDS, **options)


def delete_claim(api: ApiClient, name: str) -> None:
    """Delete a claim without waiting: it goes when no pod uses it."""
    resource = client.ResourceV1Api(api)
    resource.delete_namespaced_resource_claim(name, NAMESPACE, _request_timeout=_REQUEST_TIMEOUT_SECONDS)


def run_in_namespace(api: ApiClient, namespace: str, name: str, node: str, timeout: timedelta) -> None:
    """Make a namespace with a claim and a pod that uses it, and wait until that runs. Raises CheckError."""
    claim = claims.build(name, [DeviceRequest("device")], None, LABELS)
    objects = [claim, pods.build(name, [name], node, LABELS)]
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": LABELS}}
    try:
        manifests.apply(api, yaml.safe_dump(manifest))
        manifests.apply(api, yaml.safe_dump_all(objects), namespace)
    except StepError as error:
        raise CheckError(str(error)) from error

    def running(found: Any) -> bool:
        return name in found and found[name].status.phase == "Running"

    lister, seconds = client.CoreV1Api(api).list_namespaced_pod, timeout.total_seconds()
    if not running(kubeclient.watch_until(lister, running, seconds, namespace=namespace)):
        raise CheckError(f"pod {namespace}/{name} does not run after {seconds:.0f} s")


def delete_namespace(api: ApiClient, name: str, timeout: timedelta) -> None:
    """Delete a namespace with all in it and wait until it is gone; one that is not there is no error."""
    core = client.CoreV1Api(api)
    try:
        core.delete_namespace(name, _request_timeout=_REQUEST_TIMEOUT_SECONDS)
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
    seconds, selection = timeout.total_seconds(), {"field_selector": f"metadata.name={name}"}
    if kubeclient.watch_until(core.list_namespace, lambda found: not found, seconds, **selection):
        raise CheckError(f"namespace {name!r} is still there after {seconds:.0f} s")


def allow_admin_access(api: ApiClient, *, allowed: bool) -> None:
    """Say by a label whether claims of the tests' namespace may ask for ``adminAccess`` (resource.k8s.io/v1)."""
    labels = {_ADMIN_ACCESS: "true" if allowed else None}
    body = {"metadata": {"labels": labels}}
    client.CoreV1Api(api).patch_namespace(NAMESPACE, body, _request_timeout=_REQUEST_TIMEOUT_SECONDS)


def churn(api: ApiClient, count: int, node: str) -> int:
    """Make ``count`` pods with a claim each on ``node`` and delete them soon; how many had got to run.

    At most five exist at the same time, so most are deleted before they run.
    """
    alive: list[str] = []
    ran = 0
    for number in range(count):
        name = f"comes-and-goes-{number}"
        kube.create_claim(api, claims.build(name, [DeviceRequest("device")], None, LABELS))
        kube.create_pod(api, pods.build(name, [name], node, LABELS))
        alive.append(name)
        while len(alive) > (_IN_FLIGHT if number < count - 1 else 0):
            ran += _drop(api, alive.pop(0))
    return ran


def _drop(api: ApiClient, name: str) -> bool:
    ran = pods.runs(kube.get_pod(api, name))
    start_deleting_pod(api, name)
    delete_claim(api, name)
    return ran


def wait_no_agent(api: ApiClient, timeout: timedelta) -> None:
    """Wait until no pod of the node agents is left. Raises CheckError."""
    lister = client.CoreV1Api(api).list_namespaced_pod
    selection = {"namespace": deploy.NAMESPACE, "label_selector": f"app={deploy.NODE_AGENT}"}
    if left := kubeclient.watch_until(lister, lambda found: not found, timeout.total_seconds(), **selection):
        raise CheckError(f"node agents are still there: {', '.join(left)}")


def start_rolling_update(api: ApiClient) -> None:
    """Let the node agents be replaced, as by ``kubectl rollout restart``."""
    stamp = {"mock-device.example.com/restarted-at": str(time.time())}
    body = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
    client.AppsV1Api(api).patch_namespaced_daemon_set(
        deploy.NODE_AGENT, deploy.NAMESPACE, body, _request_timeout=_REQUEST_TIMEOUT_SECONDS
    )


def change_slice(api: ApiClient, name: str) -> None:
    """Give the devices of a ResourceSlice another UUID, behind the driver's back."""
    resource = client.ResourceV1Api(api)
    item: Any = resource.read_resource_slice(name, _request_timeout=_REQUEST_TIMEOUT_SECONDS)
    for device in item.spec.devices:
        device.attributes["uuid"].string = "CHANGED-BY-A-TEST"
    resource.replace_resource_slice(name, item, _request_timeout=_REQUEST_TIMEOUT_SECONDS)
