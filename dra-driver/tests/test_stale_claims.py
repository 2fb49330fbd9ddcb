"""Stale claims are released, but not while the kubelet may still terminate their pods."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dra_fakes.agents import running, until
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.kubelet import FakeKubelet
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import stale_claims
from mock_accel_dra.api import ApiError, Client
from mock_accel_dra.kubelet import Presence
from mock_accel_dra.prepare import PrepareError, Preparer
from mock_accel_dra.settings import AgentSettings
from mock_accel_dra.stale_claims import GRACE_SECONDS, StaleClaims
from mock_accel_dra.state import State

NODE = "mock-cluster-node1"
INTERVAL_SECONDS = 30.0
PAIR = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/pair"
LIST = ("GET", "/apis/resource.k8s.io/v1/resourceclaims")


def result(device: str, node: str = NODE, **more: Any) -> dict[str, Any]:
    return {"request": "r", "driver": "mock-accel.example.com", "pool": f"{node}/{device}", "device": device, **more}


class Rig:
    """A node on which claim ``pair`` is prepared, its kubelet, and a clock."""

    def __init__(self, sysfs: SysfsTree, folder: Path, api: FakeApiServer) -> None:
        self.sysfs = sysfs
        self.api = api
        self.folder = folder
        self.now = 1000.0
        self.kubelet: float | None = 0.0
        (folder / "cdi").mkdir()
        self.start()
        self.api.add_claim("pair", [result("mock1"), result("mock2")])
        self.prepare("pair")

    def start(self, boot: str = "boot-1") -> None:
        """A new process of the driver."""
        self.state = State.load(self.folder / "state.json", boot)
        place: dict[str, Any] = {"api": Client(self.api.url), "node": NODE, "state": self.state}
        self.preparer = Preparer(**place, sysfs=self.sysfs.root, cdi_folder=self.folder / "cdi")
        self.stale = StaleClaims(
            **place,
            preparer=self.preparer,
            interval=INTERVAL_SECONDS,
            kubelet=lambda: self.kubelet,
            clock=lambda: self.now,
        )
        self.preparer.on_stale = self.stale.ask

    def prepare(self, name: str) -> None:
        self.preparer.prepare("default", name, f"uid-{name}")

    def look(self, after: float = 0.0) -> None:
        self.now += after
        self.stale.look()

    def held(self) -> set[str]:
        return {name for name in self.sysfs.names() if self.sysfs.status(name)}


@pytest.fixture
def rig(plug: Callable[..., SysfsTree], tmp_path: Path, api: FakeApiServer) -> Rig:
    return Rig(plug(), tmp_path, api)


def gone(api: FakeApiServer) -> None:
    api.remove(PAIR)


def replaced(api: FakeApiServer) -> None:
    api.add_claim("pair", [result("mock1"), result("mock2")], uid="another")


def deallocated(api: FakeApiServer) -> None:
    api.add_claim("pair", None)


def elsewhere(api: FakeApiServer) -> None:
    api.add_claim("pair", [result("mock1", node="mock-cluster-node2")], pod="there")


def other_devices(api: FakeApiServer) -> None:
    api.add_claim("pair", [result("mock3"), result("mock4")])


def unreserved(api: FakeApiServer) -> None:
    api.add_claim("pair", [result("mock1"), result("mock2")], pod="")


WAYS = [
    (gone, "the claim is gone"),
    (replaced, "the claim was replaced by one of uid another"),
    (deallocated, "the claim is not allocated"),
    (elsewhere, "the claim is allocated to mock1 of pool mock-cluster-node2/mock1, not to mock1, mock2 here"),
    (other_devices, "not to mock1, mock2 here"),
    (unreserved, "the claim is reserved for no pod"),
]


@pytest.mark.parametrize(("leave", "why"), WAYS)
@pytest.mark.parametrize("restart", [False, True])
def test_stale_claim_is_released(
    rig: Rig, log: io.StringIO, leave: Callable[[FakeApiServer], None], why: str, restart: bool
) -> None:
    rig.look()
    leave(rig.api)
    if restart:
        rig.start()
    rig.look(INTERVAL_SECONDS)
    assert rig.held() == {"mock1", "mock2"}  # its container may still terminate
    rig.look(GRACE_SECONDS)
    assert rig.held() == set()
    assert (rig.state.claims(), list((rig.folder / "cdi").iterdir())) == ([], [])
    assert '"Releasing the devices of a stale claim" claim="default/pair (uid uid-pair)"' in log.getvalue()
    assert why in log.getvalue()


def test_claim_of_a_pod_is_kept(rig: Rig) -> None:
    for _ in range(10):
        rig.look(GRACE_SECONDS)
    assert rig.held() == {"mock1", "mock2"}


def test_claim_that_is_valid_again_is_kept(rig: Rig) -> None:
    deallocated(rig.api)
    rig.look(INTERVAL_SECONDS)
    rig.api.add_claim("pair", [result("mock1"), result("mock2")])
    rig.look(INTERVAL_SECONDS)
    deallocated(rig.api)
    rig.look(GRACE_SECONDS)
    assert rig.held() == {"mock1", "mock2"}  # stale for the second time, only now


def test_without_a_kubelet_nothing_is_released(rig: Rig) -> None:
    """A pod's containers keep running without a kubelet, even after a forced deletion of the pod."""
    gone(rig.api)
    rig.kubelet = None
    for _ in range(5):
        rig.look(GRACE_SECONDS)
    assert rig.held() == {"mock1", "mock2"}
    rig.kubelet = rig.now  # it has just started
    rig.look(GRACE_SECONDS - 1)
    assert rig.held() == {"mock1", "mock2"}
    rig.look(INTERVAL_SECONDS)
    assert rig.held() == set()


def test_an_outdated_list_releases_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server may answer a list request from an outdated cache."""
    rig.api.before = lambda method, path: (200, {"items": []}, {}) if (method, path) == LIST else None
    rig.look(INTERVAL_SECONDS)
    rig.look(GRACE_SECONDS)
    assert rig.held() == {"mock1", "mock2"}


def test_without_the_api_server_nothing_is_released(rig: Rig) -> None:
    gone(rig.api)
    rig.look(INTERVAL_SECONDS)
    rig.api.broken = 503
    with pytest.raises(ApiError):
        rig.look(GRACE_SECONDS)
    assert rig.held() == {"mock1", "mock2"}


def test_checks_are_rate_limited_and_need_one_list_request(rig: Rig) -> None:
    rig.api.requests.clear()
    for _ in range(100):
        rig.look()
    assert rig.api.requests == [LIST]
    rig.stale.ask()
    rig.look()
    rig.look(stale_claims._SHORTEST_PAUSE_SECONDS)
    assert rig.api.requests == [LIST] * 2
    rig.preparer.unprepare("default", "pair", "uid-pair")
    rig.look(INTERVAL_SECONDS)
    assert rig.api.requests == [LIST] * 2  # there is nothing to compare


def test_the_record_of_an_earlier_boot_is_removed_with_its_claim(rig: Rig) -> None:
    rig.start("boot-2")
    assert [claim.name for claim in rig.state.earlier()] == ["pair"]
    rig.look()
    rig.look(GRACE_SECONDS)
    assert rig.state.earlier()
    gone(rig.api)
    rig.look(INTERVAL_SECONDS)
    rig.look(GRACE_SECONDS)
    assert rig.state.earlier() == []


def test_message_names_the_holder_of_the_device(rig: Rig) -> None:
    rig.api.add_claim("next", [result("mock1")])
    since = rig.state.claims()[0].since
    with pytest.raises(PrepareError) as error:
        rig.prepare("next")
    assert str(error.value) == (
        f"device mock1 is still prepared for claim default/pair (uid uid-pair) since {since}; "
        "claim default/next (uid uid-next) cannot have it; default/pair is reserved for pod pod (uid uid-pod), "
        "which must end first: kubectl --namespace default get pods --output wide"
    )


@pytest.mark.parametrize(("leave", "why"), WAYS)
def test_message_explains_that_the_holder_is_stale(rig: Rig, leave: Callable[[FakeApiServer], None], why: str) -> None:
    leave(rig.api)
    rig.api.add_claim("next", [result("mock1")])
    with pytest.raises(PrepareError, match="still prepared for claim default/pair") as error:
        rig.prepare("next")
    assert "default/pair is stale: " in str(error.value)
    assert why in str(error.value)
    assert "may still" not in str(error.value)
    # The refusal has requested a check.
    rig.look(stale_claims._SHORTEST_PAUSE_SECONDS)
    rig.look(GRACE_SECONDS)
    rig.prepare("next")
    assert rig.held() == {"mock1"}


def test_message_without_the_api_server(rig: Rig) -> None:
    rig.api.add_claim("next", [result("mock1")])
    rig.api.before = lambda method, path: (503, {"message": "later"}, {}) if path == PAIR else None
    with pytest.raises(PrepareError, match=r"the users of default/pair are unknown: .* later"):
        rig.prepare("next")


def test_presence_of_the_kubelet() -> None:
    kubelet = Presence()
    assert kubelet.since() is None
    kubelet.registered(True)
    first = kubelet.since()
    assert first is not None
    with kubelet.stream():
        with kubelet.stream():  # of the next kubelet, before the first stream's end is noticed
            pass
        second = kubelet.since()
        assert second is not None and second >= first
    assert kubelet.since() is None  # a kubelet that streamed before must stream again
    kubelet.registered(True)
    assert kubelet.since() is None
    with kubelet.stream():
        third = kubelet.since()
        assert third is not None and third >= second
    kubelet.registered(False)
    assert kubelet.since() is None


@pytest.mark.parametrize("streams", [True, False])
def test_a_running_agent_releases_stale_claims(
    settings: AgentSettings, api: FakeApiServer, sysfs: SysfsTree, monkeypatch: pytest.MonkeyPatch, streams: bool
) -> None:
    monkeypatch.setattr(stale_claims, "GRACE_SECONDS", 0.5)
    api.add_claim("pair", [result("mock1")])
    with running(settings, api), FakeKubelet(settings.service_socket) as kubelet:
        assert not kubelet.prepare([("default", "pair", "uid-pair")])["uid-pair"].error
        deallocated(api)
        with FakeKubelet(settings.registration_socket) as registration:
            registration.notify(True)
        stream = kubelet.watch_health()
        if streams:
            next(stream)
        until(lambda: sysfs.status("mock1") == 0, "register of mock1 is 0")
        stream.cancel()


def test_a_running_agent_without_a_kubelet_releases_nothing(
    settings: AgentSettings, api: FakeApiServer, sysfs: SysfsTree, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    monkeypatch.setattr(stale_claims, "GRACE_SECONDS", 0.5)
    api.add_claim("pair", [result("mock1")])
    with running(settings, api), FakeKubelet(settings.registration_socket) as registration:
        registration.notify(True)
        with FakeKubelet(settings.service_socket) as kubelet:
            assert not kubelet.prepare([("default", "pair", "uid-pair")])["uid-pair"].error
            next(kubelet.watch_health())
        deallocated(api)
        until(lambda: '"Prepared claim is stale"' in log.getvalue(), "the claim is seen as stale")
        begin = api.requests.count(LIST)
        until(lambda: api.requests.count(LIST) > begin + 10, "ten checks, two seconds")
        assert sysfs.status("mock1") == 1
