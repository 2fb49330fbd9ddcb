"""Pods with claims that are deleted soon after their creation."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client import ApiClient

from mock_device.checks.objects import churn, kube


class Objects:
    """The pods and claims that exist, of which every second pod runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pods: list[str] = []
        self.claims: list[str] = []
        self.most = 0
        for name in ("create_claim", "create_pod", "get_pod", "start_deleting_pod", "delete_claim"):
            monkeypatch.setattr(kube, name, getattr(self, name))

    def create_claim(self, _: ApiClient, body: Any) -> None:
        self.claims.append(body["metadata"]["name"])

    def create_pod(self, _: ApiClient, body: Any) -> None:
        assert body["spec"]["resourceClaims"][0]["resourceClaimName"] in self.claims
        self.pods.append(body["metadata"]["name"])
        self.most = max(self.most, len(self.pods))

    def get_pod(self, _: ApiClient, name: str) -> Any:
        runs = int(name.rpartition("-")[2]) % 2
        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "conditions": [ready]} if runs else {"phase": "Pending"}
        return {"metadata": {"name": name}, "status": status}

    def start_deleting_pod(self, _: ApiClient, name: str) -> None:
        self.pods.remove(name)

    def delete_claim(self, _: ApiClient, name: str) -> None:
        assert name not in self.pods
        self.claims.remove(name)


@pytest.mark.parametrize(("count", "most", "ran"), [(12, 6, 6), (3, 3, 1), (0, 0, 0)])
def test_few_pods_exist_at_a_time_and_none_is_left(
    monkeypatch: pytest.MonkeyPatch, count: int, most: int, ran: int
) -> None:
    objects = Objects(monkeypatch)
    assert churn.churn(ApiClient(), count, "node1") == ran
    assert (objects.pods, objects.claims) == ([], [])
    assert objects.most == most
