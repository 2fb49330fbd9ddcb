"""A watch that ends early is repeated with back-off and logged once."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from dra_fakes.agents import until
from dra_fakes.apiserver import SLICES, FakeApiServer
from mock_accel_dra import watch
from mock_accel_dra.api import Client

_DEADLINE_SECONDS = 10.0


class Stop(threading.Event):
    """Records the time-outs of ``wait``, and waits a hundredth of them."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0.0)
        return super().wait((timeout or 0.0) / 100)


@contextmanager
def following(api: FakeApiServer, stop: threading.Event, changed: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=watch.follow, args=(Client(api.url), SLICES, {}, changed, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        api.close()
        thread.join(_DEADLINE_SECONDS)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("signals", "devices"),
    [
        (["mock0"], {"mock0"}),
        (["mock0", "mock1", "mock0"], {"mock0", "mock1"}),
        (["mock0", None], None),
        ([None, "mock0"], None),
    ],
)
def test_wake_knows_the_devices_of_a_burst(signals: list[str | None], devices: set[str] | None) -> None:
    wake = watch.Wake()
    for signal in signals:
        wake.about(signal)
    assert wake.wait(0)
    assert wake.devices == devices
    assert not wake.wait(0)
    wake()
    assert wake.wait(0)
    assert wake.devices is None


def test_burst_ends_though_signals_go_on() -> None:
    wake, stop = watch.Wake(), threading.Event()

    def send() -> None:
        while not stop.wait(0.01):
            wake()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        assert wake.wait(_DEADLINE_SECONDS)
    finally:
        stop.set()
        thread.join()


def test_signal_handler_may_wake_a_waiter_at_any_moment() -> None:
    """With a lock, a handler that interrupts the waiter while it holds the lock would wait for itself."""
    program = """
import signal, sys, time
from mock_accel_dra.watch import Wake

Wake._QUIET_SECONDS = 0
wake, handled = Wake(), 0

def handler(*_):
    global handled
    handled += 1
    wake()

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
end = time.monotonic() + 2
while time.monotonic() < end:
    wake.about("mock0")
    wake.wait(0)
signal.setitimer(signal.ITIMER_REAL, 0)
sys.exit(handled < 10)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("with_an_event", [False, True])
def test_a_watch_that_ends_early_is_repeated_with_back_off(
    node_less_api: FakeApiServer, log: io.StringIO, with_an_event: bool
) -> None:
    api, stop = node_less_api, Stop()
    api.watch_ends_at_once = True

    def changed() -> None:
        if with_an_event:  # the next watch delivers it before it ends
            api.add_slice(f"slice-{len(stop.pauses)}")

    with following(api, stop, changed):
        until(lambda: len(stop.pauses) >= 7, "seven pauses", _DEADLINE_SECONDS)
    assert stop.pauses[:7] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert api.requests.count(("GET", SLICES)) <= len(stop.pauses) + 1
    assert log.getvalue().count("Watch ended early") == 1


def test_a_watch_of_normal_length_is_repeated_without_a_pause(
    node_less_api: FakeApiServer, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_SHORT_SECONDS", 0.0)
    api, stop, calls = node_less_api, Stop(), []
    api.watch_ends_at_once = True
    with following(api, stop, lambda: calls.append(1)):
        until(lambda: len(calls) >= 3, "three looks", _DEADLINE_SECONDS)
        assert not stop.pauses
    assert "Watch ended early" not in log.getvalue()


def test_a_refused_watch_obeys_retry_after(node_less_api: FakeApiServer) -> None:
    api, stop = node_less_api, Stop()
    api.broken, api.retry_after = 429, 12
    with following(api, stop, lambda: None):
        until(lambda: len(stop.pauses) >= 5, "five pauses", _DEADLINE_SECONDS)
    assert stop.pauses[:5] == [12.0, 12.0, 12.0, 12.0, 16.0]
