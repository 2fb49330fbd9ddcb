"""Waiting for objects of an API server, also one that has ended or is silent."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from dra_fakes.apiserver import NODES, FakeApiServer
from kubernetes import client
from urllib3.exceptions import HTTPError

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.kube import kubeclient, manifests

PATIENCE_SECONDS = 0.2


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_wait_fails_early_if_the_cluster_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timeout.API_REFUSES, "nominal", timedelta(seconds=PATIENCE_SECONDS))
    settings = client.Configuration(host=f"http://127.0.0.1:{closed_port()}", retries=0)
    nodes = client.CoreV1Api(client.ApiClient(settings)).list_node
    begin = time.monotonic()
    with pytest.raises(StepError, match="the cluster has ended"):
        kubeclient.watch_until(nodes, lambda _: False, timeout=60)
    assert PATIENCE_SECONDS <= time.monotonic() - begin < 10


def test_wait_retries_while_the_api_server_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timeout.API_REFUSES, "nominal", timedelta(seconds=PATIENCE_SECONDS))
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


@pytest.mark.parametrize(
    ("listing", "model"),
    [
        (client.V1PodList(items=[]), client.V1Pod),
        (client.V1ResourceClaimList(items=[]), client.ResourceV1ResourceClaim),
        (client.V1ResourceSliceList(items=[]), client.V1ResourceSlice),
    ],
)
def test_watched_objects_have_the_type_of_the_listed_ones(listing: Any, model: type) -> None:
    assert kubeclient.item_type(listing) is model


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


@pytest.fixture
def silent_cluster(tmp_path: Path) -> Iterator[client.ApiClient]:
    """A client of an API server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kubeconfig = tmp_path / "kubeconfig"
        content = {
            "clusters": [{"name": "silent", "cluster": {"server": f"http://127.0.0.1:{silent.getsockname()[1]}"}}],
            "users": [{"name": "admin", "user": {}}],
            "contexts": [{"name": "silent", "context": {"cluster": "silent", "user": "admin"}}],
            "current-context": "silent",
        }
        kubeconfig.write_text(yaml.safe_dump(content))
        with kubeclient.connect(kubeconfig) as api:
            yield api


def _delete_by_manifest(api: client.ApiClient) -> None:
    manifests.delete(api, "{apiVersion: v1, kind: Pod, metadata: {name: x}}")


@pytest.mark.parametrize(
    "call",
    [
        lambda api: client.CoreV1Api(api).list_node(),
        lambda api: client.ResourceV1Api(api).delete_resource_slice("x"),
        lambda api: client.CoreV1Api(api).read_namespaced_pod_log("x", "default", _preload_content=False),
        _delete_by_manifest,
    ],
    ids=["list", "delete", "raw answer", "dynamic client"],
)
def test_request_without_time_out_ends(
    call: Callable[[client.ApiClient], object], silent_cluster: client.ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Timeout.API_REQUEST, "nominal", timedelta(seconds=PATIENCE_SECONDS))
    begin = time.monotonic()
    with pytest.raises(HTTPError, match="timed out"):
        call(silent_cluster)
    assert PATIENCE_SECONDS <= time.monotonic() - begin < 20


def test_time_out_of_a_request_wins_over_the_default(silent_cluster: client.ApiClient) -> None:
    begin = time.monotonic()
    with pytest.raises(HTTPError, match="timed out"):
        client.CoreV1Api(silent_cluster).list_node(_request_timeout=PATIENCE_SECONDS)
    assert PATIENCE_SECONDS <= time.monotonic() - begin < 20 < Timeout.API_REQUEST.seconds
