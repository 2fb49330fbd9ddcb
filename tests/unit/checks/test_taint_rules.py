"""DeviceTaintRules, and what evicted pods look like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dra_fakes.answers import api_server, listing

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import taint_rules
from mock_device.checks.objects.availability import taint_rules as parsed_rules
from mock_device.checks.objects.kube import LABELS
from mock_device.checks.objects.slices import PublishedId
from mock_device.checks.objects.taint_rules import Effect, Eviction

PODS = "/api/v1/namespaces/default/pods"
AT = datetime(2026, 11, 28, 12, 0, 2, tzinfo=UTC)


def pod(*, deleted: bool, reason: str = taint_rules.EVICTED) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "victim", "namespace": "default"}
    if deleted:
        metadata |= {"deletionTimestamp": "2026-11-28T12:00:04Z", "deletionGracePeriodSeconds": 2}
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason}
    return {"metadata": metadata, "spec": {"containers": []}, "status": {"conditions": [condition] if reason else []}}


def test_rule_selects_one_device_or_all_of_the_driver() -> None:
    body = taint_rules.build("off", Effect.NO_SCHEDULE, PublishedId("node1/mock0", "mock0"))
    (one,) = parsed_rules([body])
    assert (one.pool, one.device, str(one.taint)) == (
        "node1/mock0",
        "mock0",
        "mock-device.example.com/test=off:NoSchedule (DeviceTaintRule off)",
    )
    assert body["metadata"]["labels"] == LABELS
    (every,) = parsed_rules([taint_rules.build("off", Effect.NO_EXECUTE)])
    assert (every.pool, every.device, every.taint.effect) == (None, None, "NoExecute")


def test_eviction_was_before_the_grace_period() -> None:
    assert taint_rules.eviction_of(pod(deleted=True)) == Eviction(AT, taint_rules.EVICTED)
    assert taint_rules.eviction_of(pod(deleted=False)) is None


def test_evicted_pod_is_noticed() -> None:
    with api_server({PODS: listing(pod(deleted=True))}) as api:
        assert taint_rules.wait_evicted(api, "victim", timedelta(seconds=5)).at == AT


@pytest.mark.parametrize(
    ("pods", "message"),
    [
        ([pod(deleted=True, reason="")], "found no such condition: it was deleted for another reason"),
        ([pod(deleted=True, reason="EvictionByEvictionAPI")], "found EvictionByEvictionAPI"),
        ([pod(deleted=False)], "it is not being deleted"),
        ([], "it is gone, and nobody has seen why"),
    ],
)
def test_other_ends_of_a_pod_are_reported(pods: list[dict[str, Any]], message: str) -> None:
    with api_server({PODS: listing(*pods)}) as api, pytest.raises(CheckError, match=message):
        taint_rules.wait_evicted(api, "victim", timedelta(seconds=0.5))


def test_condition_of_a_rule_is_compared() -> None:
    condition = {"type": "EvictionInProgress", "status": "True", "reason": "PodsPendingEviction", "message": "1 pod"}
    rule = {"status": {"conditions": [condition]}}
    assert taint_rules.condition_complaints(rule, "True", "PodsPendingEviction") == []
    assert taint_rules.condition_complaints(rule, "False", "Completed") == [
        "expected EvictionInProgress False, Completed; found True, PodsPendingEviction: 1 pod"
    ]
    assert taint_rules.condition_complaints({}, "False", "Completed") == [
        "expected EvictionInProgress False, Completed; found no such condition"
    ]


def test_time_of_a_taint_is_read() -> None:
    rule = {"spec": {"taint": {"timeAdded": "2026-11-28T12:00:02Z"}}}
    assert taint_rules.time_added(rule) == AT


def test_refused_rule_is_an_error() -> None:
    path = "/apis/resource.k8s.io/v1/devicetaintrules"
    body = taint_rules.build("off", Effect.NONE)
    with (
        api_server({path: (422, {"message": "no such effect"})}) as api,
        pytest.raises(CheckError, match="DeviceTaintRule 'off': the API server refuses it, 422: no such effect"),
    ):
        taint_rules.create(api, body)
