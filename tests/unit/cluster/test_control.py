"""The client's side of a supervisor: following a start."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.spec import control_address
from mock_device.lab.cluster.control import Control, NoClusterError

TIMEOUT_SECONDS = 10.0
ANSWER = {"state": "failed", "reason": "no disk", "golden": True}


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Starts a fake supervisor of cluster ``some``, which sends messages to its first client and ends."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    threads = []

    def start(*messages: dict[str, Any]) -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(control_address("some"))
        listening.listen()
        listening.settimeout(TIMEOUT_SECONDS)

        def serve() -> None:
            with listening, listening.accept()[0] as client, client.makefile("rb") as lines:
                assert json.loads(lines.readline()) == {"do": "follow"}
                client.sendall(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

        threads.append(threading.Thread(target=serve))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)
        assert not thread.is_alive()


def test_events_of_a_start_end_with_its_state(supervisor: Callable[..., None]) -> None:
    supervisor({"event": {"step": "guests", "state": "running"}}, {"result": ANSWER})
    with Control("some") as control:
        assert list(control.follow()) == [{"step": "guests", "state": "running"}, ANSWER]


def test_supervisor_that_ends_during_the_start_is_an_error(supervisor: Callable[..., None]) -> None:
    supervisor({"event": {"step": "guests", "state": "running"}})
    with Control("some") as control:
        events = control.follow()
        assert next(events)["step"] == "guests"
        with pytest.raises(StepError, match="cluster 'some': its supervisor ended during the start"):
            next(events)


def test_error_of_a_missing_cluster_has_the_command_to_start_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(NoClusterError, match="cluster 'some' is not running; start it with: lab up --name some"):
        Control("some")
