"""Claims whose status tests write, or compare with what is allocated."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import claim_objects, kube
from mock_device.driver import current

DRIVER = current.driver().name
RESULTS = [{"request": "r", "driver": DRIVER, "pool": "p", "device": name} for name in ("a", "b")]
ALLOCATION = {"devices": {"results": RESULTS}}


def claim(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "pair", "namespace": "default"}, "spec": {}, "status": status}


class Api:
    """Takes the status of claims, or refuses it."""

    def __init__(self, error: ApiException | None = None) -> None:
        self.error = error
        self.calls: list[tuple[str, str, Any]] = []

    def patch_namespaced_resource_claim_status(self, name: str, namespace: str, body: Any) -> None:
        if self.error:
            raise self.error
        self.calls.append((name, namespace, body))


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "namespace_of_tests", lambda _: "default")


@pytest.mark.usefixtures("namespace")
def test_allocation_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api()
    monkeypatch.setattr(client, "ResourceV1Api", lambda _: api)
    monkeypatch.setattr(kube, "get_claim", lambda *_: claim(allocation=ALLOCATION, reservedFor=["x"]))
    claim_objects.copy_allocation(ApiClient(), "pair", "other")
    assert api.calls == [("other", "default", {"status": {"allocation": ALLOCATION}})]


@pytest.mark.usefixtures("namespace")
def test_what_cannot_be_copied_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ResourceV1Api", lambda _: Api(ApiException(status=422, reason="Invalid")))
    monkeypatch.setattr(kube, "get_claim", lambda *_: claim(allocation=ALLOCATION))
    with pytest.raises(CheckError, match="claim 'other': expected the API server to take an allocation, found .*422"):
        claim_objects.copy_allocation(ApiClient(), "pair", "other")
    monkeypatch.setattr(kube, "get_claim", lambda *_: claim())
    with pytest.raises(CheckError, match="claim 'pair': expected it to be allocated, found it not"):
        claim_objects.copy_allocation(ApiClient(), "pair", "other")


def test_devices_that_the_driver_does_not_report_are_named() -> None:
    reported = [{"driver": DRIVER, "pool": "p", "device": "a"}, {"driver": "other", "pool": "p", "device": "b"}]
    assert claim_objects.status_complaints(claim(allocation=ALLOCATION, devices=reported)) == [
        "expected an entry in status.devices for b of pool p, found it not"
    ]
    both = [{"driver": DRIVER, "pool": "p", "device": name} for name in ("a", "b")]
    assert claim_objects.status_complaints(claim(allocation=ALLOCATION, devices=both)) == []
    assert claim_objects.status_complaints(claim()) == ["expected devices of the driver, found none"]
