"""Uses the API with the identity of one node's agent, and checks what the API server refuses."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.driver import driver
from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import CheckError
from mock_device.checks.waiting import until_no_complaints
from mock_device.driver import current
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.kube import kubeclient, manifests
from mock_device.names import MADE_BY_TESTS

_TOKEN_SECONDS = 600
"""The shortest lifetime of a token that the API server accepts."""
_OTHER_DRIVER = "mock-device-suites-driver"
"""Name of the account and the role of ``as_driver``."""


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


@contextmanager
def as_driver(api: ApiClient, driver: str) -> Iterator[ApiClient]:
    """A client of a driver called ``driver``, which may write what it has prepared on any node, and nothing else.

    Its account and role exist in this block only. Raises CheckError if the API server does not know its rights in time.
    """
    objects = _account_of_driver(driver)
    manifests.apply_objects(api, objects)
    try:
        client_of_driver = _as_account(api, _OTHER_DRIVER)
        until_no_complaints(
            lambda: [f"expected {right}" for right in sorted(_rights_of_driver(driver) - rights(client_of_driver))],
            Timeout.RIGHTS.nominal,
            f"rights of driver {driver}",
        )
        yield client_of_driver
    finally:
        manifests.delete_objects(api, objects)


def _account_of_driver(driver: str) -> list[dict[str, Any]]:
    """Service account, role and binding of a driver of a test."""
    metadata = {"name": _OTHER_DRIVER, "labels": dict(MADE_BY_TESTS)}
    authorization = "rbac.authorization.k8s.io"
    namespace = current.driver().namespace
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {**metadata, "namespace": namespace},
        },
        {
            "apiVersion": f"{authorization}/v1",
            "kind": "ClusterRole",
            "metadata": metadata,
            "rules": _rules_of_driver(driver),
        },
        {
            "apiVersion": f"{authorization}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": authorization, "kind": "ClusterRole", "name": _OTHER_DRIVER},
            "subjects": [{"kind": "ServiceAccount", "name": _OTHER_DRIVER, "namespace": namespace}],
        },
    ]


def _rules_of_driver(driver: str) -> list[dict[str, Any]]:
    """Rules by which a driver writes ``status.devices``: of the claim, and of its own devices in it."""
    group = ["resource.k8s.io"]
    return [
        {"apiGroups": group, "resources": ["resourceclaims/status"], "verbs": ["patch"]},
        {
            "apiGroups": group,
            "resources": ["resourceclaims/driver"],
            "resourceNames": [driver],
            "verbs": ["arbitrary-node:patch"],
        },
    ]


def _rights_of_driver(driver: str) -> set[str]:
    return rights_of(_rules_of_driver(driver))


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
