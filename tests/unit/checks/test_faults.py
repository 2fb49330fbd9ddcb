"""Faults that are injected through the API, over real HTTP."""

from __future__ import annotations

import pytest
from dra_fakes.answers import api_server
from kubernetes.client import ApiException

from mock_device.checks.driver import faults

BINDING = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/mock-accel-node-agent"


def test_removing_rights_is_idempotent() -> None:
    with api_server({BINDING: (200, {"kind": "Status"})}) as api:
        faults.remove_rights(api)
    with api_server({}) as api:
        faults.remove_rights(api)


def test_refusal_of_the_api_server_is_raised() -> None:
    with api_server({BINDING: (403, {})}) as api, pytest.raises(ApiException):
        faults.remove_rights(api)
