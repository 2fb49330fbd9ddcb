"""The API as the node agent of one node may use it, and what it is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.driver import driver
from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import CheckError
from mock_device.lab.cluster import deploy
from mock_device.lab.kube import kubeclient
from mock_device.names import DRIVER

_REQUEST_TIMEOUT_SECONDS = 30.0
_TOKEN_SECONDS = 600
"""The shortest that the API server grants."""


def as_agent_of(api: ApiClient, node: str | None) -> ApiClient:
    """A client with a token of the node agents' service account, like that of the agent's pod on ``node``.

    Without ``node`` the token is bound to no pod, as somebody would get it who may
    ask for tokens (kubectl create token). Raises CheckError.
    """
    spec: dict[str, Any] = {"audiences": [], "expirationSeconds": _TOKEN_SECONDS}
    if node:
        pod = driver.pods(api, Component.NODE_AGENT, node)[driver.pod_of(api, Component.NODE_AGENT, node)]
        reference = {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid}
        spec["boundObjectRef"] = reference
    request: Any = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer: Any = client.CoreV1Api(api).create_namespaced_service_account_token(
        deploy.NODE_AGENT, deploy.NAMESPACE, request, _request_timeout=_REQUEST_TIMEOUT_SECONDS
    )
    settings = copy.copy(api.configuration)
    settings.cert_file = settings.key_file = None
    settings.api_key = {"authorization": answer.status.token}
    settings.api_key_prefix = {"authorization": "Bearer"}
    settings.refresh_api_key_hook = None
    return ApiClient(settings)


def refusal(what: str, call: Callable[[], object]) -> str:
    """What the API server says against ``call``. Raises CheckError unless it forbids it."""
    try:
        call()
    except ApiException as error:
        said = kubeclient.refusal(error)
        # An admission policy refuses with 422, RBAC and policies of authorization with 403.
        if error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY):
            return said
        raise CheckError(f"{what}: expected that it is forbidden, found {said}") from error
    raise CheckError(f"{what}: expected that it is forbidden, it was done")


def slice_for(node: str) -> Any:
    """A ResourceSlice that pretends a device of ``node``."""
    name = f"{DRIVER}-{node}-pretended"
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": name},
        "spec": {
            "driver": DRIVER,
            "nodeName": node,
            "pool": {"name": f"{node}/pretended", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "pretended"}],
        },
    }


def create_slice(api: ApiClient, node: str) -> None:
    """Publish a pretended device of ``node`` as a dry run: everything is checked, nothing is kept."""
    client.ResourceV1Api(api).create_resource_slice(
        slice_for(node), dry_run="All", _request_timeout=_REQUEST_TIMEOUT_SECONDS
    )


def delete_slice(api: ApiClient, name: str) -> None:
    """Delete a ResourceSlice as a dry run."""
    client.ResourceV1Api(api).delete_resource_slice(name, dry_run="All", _request_timeout=_REQUEST_TIMEOUT_SECONDS)


def write_claim_status(api: ApiClient, claim: dict[str, Any]) -> None:
    """Say as a dry run that the driver has prepared the devices of ``claim``, which is allocated."""
    results = claim["status"]["allocation"]["devices"]["results"]
    devices = [{key: item[key] for key in ("driver", "pool", "device")} for item in results]
    body = {"status": {"devices": devices}}
    metadata = claim["metadata"]
    client.ResourceV1Api(api).patch_namespaced_resource_claim_status(
        metadata["name"], metadata["namespace"], body, dry_run="All", _request_timeout=_REQUEST_TIMEOUT_SECONDS
    )


def rights_beyond(api: ApiClient, wanted: list[tuple[str, str, str]]) -> list[str]:
    """Which of ``wanted`` (verb, API group, resource), in all namespaces, the client's identity may do."""
    reviews = client.AuthorizationV1Api(api)
    found = []
    for verb, group, resource in wanted:
        kind, _, subresource = resource.partition("/")
        attributes = {"verb": verb, "group": group, "resource": kind, "subresource": subresource}
        body: Any = {"spec": {"resourceAttributes": attributes}}
        answer: Any = reviews.create_self_subject_access_review(body, _request_timeout=_REQUEST_TIMEOUT_SECONDS)
        if answer.status.allowed:
            found.append(f"{verb} {resource}{f'.{group}' if group else ''}")
    return found
