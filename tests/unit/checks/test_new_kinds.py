"""Deleting objects of kinds that not every API server has."""

from __future__ import annotations

import pytest
from dra_fakes.answers import Answers, api_server
from kubernetes.client import ApiException

from mock_device.checks.objects import new_kinds

RULES = "/apis/resource.k8s.io/v1/devicetaintrules"
GROUPS = "/apis/scheduling.k8s.io/v1beta1/namespaces/some/podgroups"
DONE = (200, {"kind": "Status", "status": "Success"})


def test_kinds_that_are_not_served_are_passed_over() -> None:
    for answers in ({RULES: DONE, GROUPS: DONE}, {}):
        with api_server(dict(answers)) as api:
            new_kinds.delete_all(api, "some", "a=b")


def test_other_refusals_are_errors() -> None:
    answers: Answers = {RULES: DONE, GROUPS: (403, {"message": "not you"})}
    with api_server(answers) as api, pytest.raises(ApiException, match="403"):
        new_kinds.delete_all(api, "some", "a=b")
