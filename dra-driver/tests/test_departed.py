"""Claims that have left are released, and never while the kubelet may still end their pods."""

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
from mock_accel_dra import departed
from mock_accel_dra.api import ApiError, Client
from mock_accel_dra.departed import GRACE_SECONDS, Departed
from mock_accel_dra.kubelet import Presence
from mock_accel_dra.prepare import PrepareError, Preparer
from mock_accel_dra.settings import AgentSettings
from mock_accel_dra.state import State

NODE = "mock-cluster-node1"
INTERVAL_SECONDS = 30.0
PAIR = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/pair"
LIST = ("GET", "/apis/resource.k8s.io/v1/resourceclaims")


def result(device: str, node: str = NODE, **more: Any) -> dict[str, Any]:
    return {"request": "r", "driver": "mock-accel.example.com", "pool": f"{node}/{device}", "device": device, **more}


class Room:
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
        self.departed = Departed(
            **place,
            preparer=self.preparer,
            interval=INTERVAL_SECONDS,
            kubelet=lambda: self.kubelet,
            clock=lambda: self.now,
        )
        self.preparer.on_left = self.departed.ask

    def prepare(self, name: str) -> None:
        self.preparer.prepare("default", name, f"uid-{name}")

    def look(self, after: float = 0.0) -> None:
        self.now += after
        self.departed.look()

    def held(self) -> set[str]:
        return {name for name in self.sysfs.names() if self.sysfs.status(name)}


@pytest.fixture
def room(plug: Callable[..., SysfsTree], tmp_path: Path, api: FakeApiServer) -> Room:
    return Room(plug(), tmp_path, api)


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
def test_claim_that_has_left_is_released(
    room: Room, log: io.StringIO, leave: Callable[[FakeApiServer], None], why: str, restart: bool
) -> None:
    room.look()
    leave(room.api)
    if restart:
        room.start()
    room.look(INTERVAL_SECONDS)
    assert room.held() == {"mock1", "mock2"}  # its container may still be ending
    room.look(GRACE_SECONDS)
    assert room.held() == set()
    assert (room.state.claims(), list((room.folder / "cdi").iterdir())) == ([], [])
    assert '"Claim is gone, its devices are released" claim="default/pair (uid uid-pair)"' in log.getvalue()
    assert why in log.getvalue()


def test_claim_of_a_pod_is_held_for_ever(room: Room) -> None:
    for _ in range(10):
        room.look(GRACE_SECONDS)
    assert room.held() == {"mock1", "mock2"}


def test_claim_that_comes_back_is_held(room: Room) -> None:
    deallocated(room.api)
    room.look(INTERVAL_SECONDS)
    room.api.add_claim("pair", [result("mock1"), result("mock2")])
    room.look(INTERVAL_SECONDS)
    deallocated(room.api)
    room.look(GRACE_SECONDS)
    assert room.held() == {"mock1", "mock2"}  # it left for the second time just now


def test_without_a_kubelet_nothing_is_released(room: Room) -> None:
    """A pod's containers go on while the kubelet is away, also when the pod is deleted by force."""
    gone(room.api)
    room.kubelet = None
    for _ in range(5):
        room.look(GRACE_SECONDS)
    assert room.held() == {"mock1", "mock2"}
    room.kubelet = room.now  # it has just started
    room.look(GRACE_SECONDS - 1)
    assert room.held() == {"mock1", "mock2"}
    room.look(INTERVAL_SECONDS)
    assert room.held() == set()


def test_a_list_that_is_out_of_date_releases_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server may answer a list from a cache that lags behind."""
    room.api.before = lambda method, path: (200, {"items": []}, {}) if (method, path) == LIST else None
    room.look(INTERVAL_SECONDS)
    room.look(GRACE_SECONDS)
    assert room.held() == {"mock1", "mock2"}


def test_without_the_api_server_nothing_is_released(room: Room) -> None:
    gone(room.api)
    room.look(INTERVAL_SECONDS)
    room.api.broken = 503
    with pytest.raises(ApiError):
        room.look(GRACE_SECONDS)
    assert room.held() == {"mock1", "mock2"}


def test_one_list_a_look_and_looks_are_seldom(room: Room) -> None:
    room.api.requests.clear()
    for _ in range(100):
        room.look()
    assert room.api.requests == [LIST]
    room.departed.ask()
    room.look()
    room.look(departed._SHORTEST_PAUSE_SECONDS)
    assert room.api.requests == [LIST] * 2
    room.preparer.unprepare("default", "pair", "uid-pair")
    room.look(INTERVAL_SECONDS)
    assert room.api.requests == [LIST] * 2  # there is nothing to compare


def test_the_record_of_an_earlier_boot_goes_with_its_claim(room: Room) -> None:
    room.start("boot-2")
    assert [claim.name for claim in room.state.earlier()] == ["pair"]
    room.look()
    room.look(GRACE_SECONDS)
    assert room.state.earlier()
    gone(room.api)
    room.look(INTERVAL_SECONDS)
    room.look(GRACE_SECONDS)
    assert room.state.earlier() == []


def test_message_says_who_has_the_device(room: Room) -> None:
    room.api.add_claim("next", [result("mock1")])
    since = room.state.claims()[0].since
    with pytest.raises(PrepareError) as error:
        room.prepare("next")
    assert str(error.value) == (
        f"device mock1 is still prepared for claim default/pair (uid uid-pair) since {since}, "
        "claim default/next (uid uid-next) cannot have it; default/pair is reserved for pod pod (uid uid-pod), "
        "which must end first: kubectl --namespace default get pods --output wide"
    )


@pytest.mark.parametrize(("leave", "why"), WAYS)
def test_message_says_that_the_claim_has_left(room: Room, leave: Callable[[FakeApiServer], None], why: str) -> None:
    leave(room.api)
    room.api.add_claim("next", [result("mock1")])
    with pytest.raises(PrepareError, match="still prepared for claim default/pair") as error:
        room.prepare("next")
    assert why in str(error.value)
    assert "may still" not in str(error.value)
    # The refusal has asked for a look.
    room.look(departed._SHORTEST_PAUSE_SECONDS)
    room.look(GRACE_SECONDS)
    room.prepare("next")
    assert room.held() == {"mock1"}


def test_message_says_what_is_not_known(room: Room) -> None:
    room.api.add_claim("next", [result("mock1")])
    room.api.before = lambda method, path: (503, {"message": "later"}, {}) if path == PAIR else None
    with pytest.raises(PrepareError, match=r"who uses default/pair is not known: .* later"):
        room.prepare("next")


def test_presence_of_the_kubelet() -> None:
    kubelet = Presence()
    assert kubelet.since() is None
    kubelet.registered(True)
    first = kubelet.since()
    assert first is not None
    with kubelet.stream():
        with kubelet.stream():  # of the next kubelet, before the end of the first is known
            pass
        second = kubelet.since()
        assert second is not None and second >= first
    assert kubelet.since() is None  # it has streamed before
    kubelet.registered(True)
    assert kubelet.since() is None
    with kubelet.stream():
        third = kubelet.since()
        assert third is not None and third >= second
    kubelet.registered(False)
    assert kubelet.since() is None


@pytest.mark.parametrize("streams", [True, False])
def test_an_agent_that_runs_releases_what_has_left(
    settings: AgentSettings, api: FakeApiServer, sysfs: SysfsTree, monkeypatch: pytest.MonkeyPatch, streams: bool
) -> None:
    monkeypatch.setattr(departed, "GRACE_SECONDS", 0.5)
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


def test_an_agent_whose_kubelet_has_gone_releases_nothing(
    settings: AgentSettings, api: FakeApiServer, sysfs: SysfsTree, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    monkeypatch.setattr(departed, "GRACE_SECONDS", 0.5)
    api.add_claim("pair", [result("mock1")])
    with running(settings, api), FakeKubelet(settings.registration_socket) as registration:
        registration.notify(True)
        with FakeKubelet(settings.service_socket) as kubelet:
            assert not kubelet.prepare([("default", "pair", "uid-pair")])["uid-pair"].error
            next(kubelet.watch_health())
        deallocated(api)
        until(lambda: '"Prepared claim has left"' in log.getvalue(), "the claim is seen to have left")
        begin = api.requests.count(LIST)
        until(lambda: api.requests.count(LIST) > begin + 10, "ten looks, two seconds")
        assert sysfs.status("mock1") == 1
