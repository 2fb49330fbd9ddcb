"""What the API server must refuse to a node agent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.driver import identity
from mock_device.checks.errors import CheckError


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


def test_unneeded_permissions_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Reviews:
        def create_self_subject_access_review(self, body: Any, **_: object) -> Any:
            asked.append(attributes := body["spec"]["resourceAttributes"])
            allowed = attributes["verb"] == "get"
            return client.V1SelfSubjectAccessReview(
                spec=client.V1SelfSubjectAccessReviewSpec(), status=client.V1SubjectAccessReviewStatus(allowed=allowed)
            )

    monkeypatch.setattr(client, "AuthorizationV1Api", lambda _: Reviews())
    wanted = [("get", "", "secrets"), ("create", "", "pods/exec"), ("get", "resource.k8s.io", "resourceslices")]
    assert identity.rights_beyond(ApiClient(), wanted) == ["get secrets", "get resourceslices.resource.k8s.io"]
    assert asked[1] == {"verb": "create", "group": "", "resource": "pods", "subresource": "exec"}
