"""A call that the kubelet has given up changes nothing, even if the driver handles it late."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from dra_fakes.agents import running, until
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.kubelet import FakeKubelet
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import cdi, rpc
from mock_accel_dra.settings import AgentSettings
from mock_accel_dra.state import State

ANSWER_SECONDS, PATIENCE_SECONDS = 2.7, 1.0
"""Delay of the API server's answer, and time limit of the caller."""
FIRST, SECOND = ("default", "first", "uid-first"), ("default", "second", "uid-second")


class Rig:
    """A running agent, its kubelet, and a slow API server."""

    def __init__(self, settings: AgentSettings, api: FakeApiServer, sysfs: SysfsTree, kubelet: FakeKubelet) -> None:
        self.settings = settings
        self.api = api
        self.sysfs = sysfs
        self.kubelet = kubelet
        for name, device in (("first", "mock1"), ("second", "mock2"), ("next", "mock1")):
            pool = f"{settings.node_name}/{device}"
            api.add_claim(
                name, [{"request": "r", "driver": "mock-accel.example.com", "pool": pool, "device": device}], pod=name
            )

    def delay_answers(self) -> None:
        """Delay each GET of a claim from now on."""
        self.api.before = lambda method, path: self._wait(method == "GET" and "/resourceclaims/" in path)

    def _wait(self, late: bool) -> None:
        if late:
            threading.Event().wait(ANSWER_SECONDS)

    def used(self) -> tuple[set[str], set[str], set[str]]:
        """Devices with status 1, devices with a CDI file, recorded claims."""
        file = self.settings.state_file
        content = json.loads(file.read_text()) if file.exists() else {"claims": {}}
        return (
            {name for name in self.sysfs.names() if self.sysfs.status(name)},
            cdi.names(self.settings.cdi_root),
            set(content["claims"]),
        )


NOTHING: tuple[set[str], set[str], set[str]] = (set(), set(), set())


@pytest.fixture
def rig(settings: AgentSettings, api: FakeApiServer, sysfs: SysfsTree) -> Iterator[Rig]:
    with running(settings, api), FakeKubelet(settings.service_socket) as kubelet:
        kubelet.unprepare([])  # returns when the agent serves
        yield Rig(settings, api, sysfs, kubelet)


def cancelled(call: Any) -> None:
    """Cancel after a while, like a kubelet that is killed."""
    with pytest.raises(grpc.FutureTimeoutError):
        call.result(timeout=PATIENCE_SECONDS)
    call.cancel()


def timed_out(call: Any) -> None:
    """Let the call reach its deadline."""
    with pytest.raises(grpc.RpcError) as error:
        call.result()
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("give_up", [cancelled, timed_out])
def test_prepare_that_was_given_up_prepares_nothing(rig: Rig, log: io.StringIO, give_up: Callable[[Any], None]) -> None:
    rig.delay_answers()
    timeout = PATIENCE_SECONDS if give_up is timed_out else 10.0
    give_up(rig.kubelet.start_prepare([FIRST], timeout))
    # Meanwhile the pod was deleted, and the restarted kubelet unprepares its claim.
    assert not rig.kubelet.unprepare([FIRST])["uid-first"].error
    until(lambda: '"Call was given up" claim="default/first"' in log.getvalue(), "a log line")
    assert rig.used() == NOTHING
    rig.api.before = lambda *_: None
    assert not rig.kubelet.prepare([("default", "next", "uid-next")])["uid-next"].error


def test_the_other_claims_of_a_call_that_was_given_up_are_not_touched(rig: Rig, log: io.StringIO) -> None:
    rig.delay_answers()
    cancelled(rig.kubelet.start_prepare([FIRST, SECOND]))
    until(lambda: '"Call was given up"' in log.getvalue(), "a log line")
    # The next call is answered after the first one has ended.
    rig.api.before = lambda *_: None
    assert not rig.kubelet.prepare([("default", "next", "uid-next")])["uid-next"].error
    assert rig.used() == ({"mock1"}, {"mock1"}, {"uid-next"})
    reads = [path.rpartition("/")[2] for method, path in rig.api.requests if "/resourceclaims/" in path]
    assert "second" not in reads
    assert "PrepareFailed" not in str(rig.api.objects)


@pytest.mark.parametrize("unprepare", [False, True])
def test_a_call_that_was_given_up_while_it_waited_for_another_driver(
    rig: Rig, log: io.StringIO, unprepare: bool
) -> None:
    if unprepare:
        assert not rig.kubelet.prepare([FIRST])["uid-first"].error
    before = rig.used()
    with State.load(rig.settings.state_file).locked():
        start = rig.kubelet.start_unprepare if unprepare else rig.kubelet.start_prepare
        timed_out(start([FIRST], PATIENCE_SECONDS))
    until(lambda: '"Call was given up" claim="default/first"' in log.getvalue(), "a log line")
    assert rig.used() == before


def test_an_answer_to_a_call_that_was_given_up_is_no_success(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the call seemed given up by mistake, for example after a clock change."""
    monkeypatch.setattr(rpc, "_given_up", lambda _: lambda: True)
    for call in (rig.kubelet.prepare, rig.kubelet.unprepare):
        answers = call([FIRST, SECOND])
        assert "was given up by its caller; nothing was changed" in answers["uid-first"].error
        assert "uid-second" not in answers  # the kubelet treats a missing answer as a failure
