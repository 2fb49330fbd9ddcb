"""PodGroups (scheduling.k8s.io/v1beta1) whose pods share a claim."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import claim_forms, kube
from mock_device.checks.objects.kube import LABELS, namespace_of_tests
from mock_device.lab.base import timeouts
from mock_device.lab.kube import kubeclient

API_VERSION = "scheduling.k8s.io/v1beta1"
RESOURCE = "podgroups"
"""As claims name their consumers."""

Object = dict[str, Any]


def build(name: str, template: str, at_once: int) -> Object:
    """A group (API's JSON) with a claim from the ResourceClaimTemplate ``template``, under the template's name.

    Its pods are only scheduled when ``at_once`` of them can be.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": "PodGroup",
        "metadata": {"name": name, "labels": dict(LABELS)},
        "spec": {
            "schedulingPolicy": {"gang": {"minCount": at_once}},
            "resourceClaims": [{"name": template, "resourceClaimTemplateName": template}],
        },
    }


def create(api: ApiClient, body: Object) -> None:
    """Create a group. Raises CheckError with the API server's reason."""
    kube.create(api, client.SchedulingV1beta1Api(api).create_namespaced_pod_group, client.V1beta1PodGroup, body)


def delete(api: ApiClient, name: str) -> None:
    """Delete a group without waiting: its claim goes with it."""
    client.SchedulingV1beta1Api(api).delete_namespaced_pod_group(name, namespace_of_tests(api))


def claim_of(group: Mapping[str, Any], entry: str) -> str:
    """Name of the claim that was created for ``entry`` of a group (API's JSON); empty until it exists."""
    statuses = (group.get("status") or {}).get("resourceClaimStatuses") or []
    return next((item.get("resourceClaimName") or "" for item in statuses if item["name"] == entry), "")


def wait_claim(api: ApiClient, name: str, entry: str, timeout: timedelta) -> str:
    """Wait until the claim for ``entry`` of the group exists, and return its name. Raises CheckError."""
    found: list[str] = []

    def made(groups: Mapping[str, Any]) -> bool:
        found[:] = [claim_of(kubeclient.as_json(api, groups[name]), entry)] if name in groups else []
        return any(found)

    seconds = timeouts.seconds(timeout)
    selection = {"namespace": namespace_of_tests(api), "field_selector": f"metadata.name={name}"}
    kubeclient.watch_until(client.SchedulingV1beta1Api(api).list_namespaced_pod_group, made, seconds, **selection)
    if not any(found):
        state = "it has none" if found else "there is no such group"
        raise CheckError(f"PodGroup {name!r}: expected a claim for {entry!r} within {seconds:.0f} s: {state}")
    return found[0]


def reservation_complaints(claim: Mapping[str, Any], group: str) -> list[str]:
    """Whether a claim (API's JSON) is reserved for anything else than the PodGroup ``group``."""
    users = [f"{user.resource} {user.name}" for user in claim_forms.parse(claim).reserved_for]
    if users == [f"{RESOURCE} {group}"]:
        return []
    return [f"expected it to be reserved for {RESOURCE} {group} only, found {', '.join(users) or 'nothing'}"]
