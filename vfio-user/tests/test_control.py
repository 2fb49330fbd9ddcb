"""The control socket: requests that are refused, and clients that misbehave."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from mock_accel_server import control, control_client
from mock_accel_server.control import ControlServer
from mock_accel_server.control_client import ControlError
from mock_accel_server.control_requests import Requests
from mock_accel_server.device import Device
from mock_accel_server.listener import ListenError
from running_server import PF, VF, wait_until

Peer = Callable[[], socket.socket]


@pytest.fixture
def path(folder: Path) -> Iterator[Path]:
    path = folder / "control.sock"
    requests = Requests([Device(PF), Device(VF)], lambda name: None, lambda name: None)
    server = ControlServer(path, requests.answer)
    yield path
    assert control_client.devices(path), "it still answers"
    server.close()


@pytest.fixture
def peer(path: Path) -> Iterator[Peer]:
    peers: list[socket.socket] = []

    def connected() -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(str(path))
        peers.append(client)
        return client

    yield connected
    for client in peers:
        client.close()


def answers(client: socket.socket, number: int = 1) -> list[dict[str, object]]:
    data = b""
    while data.count(b"\n") < number:
        part = client.recv(65536)
        assert part, data
        data += part
    return [json.loads(line) for line in data.splitlines()]


DEVICE = {"device": "mock0"}
REFUSED: list[tuple[object, str]] = [
    ([], "expected a JSON object in one line, found []"),
    (5, "expected a JSON object in one line, found 5"),
    ({}, "expected one of 'list', 'show' and 'fault', found []"),
    ({"list": True, "show": True}, "expected one of 'list', 'show' and 'fault', found ['list', 'show']"),
    ({"list": 1}, "expected 'list' true, found 1"),
    ({"list": True, "device": "mock0"}, "expected the keys list, found 'device'"),
    ({"show": True}, "expected a device of mock0, mock0_vf0, found None"),
    ({"show": True, "device": "mock7"}, "expected a device of mock0, mock0_vf0, found 'mock7'"),
    ({"show": True, "device": ["mock0"]}, "expected a device of mock0, mock0_vf0, found ['mock0']"),
    (DEVICE | {"show": False}, "expected 'show' true, found False"),
    (DEVICE | {"show": True, "on": 1}, "expected the keys device, show, found 'on'"),
    (DEVICE | {"fault": "melt"}, "expected a fault of hang-next-job, wrong-result, slow, "),
    (DEVICE | {"fault": ["die"]}, "found ['die']"),
    (DEVICE | {"fault": None}, "found None"),
    (DEVICE | {"fault": "die", "celsius": 4}, "expected the keys device, fault, found 'celsius'"),
    (DEVICE | {"fault": "slow"}, "expected 'milliseconds' from 0 to 600000, found None"),
    (DEVICE | {"fault": "slow", "milliseconds": 600_001}, "expected 'milliseconds' from 0 to 600000, found 600001"),
    (DEVICE | {"fault": "slow", "milliseconds": -1}, "found -1"),
    (DEVICE | {"fault": "slow", "milliseconds": 1.5}, "found 1.5"),
    (DEVICE | {"fault": "slow", "milliseconds": True}, "found True"),
    (DEVICE | {"fault": "slow", "milliseconds": "x" * 1000}, "xxx…"),
    (DEVICE | {"fault": "temperature", "celsius": 1001}, "expected 'celsius' from -273 to 1000, found 1001"),
    (DEVICE | {"fault": "temperature", "celsius": float("nan")}, "found nan"),
    (DEVICE | {"fault": "wrong-id", "on": 1}, "expected 'on' true or false, found 1"),
]


@pytest.mark.parametrize(("request_", "reason"), REFUSED)
def test_bad_request_is_refused_with_its_reason(path: Path, request_: dict[str, object], reason: str) -> None:
    with pytest.raises(ControlError) as caught:
        control_client.request(path, request_)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"{path}: expected ")


@pytest.mark.parametrize("line", [b"", b"{", b"\xff\xfe", b'{"list": true', b"[" * 4000, b"9" * 4000, b"nothing"])
def test_line_that_is_no_request(peer: Peer, line: bytes) -> None:
    client = peer()
    client.sendall(line + b"\n" + b'{"list": true}\n')
    first, second = answers(client, 2)
    assert str(first["error"]).startswith("expected a JSON object in one line, found ")
    assert len(str(first["error"])) < 500
    assert "devices" in second, "the connection goes on"


def test_requests_in_parts_and_in_a_row(peer: Peer) -> None:
    client = peer()
    for byte in b'{"list": true}\n':
        client.sendall(bytes([byte]))
    assert len(answers(client)) == 1
    client.sendall(b'{"list": true}\n' * 50)
    assert len(answers(client, 50)) == 50


@pytest.mark.parametrize("data", [b"x" * 4097, b"x" * 100_000])
def test_too_long_request_ends_the_connection(peer: Peer, data: bytes) -> None:
    client = peer()
    with suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(data)
    try:
        assert b"at most 4096 bytes" in client.recv(65536)
        assert client.recv(65536) == b""
    except ConnectionResetError:
        pass


def test_number_of_connections_is_limited(peer: Peer) -> None:
    first = [peer() for _ in range(8)]
    for client in first:
        client.sendall(b'{"list": true}\n')
        answers(client)
    (refusal,) = answers(peer())
    assert refusal == {"error": "expected at most 8 connections to the control socket, found one more; try again"}
    for client in first:
        client.close()
    wait_until(lambda: "devices" in answer_or_refusal(peer()))


def answer_or_refusal(client: socket.socket) -> dict[str, object]:
    try:
        client.sendall(b'{"list": true}\n')
        return answers(client)[0]
    except (BrokenPipeError, ConnectionResetError):
        return {}


def test_client_that_does_not_read_is_dropped(peer: Peer) -> None:
    client = peer()
    client.setblocking(False)
    with pytest.raises((BrokenPipeError, BlockingIOError, ConnectionResetError)):
        while True:
            client.send(b'{"list": true}\n' * 100)


def test_silent_client_is_dropped(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_SILENT_SECONDS", 0.05)
    monkeypatch.setattr(control, "_SWEEP_SECONDS", 0.02)
    assert peer().recv(1) == b""


def test_socket_is_for_its_user_only(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ListenError, match="a server listens there already"):
        ControlServer(path, lambda line: line)


@pytest.mark.parametrize(
    ("answer", "reason"), [(b"nothing", "expected a JSON line"), (b"[]", "expected a JSON object")]
)
def test_answer_that_is_none(folder: Path, answer: bytes, reason: str) -> None:
    server = ControlServer(folder / "other.sock", lambda line: answer)
    try:
        with pytest.raises(ControlError, match=reason):
            control_client.devices(folder / "other.sock")
    finally:
        server.close()
