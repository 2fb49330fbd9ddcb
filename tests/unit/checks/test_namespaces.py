"""Namespaces of tests."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import namespaces
from mock_device.checks.objects.kube import LABELS
from mock_device.lab.base.errors import StepError
from mock_device.lab.kube import kubeclient, manifests

TIMEOUT = timedelta(seconds=2)


class Api:
    """A fake API server with these namespaces, which records requested changes."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        left: bool = False,
        status: int = 200,
        labels: dict[str, str] | None = LABELS,
    ) -> None:
        self.status = status
        self.labels = labels
        self.changes: list[Any] = []
        monkeypatch.setattr(client, "CoreV1Api", lambda _: self)
        seen = {"some": SimpleNamespace()} if left else {}
        monkeypatch.setattr(kubeclient, "watch_until", lambda *_, **__: seen)

    list_namespace = list_namespaced_pod = None

    def read_namespace(self, _: str) -> Any:
        if self.status != 200:
            raise ApiException(status=self.status)
        return SimpleNamespace(metadata=SimpleNamespace(labels=self.labels))

    def delete_namespace(self, name: str, **_: object) -> None:
        self.changes.append(name)

    def patch_namespace(self, name: str, body: Any, **_: object) -> None:
        self.changes.append((name, body["metadata"]["labels"]))


def test_namespace_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(monkeypatch)
    namespaces.delete_namespace(ApiClient(), "some", TIMEOUT)
    assert api.changes == ["some"]


def test_only_a_missing_namespace_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Api(monkeypatch, status=404)
    namespaces.delete_namespace(ApiClient(), "some", TIMEOUT)
    Api(monkeypatch, status=403)
    with pytest.raises(ApiException):
        namespaces.delete_namespace(ApiClient(), "some", TIMEOUT)


@pytest.mark.parametrize("labels", [None, {"team": "other"}])
def test_namespace_of_others_is_neither_used_nor_deleted(
    monkeypatch: pytest.MonkeyPatch, labels: dict[str, str] | None
) -> None:
    api = Api(monkeypatch, labels=labels)
    with pytest.raises(CheckError, match="namespace 'some': expected it free for tests, but it exists"):
        namespaces.delete_namespace(ApiClient(), "some", TIMEOUT)
    with pytest.raises(CheckError, match="tests have not made it"):
        namespaces.run_in_namespace(ApiClient(), "some", "pod", "node1", TIMEOUT)
    assert api.changes == []


def test_namespace_that_stays_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Api(monkeypatch, left=True)
    with pytest.raises(CheckError, match="namespace 'some': expected it to be gone within 2 s"):
        namespaces.delete_namespace(ApiClient(), "some", TIMEOUT)


@pytest.mark.parametrize(("allowed", "label"), [(True, "true"), (False, None)])
def test_admin_access_is_a_label(monkeypatch: pytest.MonkeyPatch, allowed: bool, label: str | None) -> None:
    api = Api(monkeypatch)
    namespaces.allow_admin_access(ApiClient(), allowed=allowed)
    assert api.changes == [("default", {"resource.kubernetes.io/admin-access": label})]


@pytest.mark.parametrize(
    ("phase", "found"), [("Running", None), ("Pending", "pod some/web: expected it to run within 2 s")]
)
def test_pod_in_its_own_namespace(monkeypatch: pytest.MonkeyPatch, phase: str, found: str | None) -> None:
    Api(monkeypatch)
    applied: list[tuple[Any, ...]] = []
    monkeypatch.setattr(manifests, "apply", lambda _, *what: applied.append(what))
    pod = SimpleNamespace(status=SimpleNamespace(phase=phase))
    monkeypatch.setattr(kubeclient, "watch_until", lambda *_, **__: {"web": pod})
    if found is None:
        namespaces.run_in_namespace(ApiClient(), "some", "web", "node1", TIMEOUT)
    else:
        with pytest.raises(CheckError, match=found):
            namespaces.run_in_namespace(ApiClient(), "some", "web", "node1", TIMEOUT)
    (namespace,), (objects, where) = applied
    # Labels that the suites use to clean up.
    assert all(f"{key}: {value}" in namespace for key, value in LABELS.items())
    assert where == "some"
    assert "kind: ResourceClaim" in objects
    assert "kind: Pod" in objects


def test_refused_manifest_is_an_error_of_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    Api(monkeypatch)

    def refuse(*_: object) -> None:
        raise StepError("Namespace some: forbidden")

    monkeypatch.setattr(manifests, "apply", refuse)
    with pytest.raises(CheckError, match="Namespace some: forbidden"):
        namespaces.run_in_namespace(ApiClient(), "some", "web", "node1", TIMEOUT)
