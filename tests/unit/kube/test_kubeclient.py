"""Waiting for objects of an API server, also one that has ended or is silent."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace

import pytest
from dra_fakes.answers import api_server, listing
from dra_fakes.apiserver import NODES, FakeApiServer
from kubernetes import client

from mock_device.lab.base.errors import StepError
from mock_device.lab.kube import kubeclient, manifests

PATIENCE_SECONDS = 0.2


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_wait_fails_early_if_the_cluster_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeclient, "_REFUSED_SECONDS", PATIENCE_SECONDS)
    settings = client.Configuration(host=f"http://127.0.0.1:{closed_port()}", retries=0)
    nodes = client.CoreV1Api(client.ApiClient(settings)).list_node
    begin = time.monotonic()
    with pytest.raises(StepError, match="the cluster has ended"):
        kubeclient.watch_until(nodes, lambda _: False, timeout=60)
    assert PATIENCE_SECONDS <= time.monotonic() - begin < 10


def test_wait_retries_while_the_api_server_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeclient, "_REFUSED_SECONDS", PATIENCE_SECONDS)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = client.Configuration(host=f"http://127.0.0.1:{silent.getsockname()[1]}", retries=0)
        nodes = client.CoreV1Api(client.ApiClient(settings)).list_node
        assert kubeclient.watch_until(nodes, lambda _: False, timeout=1) == {}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"kind": "Status", "message": "claim is invalid"}', "422: claim is invalid"),
        ("not JSON", "422: not JSON"),
        (None, "422: Unprocessable Entity"),
    ],
)
def test_refusal_has_the_message_of_the_status(body: str | None, said: str) -> None:
    error = client.ApiException(422, "Unprocessable Entity")
    error.body = body
    assert kubeclient.refusal(error) == said


def test_watch_that_ends_at_once_is_retried_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeclient, "_RETRY_SECONDS", 0.25)
    server = FakeApiServer()
    server.watch_ends_at_once = True
    server.add_node("node-1")
    try:
        nodes = client.CoreV1Api(client.ApiClient(client.Configuration(host=server.url))).list_node
        assert set(kubeclient.watch_until(nodes, lambda _: False, timeout=1)) == {"node-1"}
        assert 2 <= server.requests.count(("GET", NODES)) <= 5
    finally:
        server.close()


def test_deletion_of_a_stuck_object_is_checked_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "_RETRY_SECONDS", 0.25)
    looks = []

    class Dynamic:
        def get(self, *_: object, **__: object) -> SimpleNamespace:
            looks.append(1)
            return SimpleNamespace(items=["still there"], metadata=SimpleNamespace(resourceVersion="1"))

        def watch(self, *_: object, **__: object) -> list[object]:
            return []  # ended at once

    assert not manifests._gone(Dynamic(), "resource", "name", None, time.monotonic() + 1)
    assert 2 <= len(looks) <= 5


def test_slices_of_other_drivers_and_with_only_counters_are_not_counted() -> None:
    def item(name: str, driver: str, **content: object) -> dict[str, object]:
        pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
        return {"metadata": {"name": name}, "spec": {"driver": driver, "pool": pool, "nodeName": "node1", **content}}

    device = [{"name": "mock0"}]
    counters = [{"name": "slots", "counters": {"slots": {"value": "2"}}}]
    slices = [
        item("ours", "mock-accel.example.com", devices=device),
        item("counters", "mock-accel.example.com", sharedCounters=counters),
        item("theirs", "gpu.example.com", devices=device),
    ]
    with api_server({"/apis/resource.k8s.io/v1/resourceslices": listing(*slices)}) as api:
        assert kubeclient.count_slices(api, "mock-accel.example.com") == 1
