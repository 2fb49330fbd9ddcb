"""Namespaces of tests, and admin access of their claims."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Any

import yaml
from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import claims, pods
from mock_device.checks.objects.claims import DeviceRequest
from mock_device.checks.objects.kube import LABELS, namespace_of_tests
from mock_device.lab.base import timeouts
from mock_device.lab.base.errors import StepError
from mock_device.lab.kube import kubeclient, manifests

_ADMIN_ACCESS = "resource.kubernetes.io/admin-access"


def run_in_namespace(api: ApiClient, namespace: str, name: str, node: str, timeout: timedelta) -> None:
    """Create a namespace with a claim and a pod that uses it, and wait until the pod runs.

    Raises CheckError, also if the namespace exists and tests have not made it.
    """
    _own(api, namespace)
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

    lister, seconds = client.CoreV1Api(api).list_namespaced_pod, timeouts.seconds(timeout)
    if not running(kubeclient.watch_until(lister, running, seconds, namespace=namespace)):
        raise CheckError(f"pod {namespace}/{name}: expected it to run within {seconds:.0f} s; look at: lab diagnose")


def delete_namespace(api: ApiClient, name: str, timeout: timedelta) -> None:
    """Delete a namespace that tests made, if it exists, with everything in it, and wait until it is gone.

    Raises CheckError, also if tests have not made it.
    """
    core = client.CoreV1Api(api)
    if _own(api, name):
        core.delete_namespace(name)
    seconds, selection = timeouts.seconds(timeout), {"field_selector": f"metadata.name={name}"}
    if kubeclient.watch_until(core.list_namespace, lambda found: not found, seconds, **selection):
        raise CheckError(f"namespace {name!r}: expected it to be gone within {seconds:.0f} s; look at its conditions")


def _own(api: ApiClient, name: str) -> bool:
    """Whether tests made the namespace ``name``; False if it does not exist. Raises CheckError if others made it."""
    try:
        found: Any = client.CoreV1Api(api).read_namespace(name)
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return False
    if not LABELS.items() <= (found.metadata.labels or {}).items():
        raise CheckError(f"namespace {name!r}: expected it free for tests, but it exists and tests have not made it")
    return True


def allow_admin_access(api: ApiClient, *, allowed: bool) -> None:
    """Allow or forbid ``adminAccess`` to claims of the tests' namespace, by its label (resource.k8s.io/v1)."""
    labels = {_ADMIN_ACCESS: "true" if allowed else None}
    body = {"metadata": {"labels": labels}}
    client.CoreV1Api(api).patch_namespace(namespace_of_tests(api), body)
