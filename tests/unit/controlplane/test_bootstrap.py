"""The first objects of a cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.fake_api_server import Request, fake_api_server

from mock_device.lab.base.errors import StepError
from mock_device.lab.controlplane.addresses import DNS_ADDRESS
from mock_device.lab.controlplane.bootstrap import bootstrap, objects
from mock_device.lab.controlplane.pki import ADMIN_GROUP, DNS_USER, KUBELET_CLIENT, Pki


def sent(pki: Pki, *, dns: bool) -> list[Request]:
    with fake_api_server(pki) as server:
        bootstrap(pki, dns=dns, server=server.url)
        return server.requests


def test_objects_are_applied_by_a_temporary_superuser(pki: Pki) -> None:
    before = set(pki.directory.rglob("*"))
    requests = sent(pki, dns=True)
    assert {request.groups for request in requests} == {("system:masters",)}
    # Server-side apply, so that it can be repeated.
    assert {(request.method, request.content_type) for request in requests} == {
        ("PATCH", "application/apply-patch+yaml")
    }
    assert {request.path.partition("?")[2] for request in requests} == {"fieldManager=lab&force=true"}
    assert {request.path.partition("?")[0]: json.loads(request.body) for request in requests} == objects(dns=True)
    assert set(pki.directory.rglob("*")) == before


def test_administrators_and_the_api_server_get_their_roles() -> None:
    bindings: list[Any] = list(objects(dns=False).values())
    assert [(item["subjects"][0]["name"], item["roleRef"]["name"]) for item in bindings] == [
        (ADMIN_GROUP, "cluster-admin"),
        (KUBELET_CLIENT, "system:kubelet-api-admin"),
    ]


def test_dns_objects_exist_only_with_dns() -> None:
    more: dict[str, Any] = {path: body for path, body in objects(dns=True).items() if path not in objects(dns=False)}
    kinds = {body["kind"]: body for body in more.values()}
    assert sorted(kinds) == ["ClusterRole", "ClusterRoleBinding", "EndpointSlice", "Service"]
    assert kinds["ClusterRoleBinding"]["subjects"][0]["name"] == DNS_USER
    assert kinds["ClusterRoleBinding"]["roleRef"]["name"] == kinds["ClusterRole"]["metadata"]["name"]
    assert kinds["Service"]["spec"]["clusterIP"] == DNS_ADDRESS
    owner = kinds["EndpointSlice"]["metadata"]["labels"]["kubernetes.io/service-name"]
    assert owner == kinds["Service"]["metadata"]["name"]


@pytest.mark.parametrize("dns", [False, True])
def test_paths_match_their_objects(dns: bool) -> None:
    for path, body in objects(dns=dns).items():
        found: Any = body
        assert path.endswith(f"/{found['metadata']['name']}")
        assert f"/{found['kind'].lower()}s/" in path
        assert path.startswith("/api/v1/" if found["apiVersion"] == "v1" else f"/apis/{found['apiVersion']}/")
        namespace = found["metadata"].get("namespace")
        assert (f"/namespaces/{namespace}/" in path) if namespace else "/namespaces/" not in path


def test_refused_object_is_named_with_the_reason(pki: Pki) -> None:
    with fake_api_server(pki) as server:
        server.status, server.answer = 403, " no such right \n"
        with pytest.raises(StepError, match=r"the API server answered 403 to /apis/rbac.*/mock-device:admins: no such"):
            bootstrap(pki, dns=False, server=server.url)
        assert len(server.requests) == 1
