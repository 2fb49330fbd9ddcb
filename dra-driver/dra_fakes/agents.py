"""The real node agent in a thread, and a wait for its effects."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from mock_accel_dra.agent import NodeAgent
from mock_accel_dra.api import Client
from mock_accel_dra.reports import Reporter
from mock_accel_dra.settings import AgentSettings

from dra_fakes.apiserver import FakeApiServer

_DEADLINE_SECONDS = 20.0


@contextmanager
def running(settings: AgentSettings, api: FakeApiServer, *, kernel_events: bool = False) -> Iterator[NodeAgent]:
    """A running node agent; by default it ignores kernel events of this machine."""
    program = NodeAgent(replace(settings, kernel_events=kernel_events), Client(api.url))
    thread = threading.Thread(target=program.run)
    thread.start()
    try:
        yield program
    finally:
        program.stop()
        thread.join(_DEADLINE_SECONDS)
        assert not thread.is_alive()


def reported(reporter: Reporter, uid: str) -> None:
    """Wait until the API server has accepted the status of the claim with ``uid``. Raises AssertionError."""
    until(lambda: uid in reporter._told, f"the API server has accepted the status of claim {uid}")


def until(done: Callable[[], object], what: str, timeout: float = _DEADLINE_SECONDS) -> None:
    """Wait until ``done()`` is true. Raises AssertionError."""
    end = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < end, f"expected within {timeout:.0f} s: {what}"
        threading.Event().wait(0.02)
