"""PodGroups and the claims that their pods share."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from dra_fakes.answers import api_server, listing

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import pod_groups, pods
from mock_device.checks.objects.kube import LABELS

GROUPS = "/apis/scheduling.k8s.io/v1beta1/namespaces/default/podgroups"


def group(claim: str | None) -> dict[str, Any]:
    statuses = [{"name": "of-group", "resourceClaimName": claim}, {"name": "other"}]
    return pod_groups.build("team", "of-group", 2) | {"status": {"resourceClaimStatuses": statuses}}


def claim_for(*users: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": "c", "namespace": "default"}, "spec": {}, "status": {"reservedFor": list(users)}}


def test_pods_and_group_name_the_same_claim() -> None:
    pod = pods.build("first", [], None, LABELS, template="of-group", group="team")
    assert pod["spec"]["schedulingGroup"] == {"podGroupName": "team"}
    assert pod["spec"]["resourceClaims"] == pod_groups.build("team", "of-group", 2)["spec"]["resourceClaims"]


def test_claim_of_a_group_is_found() -> None:
    with api_server({GROUPS: listing(group("team-of-group-x7"))}) as api:
        assert pod_groups.wait_claim(api, "team", "of-group", timedelta(seconds=2)) == "team-of-group-x7"


@pytest.mark.parametrize(
    ("groups", "state"), [([group(None)], "it has none"), ([group("")], "it has none"), ([], "there is no such group")]
)
def test_missing_claim_is_an_error(groups: list[dict[str, Any]], state: str) -> None:
    with api_server({GROUPS: listing(*groups)}) as api, pytest.raises(CheckError, match=f"within 1 s: {state}"):
        pod_groups.wait_claim(api, "team", "of-group", timedelta(seconds=1))


def test_refused_group_is_an_error() -> None:
    with (
        api_server({GROUPS: (404, {"message": "not served"})}) as api,
        pytest.raises(CheckError, match="PodGroup 'team': the API server refuses it, 404: not served"),
    ):
        pod_groups.create(api, pod_groups.build("team", "of-group", 2))


def test_reservation_is_for_the_group_only() -> None:
    team = {"apiGroup": "scheduling.k8s.io", "resource": "podgroups", "name": "team", "uid": "u"}
    pod = {"resource": "pods", "name": "first", "uid": "v"}
    assert pod_groups.reservation_complaints(claim_for(team), "team") == []
    assert pod_groups.reservation_complaints(claim_for(pod), "team") == [
        "expected it to be reserved for podgroups team only, found pods first"
    ]
    assert pod_groups.reservation_complaints(claim_for(), "team")[0].endswith("found nothing")
