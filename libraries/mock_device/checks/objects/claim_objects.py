"""Claims as objects of the API: until they are gone, what drivers report in them, and allocations by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import claim_forms, kube
from mock_device.lab.base import timeouts
from mock_device.lab.kube import kubeclient


def copy_allocation(api: ApiClient, source: str, target: str) -> None:
    """Allocate to the claim ``target`` the devices of the claim ``source``, which has requests of the same names.

    Without the finalizer that it adds, so that the claim can be deleted. Raises CheckError.
    """
    status = kube.get_claim(api, source).get("status") or {}
    if "allocation" not in status:
        raise CheckError(f"claim {source!r}: expected it to be allocated, found it not")
    body = {"status": {"allocation": status["allocation"]}}
    try:
        client.ResourceV1Api(api).patch_namespaced_resource_claim_status(target, kube.namespace_of_tests(api), body)
    except ApiException as error:
        reason = kubeclient.refusal(error)
        raise CheckError(f"claim {target!r}: expected the API server to take an allocation, found {reason}") from error


def wait_gone(api: ApiClient, name: str, timeout: timedelta) -> None:
    """Wait until the claim ``name`` of the tests' namespace, which is being deleted, is gone. Raises CheckError."""
    seconds = timeouts.seconds(timeout)
    lister = client.ResourceV1Api(api).list_namespaced_resource_claim
    selection = {"namespace": kube.namespace_of_tests(api), "field_selector": f"metadata.name={name}"}
    if left := kubeclient.watch_until(lister, lambda found: not found, seconds, **selection):
        finalizers = ", ".join(left[name].metadata.finalizers or []) or "none"
        raise CheckError(
            f"claim {name!r}: expected it to be gone within {seconds:.0f} s, found finalizers {finalizers}"
        )


def status_complaints(claim: Mapping[str, Any]) -> list[str]:
    """Devices of the driver, allocated to ``claim`` (API's JSON), that have no entry in its ``status.devices``."""
    entries = (claim.get("status") or {}).get("devices") or []
    reported = {(entry["driver"], entry["pool"], entry["device"]) for entry in entries}
    results = claim_forms.parse(claim).own_results
    if not results:
        return ["expected devices of the driver, found none"]
    return [
        f"expected an entry in status.devices for {item.device} of pool {item.pool}, found it not"
        for item in results
        if (item.driver, item.pool, item.device) not in reported
    ]
