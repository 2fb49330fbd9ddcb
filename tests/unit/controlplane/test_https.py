"""The HTTPS client of the supervisor."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
from support.fake_api_server import fake_api_server

from mock_device.lab.controlplane import https
from mock_device.lab.controlplane.pki import Pki, create_pki


def test_request_presents_the_client_certificate(pki: Pki) -> None:
    with fake_api_server(pki) as server:
        server.status, server.answer = 201, "made ✓"
        answer = https.request(
            f"{server.url}/things/one?force=true",
            pki.identity("admin"),
            method="PATCH",
            body=b"{}",
            content_type="application/apply-patch+yaml",
        )
        assert answer == (201, "made ✓")
        (request,) = server.requests
    assert (request.method, request.path) == ("PATCH", "/things/one?force=true")
    assert (request.content_type, request.body) == ("application/apply-patch+yaml", b"{}")
    assert request.user == "mock-device:admin"


def test_error_status_is_an_answer(pki: Pki) -> None:
    with fake_api_server(pki) as server:
        server.status, server.answer = 503, "[-]etcd failed"
        assert https.request(server.url, pki.identity("admin")) == (503, "[-]etcd failed")
        assert server.requests[0].content_type is None


def test_server_of_another_authority_is_not_trusted(pki: Pki, tmp_path: Path) -> None:
    stranger = create_pki(tmp_path, [])
    with fake_api_server(stranger) as server, pytest.raises(ssl.SSLCertVerificationError):
        https.request(server.url, pki.identity("admin"))


def test_missing_server_raises_os_error(pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        https.request(f"https://127.0.0.1:{port}/", pki.identity("admin"))


def test_silent_server_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        https.request(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.2)


def test_url_without_a_host_is_rejected() -> None:
    with pytest.raises(ValueError, match="expected a URL with a host, found '/readyz'"):
        https.request("/readyz")
