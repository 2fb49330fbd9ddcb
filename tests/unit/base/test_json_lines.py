"""Requests and answers as one JSON object per line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.json_lines import MAX_LINE_BYTES, Connection, NotRunningError, send, serve

TIMEOUT_SECONDS = 10.0


class Unforeseen(Exception):
    """An error that the server passes to ``serve`` as one of its failures."""


class Server:
    """Serves a Unix socket in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cancelled = threading.Event()
        self.ended = threading.Event()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._ready.wait(TIMEOUT_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT_SECONDS)
        self._loop.close()

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        async with await asyncio.start_unix_server(self._serve, self.path, limit=MAX_LINE_BYTES):
            self._ready.set()
            await self._stop.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer, lambda request: self._answer(request, writer), (Unforeseen,))
        self.ended.set()

    async def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        match request["do"]:
            case "add":
                await send(writer, result=request["a"] + request["b"])
            case "count":
                for number in range(request["to"]):
                    await send(writer, event=number)
                await send(writer, result="done")
            case "refuse":
                raise ValueError("not today")
            case "fail":
                raise Unforeseen
            case "leave":
                writer.close()
            case "hang":
                try:
                    await asyncio.sleep(TIMEOUT_SECONDS)
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("j") / "s.sock") as server:
        yield server


def connect(server: Server, timeout: float = TIMEOUT_SECONDS) -> Connection:
    return Connection(str(server.path), "the adder", "start it", timeout)


def test_requests_are_answered_in_order(server: Server) -> None:
    with connect(server) as connection:
        assert connection.request("add", a=1, b=2) == 3
        assert connection.request("add", a="x", b="y") == "xy"


def test_events_come_before_the_result(server: Server) -> None:
    with connect(server) as connection:
        assert connection.request("count", to=3) == "done"
        messages = connection.messages("count", to=2)
        assert [next(messages) for _ in range(3)] == [{"event": 0}, {"event": 1}, {"result": "done"}]


@pytest.mark.parametrize(
    ("request_fields", "reason"),
    [
        ({"do": "refuse"}, "the adder: not today"),
        ({"do": "fail"}, "the adder: Unforeseen"),
        ({"do": "add", "a": 1}, "the adder: 'b'"),
        ({"do": "add", "a": 1, "b": "x"}, "the adder: unsupported operand"),
    ],
)
def test_failure_is_reported_and_the_connection_stays(
    server: Server, request_fields: dict[str, Any], reason: str
) -> None:
    with connect(server) as connection:
        with pytest.raises(StepError, match=reason):
            connection.request(**request_fields)
        assert connection.request("add", a=1, b=2) == 3


def test_line_that_is_not_json_is_an_error_for_its_sender(server: Server) -> None:
    with socket.socket(socket.AF_UNIX) as client, client.makefile("rb") as lines:
        client.settimeout(TIMEOUT_SECONDS)
        client.connect(str(server.path))
        client.sendall(b"hello\n")
        assert "Expecting value" in json.loads(lines.readline())["error"]


def test_missing_process_is_named_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="^the adder is not running; start it$"):
        Connection(str(tmp_path / "nothing"), "the adder", "start it")


def test_late_answer_is_an_error(server: Server) -> None:
    with connect(server, 0.2) as connection, pytest.raises(StepError, match="the adder: no answer to hang in 0 s"):
        connection.request("hang")


def test_end_of_the_process_during_a_request_is_an_error(server: Server) -> None:
    with connect(server) as connection, pytest.raises(StepError, match="the adder: it ended during request"):
        connection.request("leave")


def test_end_of_the_client_ends_its_request(server: Server) -> None:
    with connect(server, 0.2) as connection, contextlib.suppress(StepError):
        connection.request("hang")
    assert server.cancelled.wait(TIMEOUT_SECONDS)
    assert server.ended.wait(TIMEOUT_SECONDS)


@pytest.mark.parametrize("flood", [b'{"do": "hang"}\n' * 30, b"x" * (MAX_LINE_BYTES + 1)], ids=["requests", "bytes"])
def test_client_that_sends_too_much_is_disconnected(server: Server, flood: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT_SECONDS)
        client.connect(str(server.path))
        with contextlib.suppress(ConnectionError):
            client.sendall(flood)
        assert server.ended.wait(TIMEOUT_SECONDS)
    with connect(server) as connection:
        assert connection.request("add", a=1, b=2) == 3
