"""Uses the API with the identity of one node's agent, and checks what the API server refuses."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.driver import driver
from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import CheckError
from mock_device.driver import current
from mock_device.lab.kube import kubeclient

_TOKEN_SECONDS = 600
"""The shortest lifetime of a token that the API server accepts."""


def as_agent_of(api: ApiClient, node: str | None) -> ApiClient:
    """A client with a token of the node agents' service account, bound to the agent's pod on ``node``.

    Without ``node`` the token is not bound to a pod, like one from ``kubectl create
    token``. Raises CheckError.
    """
    if not node:
        return _as_account(api, current.driver().node_agent.service_account)
    pod = driver.pods(api, Component.NODE_AGENT, node)[driver.pod_of(api, Component.NODE_AGENT, node)]
    reference = {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid}
    return _as_account(api, current.driver().node_agent.service_account, boundObjectRef=reference)


def as_default_account(api: ApiClient) -> ApiClient:
    """A client with a token of the namespace's service account ``default``, which has the rights of every account."""
    return _as_account(api, "default")


def _as_account(api: ApiClient, account: str, **bound: dict[str, Any]) -> ApiClient:
    spec = {"audiences": [], "expirationSeconds": _TOKEN_SECONDS, **bound}
    request: Any = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    core = client.CoreV1Api(api)
    answer: Any = core.create_namespaced_service_account_token(account, driver.namespace(), request)
    settings = copy.copy(api.configuration)
    settings.cert_file = settings.key_file = None
    settings.api_key = {"authorization": answer.status.token}
    settings.api_key_prefix = {"authorization": "Bearer"}
    settings.refresh_api_key_hook = None
    return kubeclient.BoundedApiClient(settings)


def refusal(what: str, call: Callable[[], object]) -> str:
    """The API server's reason for refusing ``call``. Raises CheckError unless the call is forbidden."""
    try:
        call()
    except ApiException as error:
        reason = kubeclient.refusal(error)
        # An admission policy refuses with 422, authorization (RBAC) with 403.
        if error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY):
            return reason
        raise CheckError(f"{what}: expected it to be forbidden, found {reason}") from error
    raise CheckError(f"{what}: expected it to be forbidden, but it succeeded")


def slice_for(node: str) -> Any:
    """A ResourceSlice with a fake device of ``node``."""
    driver_name = current.driver().name
    name = f"{driver_name}-{node}-pretended"
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": name},
        "spec": {
            "driver": driver_name,
            "nodeName": node,
            "pool": {"name": f"{node}/pretended", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "pretended"}],
        },
    }


def create_slice(api: ApiClient, node: str) -> None:
    """Publish a fake device of ``node`` as a dry run: the API server checks everything and stores nothing."""
    client.ResourceV1Api(api).create_resource_slice(slice_for(node), dry_run="All")


def delete_slice(api: ApiClient, name: str) -> None:
    """Delete a ResourceSlice as a dry run."""
    client.ResourceV1Api(api).delete_resource_slice(name, dry_run="All")


def write_claim_status(api: ApiClient, claim: dict[str, Any]) -> None:
    """Report, as a dry run, the devices of the allocated ``claim`` as prepared."""
    results = claim["status"]["allocation"]["devices"]["results"]
    devices = [{key: item[key] for key in ("driver", "pool", "device")} for item in results]
    body = {"status": {"devices": devices}}
    metadata = claim["metadata"]
    client.ResourceV1Api(api).patch_namespaced_resource_claim_status(
        metadata["name"], metadata["namespace"], body, dry_run="All"
    )


def rights(api: ApiClient) -> set[str]:
    """What the client may do in the namespace ``default``: ``verb resource.group``, with the names that limit it.

    Of its permissions by RBAC (SelfSubjectRulesReview); other authorizers need not tell theirs.
    """
    body: Any = {"spec": {"namespace": kubeclient.DEFAULT_NAMESPACE}}
    answer: Any = client.AuthorizationV1Api(api).create_self_subject_rules_review(body)
    return rights_of(kubeclient.as_json(api, answer)["status"].get("resourceRules", []))


def rights_of(rules: list[dict[str, Any]]) -> set[str]:
    """What ``rules`` of a role permit, in the format of ``rights``."""
    found = set()
    for rule in rules:
        names = ",".join(sorted(rule.get("resourceNames") or ()))
        for verb, group, resource in itertools.product(rule["verbs"], rule.get("apiGroups") or (), rule["resources"]):
            found.add(f"{verb} {resource}{f'.{group}' if group else ''}{f' ({names})' if names else ''}")
    return found
