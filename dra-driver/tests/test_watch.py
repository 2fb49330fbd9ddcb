"""A watch that ends early is repeated with back-off and logged once."""

from __future__ import annotations

import io
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


def test_wake_remembers_the_devices_of_its_signals() -> None:
    wake = watch.DeviceWake()
    wake.about("mock0")
    wake.about("mock1")
    assert wake.wait(0)
    assert [wake.take(), wake.take()] == [frozenset({"mock0", "mock1"}), frozenset()]
    for signals in (("mock0", None), (None, "mock0")):
        for name in signals:
            wake.about(name)
        assert wake.take() is None
    wake()
    assert wake.take() is None


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
