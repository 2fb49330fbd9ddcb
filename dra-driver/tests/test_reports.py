"""What users of claims are told."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import reports
from mock_accel_dra.api import ApiUnreachableError, Client
from mock_accel_dra.discovery import scan
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


def test_claim_that_was_made_anew_is_left_alone(
    plug: Callable[..., SysfsTree], api: FakeApiServer, log: io.StringIO
) -> None:
    api.add_claim("pair", [], uid="another")
    reporter = Reporter(Client(api.url), NODE)
    reporter.claims([CLAIM], list(scan(plug(vfs=True).root).devices))
    reporter.failed("default", "pair", "another", "no")
    api.wait_for("/api/v1/namespaces/default/events/pair.")  # written after the status
    assert conditions(api.objects[PATH]) == []
    assert '"Not reported"' not in log.getvalue()


def test_api_server_that_is_away_is_asked_again(api: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_PAUSE_SECONDS", 0.05)
    client = Client(api.url)
    create, failures = client.create, iter([True, True])

    def unreliable(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if next(failures, False):
            raise ApiUnreachableError("away")
        return create(path, body)

    monkeypatch.setattr(client, "create", unreliable)
    Reporter(client, NODE).failed("default", "pair", "uid", "device mock9 is not there")
    api.wait_for("/api/v1/namespaces/default/events/pair.")


def test_long_message_is_cut(api: FakeApiServer) -> None:
    event = reports.event_of(NODE, "default", "c" * 253, "uid", "x" * 5000, "2026-01-01T00:00:00Z")
    assert len(event["message"]) == 1024
    assert len(event["metadata"]["name"]) <= 253
