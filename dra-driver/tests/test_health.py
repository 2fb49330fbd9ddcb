"""The server of the kubelet's probes, with clients that are not as quick as they should be."""

from __future__ import annotations

import io
import socket

import pytest
from mock_accel_dra import health
from mock_accel_dra.health import HealthServer

_DEADLINE_SECONDS = 10


def test_a_client_that_says_nothing_is_logged_and_dropped(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a busy node the kubelet gives up before its request is through."""
    monkeypatch.setattr(health, "_REQUEST_TIMEOUT_SECONDS", 0.05)
    server = HealthServer(0, lambda: True)
    try:
        with socket.create_connection(("127.0.0.1", server.port), _DEADLINE_SECONDS) as silent:
            assert silent.recv(1) == b""
    finally:
        server.close()
    assert log.getvalue().endswith('"Probe" path=""\n')
    assert "Traceback" not in capsys.readouterr().err
