"""The nodes' checkpoints, compared with the cluster's claims, and restarts of agents."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from dra_fakes.answers import api_server

from mock_device.checks.driver import crashes, driver, metrics
from mock_device.checks.errors import CheckError
from mock_device.checks.objects.claims import AllocatedDevice
from mock_device.checks.objects.slices import PublishedDevice


def checkpoint(*uids: str) -> dict[str, Any]:
    claims = {uid: {"namespace": "default", "name": f"name-{uid}", "devices": []} for uid in uids}
    return {"version": 2, "bootID": "b", "claims": claims}


def claim(uid: str, *, used: bool = True, driver: str = "mock-accel.example.com") -> dict[str, Any]:
    results = [{"request": "r", "driver": driver, "pool": "node1/mock0", "device": "mock0"}]
    allocation = {"devices": {"results": results}}
    status = {"allocation": allocation, "reservedFor": [{"resource": "pods", "name": "p"}]} if used else {}
    return {"metadata": {"uid": uid, "namespace": "default", "name": f"name-{uid}"}, "spec": {}, "status": status}


def device(name: str, claim_name: str) -> AllocatedDevice:
    published = PublishedDevice("node1", f"node1/{name}", name, name, f"slice-{name}", {})
    return AllocatedDevice(claim_name, "r", published)


def test_matching_checkpoints_have_no_complaints() -> None:
    found = {"node1": checkpoint("a"), "node2": checkpoint("b")}
    others = [claim("c", used=False), claim("d", driver="gpu.example.com")]
    assert crashes.checkpoint_complaints(found, [claim("a"), claim("b"), *others]) == []


def test_leaked_and_missing_claims_are_named() -> None:
    found = {"node1": checkpoint("gone"), "node2": checkpoint()}
    assert crashes.checkpoint_complaints(found, [claim("a")]) == [
        "node1: the checkpoint has claim name-gone (uid gone), which no pod uses",
        "no checkpoint has claim default/name-a (uid a)",
    ]


def test_device_of_two_claims_is_reported() -> None:
    assert crashes.given_twice([device("mock1", "a"), device("mock2", "b")]) == []
    assert crashes.given_twice([device("mock1", "b"), device("mock1", "a")]) == ["node1 mock1 belongs to claims a, b"]
    watches = replace(device("mock1", "watches"), is_exclusive=False, admin_access=True)
    assert crashes.given_twice([device("mock1", "b"), watches]) == []


def test_checkpoint_of_version_1_has_no_boot_id() -> None:
    assert json.loads(crashes.of_version(checkpoint("a"), 1)) == {"version": 1, "claims": checkpoint("a")["claims"]}


def test_newer_checkpoint_has_unknown_fields() -> None:
    content = json.loads(crashes.of_version(checkpoint("a"), 3))
    assert content["version"] == 3
    assert content["claims"] == checkpoint("a")["claims"]
    assert set(content) - set(checkpoint("a"))


def test_agent_is_back_after_a_restart_when_ready() -> None:
    before = {"a": (1, False)}
    for now in ({"a": (1, False)}, {"a": (1, True)}, {"a": (2, False)}, {}):
        assert not crashes.came_back(before, now)
    for now in ({"a": (2, True)}, {"a": (1, False), "b": (0, True)}):
        assert crashes.came_back(before, now)


class AgentThatComesBack(dict[str, Any]):
    """Answers of an API server that cannot reach the agent at first, then of an agent before its registration."""

    def __init__(self) -> None:
        away = (503, {"message": "error trying to reach service: i/o timeout"})
        self.left = [away, (200, "# no figure yet\n"), (200, f"{metrics.START} 12.5\n")]

    def get(self, path: str, default: Any = None) -> Any:
        assert path.endswith("/agent-1%3A8080/proxy/metrics")
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


def test_wait_ends_when_the_agent_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "pod_of", lambda *_: "agent-1")
    answers = AgentThatComesBack()
    with api_server(answers) as api:
        assert crashes.seconds_until_registered(api, "node1", timedelta(seconds=10)) == 12.5
        answers.left = [(503, {"message": "i/o timeout"})]
        with pytest.raises(CheckError, match="node1 does not say when it was registered after 0 s:\n503: i/o timeout"):
            crashes.seconds_until_registered(api, "node1", timedelta(0))
