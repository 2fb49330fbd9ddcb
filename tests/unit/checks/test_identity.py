"""What the API server must refuse to a node agent."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.driver import identity, node_agents
from mock_device.checks.errors import CheckError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.kube import manifests


def answers(status: int, message: str) -> Any:
    def call() -> None:
        error = ApiException(status=status, reason="Some Reason")
        error.body = json.dumps({"kind": "Status", "message": message})
        raise error

    return call


@pytest.mark.parametrize("status", [403, 422])
def test_refusals_of_rbac_and_admission_policies_are_accepted(status: int) -> None:
    assert "not your node" in identity.refusal("slice of another node", answers(status, "not your node"))


def test_other_errors_are_no_refusals() -> None:
    with pytest.raises(CheckError, match="slice of another node: expected it to be forbidden, found .*too busy"):
        identity.refusal("slice of another node", answers(429, "too busy"))


def test_success_is_an_error() -> None:
    with pytest.raises(CheckError, match="slice of another node: expected it to be forbidden, but it succeeded"):
        identity.refusal("slice of another node", lambda: None)


def test_rights_are_those_of_the_review(monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(verbs: list[str], group: str, resources: list[str], names: list[str] | None = None) -> Any:
        return client.V1ResourceRule(api_groups=[group], resources=resources, verbs=verbs, resource_names=names)

    class Reviews:
        def create_self_subject_rules_review(self, body: Any, **_: object) -> Any:
            assert body == {"spec": {"namespace": "default"}}
            found = [
                rule(["get", "list"], "", ["secrets"]),
                rule(["patch"], "resource.k8s.io", ["resourceclaims/status"], ["one"]),
            ]
            status = client.V1SubjectRulesReviewStatus(incomplete=False, resource_rules=found, non_resource_rules=[])
            return client.V1SelfSubjectRulesReview(spec=client.V1SelfSubjectRulesReviewSpec(), status=status)

    monkeypatch.setattr(client, "AuthorizationV1Api", lambda _: Reviews())
    patched = "patch resourceclaims/status.resource.k8s.io (one)"
    assert identity.rights(ApiClient()) == {"get secrets", "list secrets", patched}


def test_rights_of_the_manifest() -> None:
    found = identity.rights_of(node_agents.rules())
    assert {"get nodes", "create resourceslices.resource.k8s.io"} < found
    assert "associated-node:patch resourceclaims/driver.resource.k8s.io (mock-accel.example.com)" in found


def test_another_driver_has_its_own_rights_only(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[Any] = []
    deleted: list[Any] = []
    monkeypatch.setattr(manifests, "apply_objects", lambda _, objects: applied.extend(objects))
    monkeypatch.setattr(manifests, "delete_objects", lambda _, objects: deleted.extend(objects))
    monkeypatch.setattr(identity, "_as_account", lambda _, account: account)
    monkeypatch.setattr(identity, "rights", lambda _: identity.rights_of(applied[1]["rules"]))
    with identity.as_driver(ApiClient(), "other.example.com") as account:
        assert not deleted
    assert [item["kind"] for item in applied] == ["ServiceAccount", "ClusterRole", "ClusterRoleBinding"]
    assert deleted == applied
    assert applied[2]["subjects"][0]["name"] == applied[0]["metadata"]["name"] == account
    assert identity.rights_of(applied[1]["rules"]) == {
        "patch resourceclaims/status.resource.k8s.io",
        "arbitrary-node:patch resourceclaims/driver.resource.k8s.io (other.example.com)",
    }


def test_account_goes_also_when_its_rights_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[Any] = []
    monkeypatch.setattr(manifests, "apply_objects", lambda *_: None)
    monkeypatch.setattr(manifests, "delete_objects", lambda _, objects: deleted.extend(objects))
    monkeypatch.setattr(identity, "_as_account", lambda *_: None)
    monkeypatch.setattr(identity, "rights", lambda _: set())
    monkeypatch.setattr(Timeout.RIGHTS, "nominal", timedelta(0))
    with (
        pytest.raises(CheckError, match="expected patch resourceclaims/status"),
        identity.as_driver(ApiClient(), "other.example.com"),
    ):
        pass
    assert len(deleted) == 3
