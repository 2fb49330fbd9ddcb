"""The HTTP server for the kubelet's probes, also with slow clients."""

from __future__ import annotations

import errno
import io
import socket
import urllib.request

import pytest
from mock_accel_dra import health
from mock_accel_dra.health import HealthServer

_DEADLINE_SECONDS = 10


def test_a_silent_client_is_logged_and_disconnected(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a busy node the kubelet gives up before it has sent its request."""
    monkeypatch.setattr(health, "_REQUEST_TIMEOUT_SECONDS", 0.05)
    server = HealthServer(0, lambda: True)
    try:
        with socket.create_connection(("127.0.0.1", server.port), _DEADLINE_SECONDS) as silent:
            assert silent.recv(1) == b""
    finally:
        server.close()
    assert log.getvalue().endswith('"Probe" path=""\n')
    assert "Traceback" not in capsys.readouterr().err


HAS_IPV6 = socket.has_dualstack_ipv6()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        pytest.param("[::1]", marks=pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")),
    ],
)
def test_probes_of_both_families_are_answered(host: str) -> None:
    server = HealthServer(0, lambda: True)
    try:
        with urllib.request.urlopen(f"http://{host}:{server.port}/readyz", timeout=_DEADLINE_SECONDS) as answer:
            assert answer.status == 200
    finally:
        server.close()


@pytest.mark.parametrize("code", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_without_ipv6_probes_of_ipv4_are_answered(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def no_ipv6(*_: object) -> None:
        raise OSError(code, "no IPv6 here")

    monkeypatch.setattr(health._BothFamilies, "server_bind", no_ipv6)
    server = HealthServer(0, lambda: True)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=_DEADLINE_SECONDS) as answer:
            assert answer.status == 200
    finally:
        server.close()


def test_a_port_in_use_is_an_error() -> None:
    server = HealthServer(0, lambda: True)
    try:
        with pytest.raises(OSError, match="in use"):
            HealthServer(server.port, lambda: True)
    finally:
        server.close()
