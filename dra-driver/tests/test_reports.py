"""Reports to users of claims: events and ``status.devices``."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from dra_fakes.agents import reported, until
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import events, outbox, reports
from mock_accel_dra.api import ApiUnreachableError, Client
from mock_accel_dra.discovery import scan
from mock_accel_dra.identity import Identity
from mock_accel_dra.reports import Reporter, device_statuses
from mock_accel_dra.state import PreparedClaim, PreparedDevice

NODE = "mock-cluster-node1"
CLAIM = PreparedClaim("uid-pair", "default", "pair", (PreparedDevice("mock0_vf1"), PreparedDevice("mock9")))
PATH = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/pair"


def conditions(item: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (device["device"], condition["status"], condition["reason"])
        for device in item["status"].get("devices", [])
        for condition in device["conditions"]
    ]


def test_status_names_pool_and_device_as_they_are_published(plug: Callable[..., SysfsTree]) -> None:
    (status,) = device_statuses(NODE, CLAIM, scan(plug(vfs=True).root).devices)
    assert (status["driver"], status["pool"], status["device"]) == (
        "mock-accel.example.com",
        f"{NODE}/mock0",
        "mock0-vf1",
    )
    assert status["data"] == {"uuid": "NODE1-NUMA0-VF1", "pciAddress": "0000:11:00.2", "node": NODE}


def test_status_is_applied_once_and_again_when_a_device_gets_a_problem(
    plug: Callable[..., SysfsTree], api: FakeApiServer
) -> None:
    api.add_claim("pair", [])
    devices = list(scan(plug(vfs=True).root).devices)
    reporter = Reporter(Client(api.url), NODE)
    for _ in range(3):
        reporter.claims([CLAIM], devices)
    api.wait_until(PATH, lambda item: conditions(item) == [("mock0-vf1", "True", "Prepared")])
    sick = [replace(device, problem="NoAnswer") if device.name == "mock0_vf1" else device for device in devices]
    reporter.claims([CLAIM], sick)
    api.wait_until(PATH, lambda item: conditions(item) == [("mock0-vf1", "False", "NoAnswer")])
    assert api.requests.count(("PATCH", f"{PATH}/status")) == 2
    assert api.objects[PATH]["status"]["allocation"] == {"devices": {"results": []}}


def test_status_of_a_replaced_claim_is_not_written(
    plug: Callable[..., SysfsTree], api: FakeApiServer, log: io.StringIO
) -> None:
    api.add_claim("pair", [], uid="another")
    reporter = Reporter(Client(api.url), NODE)
    reporter.claims([CLAIM], list(scan(plug(vfs=True).root).devices))
    reporter.failed("default", "pair", "another", "no")
    api.wait_for("/api/v1/namespaces/default/events/pair.")  # written after the status
    assert conditions(api.objects[PATH]) == []
    assert '"Not reported"' not in log.getvalue()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses between retries."""
    monkeypatch.setattr(outbox, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(outbox, "_LONGEST_PAUSE_SECONDS", 0.05)


def refuse(api: FakeApiServer, method: str, *statuses: int, headers: dict[str, str] | None = None) -> None:
    """Answer the next requests of ``method`` with ``statuses``."""
    left = list(statuses)

    def before(asked: str, _: str) -> Any:
        return (left.pop(0), {"message": "later"}, headers or {}) if asked == method and left else None

    api.before = before


PASSING = (429, 500, 502, 503, 504, 409)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", PASSING)
def test_temporarily_refused_event_is_written_later(api: FakeApiServer, log: io.StringIO, status: int) -> None:
    refuse(api, "POST", status)
    Reporter(Client(api.url), NODE).failed("default", "pair", "uid", "device mock9 is not there")
    api.wait_for("/api/v1/namespaces/default/events/pair.")
    until(lambda: '"Reported after retries"' in log.getvalue(), "a log line")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("status", [*PASSING, 403, 422])
def test_refused_status_is_written_later(
    plug: Callable[..., SysfsTree], api: FakeApiServer, log: io.StringIO, method: str, status: int
) -> None:
    api.add_claim("pair", [])
    devices = scan(plug(vfs=True).root).devices
    reporter = Reporter(Client(api.url), NODE)
    refuse(api, method, *[status] * 3)
    for _ in range(3):
        reporter.claims([CLAIM], devices)
    api.wait_until(PATH, lambda item: conditions(item) == [("mock0-vf1", "True", "Prepared")])
    assert log.getvalue().count('"Not reported"') == 1


@pytest.mark.usefixtures("quick")
def test_writes_are_retried_while_the_api_server_is_unreachable(
    api: FakeApiServer, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    client = Client(api.url)
    create, failures = client.create, iter([True] * 35)

    def unreliable(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if next(failures, False):
            raise ApiUnreachableError("away")
        return create(path, body)

    monkeypatch.setattr(client, "create", unreliable)
    Reporter(client, NODE).failed("default", "pair", "uid", "device mock9 is not there")
    api.wait_for("/api/v1/namespaces/default/events/pair.")
    assert log.getvalue().count('"Not reported"') == 1


@pytest.mark.usefixtures("quick")
def test_retry_after_is_obeyed(api: FakeApiServer) -> None:
    refuse(api, "POST", 429, headers={"Retry-After": "1"})
    begin = time.monotonic()
    Reporter(Client(api.url), NODE).failed("default", "pair", "uid", "device mock9 is not there")
    api.wait_for("/api/v1/namespaces/default/events/pair.")
    assert time.monotonic() - begin >= 1.0


def test_pauses_grow_to_a_limit() -> None:
    pauses = [outbox._pause(attempts) for attempts in range(1, 1000)]
    assert pauses[:7] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert set(pauses[6:]) == {60.0}


@pytest.mark.usefixtures("quick")
def test_the_queue_is_bounded_and_each_event_written_once(api: FakeApiServer, log: io.StringIO) -> None:
    api.broken = 503
    reporter = Reporter(Client(api.url), NODE)
    for number in range(300):
        for _ in range(3):
            reporter.failed("default", f"claim{number}", "uid", "device mock9 is not there")
    assert log.getvalue().count('"Report queue is full, dropped a report"') == 300
    api.broken = None
    events = "/api/v1/namespaces/default/events/claim"
    until(lambda: sum(path.startswith(events) for path in api.objects) == 200, "200 events")
    api.wait_for(f"{events}199.")


@pytest.mark.usefixtures("quick")
def test_an_existing_or_invalid_event_is_not_retried(api: FakeApiServer, log: io.StringIO) -> None:
    reporter = Reporter(Client(api.url), NODE)

    def requests_are(count: int) -> None:
        until(lambda: len(api.requests) == count, "a request")

    for count in (1, 2):
        reporter.failed("default", "pair", "uid", "no")
        requests_are(count)
    refuse(api, "POST", 422)
    reporter.failed("default", "bad", "uid", "no")
    reporter.failed("default", "behind", "uid", "no")
    api.wait_for("/api/v1/namespaces/default/events/behind.")
    assert not [path for path in api.objects if "/events/bad." in path]
    assert log.getvalue().count('"Not reported"') == 1


@pytest.mark.usefixtures("quick")
def test_the_latest_status_wins(plug: Callable[..., SysfsTree], api: FakeApiServer) -> None:
    api.add_claim("pair", [])
    api.broken = 503
    devices = list(scan(plug(vfs=True).root).devices)
    sick = [replace(device, problem="NoAnswer") if device.name == "mock0_vf1" else device for device in devices]
    reporter = Reporter(Client(api.url), NODE)
    for _ in range(5):
        reporter.claims([CLAIM], devices)
        reporter.claims([CLAIM], sick)
    api.broken = None
    api.wait_until(PATH, lambda item: conditions(item) == [("mock0-vf1", "False", "NoAnswer")])
    assert api.requests.count(("PATCH", f"{PATH}/status")) == 1


@pytest.mark.usefixtures("quick")
def test_a_claim_that_was_unprepared_is_forgotten(plug: Callable[..., SysfsTree], api: FakeApiServer) -> None:
    """The API server clears status.devices at deallocation; the next pod uses the same claim again."""
    devices = scan(plug(vfs=True).root).devices
    reporter = Reporter(Client(api.url), NODE)
    for _ in range(2):
        api.add_claim("pair", [])
        reporter.claims([CLAIM], devices)
        api.wait_until(PATH, lambda item: conditions(item) == [("mock0-vf1", "True", "Prepared")])
        reporter.claims([], devices)


def test_a_lost_status_is_written_again(plug: Callable[..., SysfsTree], api: FakeApiServer) -> None:
    """Another agent on the node may have unprepared the claim during an update."""
    devices = scan(plug(vfs=True).root).devices
    reporter = Reporter(Client(api.url), NODE)
    for _ in range(2):
        api.add_claim("pair", [])
        reporter.compare({"uid-pair": api.objects[PATH]})
        reporter.claims([CLAIM], devices)
        api.wait_until(PATH, lambda item: conditions(item) == [("mock0-vf1", "True", "Prepared")])
        reported(reporter, "uid-pair")
    reporter.compare({"uid-pair": api.objects[PATH]})
    reporter.claims([CLAIM], devices)
    assert api.requests.count(("PATCH", f"{PATH}/status")) == 2


def test_a_dropped_status_is_written_once(
    plug: Callable[..., SysfsTree], api: FakeApiServer, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Feature gate DRAResourceClaimDeviceStatus is off: the answer is 200, and the field is dropped."""
    api.add_claim("pair", [])
    monkeypatch.setattr(api, "_apply", lambda path, *_: (200, api.objects[path]))
    devices = scan(plug(vfs=True).root).devices
    reporter = Reporter(Client(api.url), NODE)
    for _ in range(5):
        reporter.claims([CLAIM], devices)
        reported(reporter, "uid-pair")
        reporter.compare({"uid-pair": api.objects[PATH]})
    assert api.requests.count(("PATCH", f"{PATH}/status")) == 1
    assert log.getvalue().count('"The API server drops or changes status.devices') == 1


def times(item: dict[str, Any]) -> list[str]:
    found = [condition for device in item["status"]["devices"] for condition in device["conditions"]]
    return [condition["lastTransitionTime"] for condition in found]


def test_last_transition_time_moves_with_the_status_only(
    plug: Callable[..., SysfsTree], api: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.add_claim("pair", [])
    devices = list(scan(plug(vfs=True).root).devices)
    moved = [replace(device, uuid="NEW") if device.name == "mock0_vf1" else device for device in devices]
    sick = [replace(device, problem="NoAnswer") if device.name == "mock0_vf1" else device for device in devices]
    seen = []
    for hour, found in enumerate([devices, devices, moved, sick, sick, devices]):
        now = f"2026-11-27T{hour:02}:00:00Z"
        monkeypatch.setattr(reports, "timestamp", lambda now=now: now)
        reporter = Reporter(Client(api.url), NODE)  # as after a restart of the agent
        reporter.claims([CLAIM], found)
        reported(reporter, "uid-pair")
        seen += times(api.objects[PATH])
    assert [moment[11:13] for moment in seen] == ["00", "00", "00", "03", "03", "05"]
    assert api.requests.count(("PATCH", f"{PATH}/status")) == 4


def test_another_device_under_the_name_is_not_ready(plug: Callable[..., SysfsTree]) -> None:
    recorded = Identity("NODE1-GONE", "0000:19:00.0")
    claim = replace(CLAIM, devices=(PreparedDevice("mock0_vf1", identity=recorded),))
    (status,) = device_statuses(NODE, claim, scan(plug(vfs=True).root).devices)
    (ready,) = status["conditions"]
    assert (ready["status"], ready["reason"]) == ("False", "Replaced")
    assert "NODE1-GONE at 0000:19:00.0" in ready["message"] and "NODE1-NUMA0-VF1 at 0000:11:00.2" in ready["message"]
    assert status["data"]["uuid"] == "NODE1-GONE"


def test_long_message_is_truncated(api: FakeApiServer) -> None:
    event = events.failure(NODE, "default", "c" * 253, "uid", "x" * 5000, "2026-01-01T00:00:00Z")
    assert len(event["message"]) == 1024
    assert len(event["metadata"]["name"]) <= 253
