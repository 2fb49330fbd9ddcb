"""Claims of a pod in every form (core/v1)."""

from __future__ import annotations

from typing import Any

import pytest

from mock_device.checks.objects import pod_claims
from mock_device.checks.objects.claim_forms import Request, Wanted
from mock_device.checks.objects.pod_claims import PodClaim

PF, VF = "example.com/accel", "deviceclass.resource.kubernetes.io/mock-accel-vf"
CLASSES = [
    {"metadata": {"name": "mock-accel-pf"}, "spec": {"extendedResourceName": PF}},
    {"metadata": {"name": "mock-accel-vf"}, "spec": {}},
]


def container(name: str, *claims: dict[str, str], **resources: Any) -> dict[str, Any]:
    requests = {key: str(value) for key, value in resources.pop("requests", {}).items()}
    return {"name": name, "resources": {"claims": list(claims), "requests": requests}, **resources}


def request(name: str, device_class: str, count: int, resource: str) -> Request:
    return Request(name, (Wanted(name, device_class, count=count),), resource)


def test_all_forms_of_claims_are_found() -> None:
    spec = {
        "resourceClaims": [
            {"name": "shared", "resourceClaimName": "everybodys"},
            {"name": "own", "resourceClaimTemplateName": "each"},
            {"name": "not-made-yet", "resourceClaimTemplateName": "each"},
            {"name": "not-needed", "resourceClaimTemplateName": "each"},
        ],
        "containers": [container("main", {"name": "shared", "request": "a"}, {"name": "own"}, {"name": "not-needed"})],
    }
    status = {
        "resourceClaimStatuses": [{"name": "own", "resourceClaimName": "p-own-x7k2p"}, {"name": "not-needed"}],
        "extendedResourceClaimStatus": {
            "resourceClaimName": "p-extended-resources-4x",
            "requestMappings": [
                {"containerName": "main", "resourceName": PF, "requestName": "container-0-request-0"},
                {"containerName": "side", "resourceName": PF, "requestName": "container-1-request-0"},
            ],
        },
    }
    pod = {"spec": spec, "status": status}
    assert pod_claims.of_pod(pod) == [
        PodClaim("shared", "everybodys"),
        PodClaim("own", "p-own-x7k2p", "each"),
        PodClaim("not-made-yet", "", "each"),
        PodClaim("not-needed", "", "each", needed=False),
        PodClaim("", "p-extended-resources-4x"),
    ]
    assert pod_claims.uses(pod, "main") == {
        ("everybodys", "a"),
        ("p-own-x7k2p", None),
        ("p-extended-resources-4x", "container-0-request-0"),
    }


def test_extended_resources_have_two_kinds_of_names() -> None:
    pod = {
        "spec": {
            "containers": [
                container("a", requests={PF: 4, VF: 1, "cpu": "100m", "memory": "1Gi", "example.com/unknown": 1}),
                container("b", requests={PF: 3}),
                container("c", requests={PF: 0}),
            ]
        }
    }
    assert pod_claims.extended_requests(pod, CLASSES) == (
        request("a", "mock-accel-vf", 1, VF),
        request("a", "mock-accel-pf", 4, PF),
        request("b", "mock-accel-pf", 3, PF),
    )
    assert pod_claims.extended_requests(pod, CLASSES, plugged={PF}) == (request("a", "mock-accel-vf", 1, VF),)
    assert pod_claims.extended_requests({"spec": {"containers": [container("a")]}}, CLASSES) == ()


@pytest.mark.parametrize(("starts_with", "extra"), [(2, 0), (5, 2)])
def test_init_container_shares_devices_with_later_containers(starts_with: int, extra: int) -> None:
    init = [
        container("sidecar", requests={PF: 1}, restartPolicy="Always"),
        container("first", requests={PF: 1}),
        container("second", requests={PF: starts_with}),
    ]
    pod = {"spec": {"initContainers": init, "containers": [container("main", requests={PF: 3})]}}
    found = pod_claims.extended_requests(pod, CLASSES)
    assert [(item.name, item.alternatives[0].count) for item in found] == [
        *([("init containers", extra)] if extra else []),
        ("sidecar", 1),
        ("main", 3),
    ]


def test_newest_class_of_an_extended_resource_is_used() -> None:
    named = [
        {
            "metadata": {"name": name, "creationTimestamp": f"2026-01-0{day}T00:00:00Z"},
            "spec": {"extendedResourceName": PF},
        }
        for name, day in (("z", 1), ("c", 2), ("b", 2))
    ]
    assert pod_claims.class_of_resource(PF, named) == "b"
    assert pod_claims.class_of_resource("deviceclass.resource.kubernetes.io/z", named) == "z"
    assert pod_claims.class_of_resource("deviceclass.resource.kubernetes.io/gone", named) is None


def test_pod_with_extended_resources_names_no_claim() -> None:
    made = {"extendedResourceClaimStatus": {"resourceClaimName": "c", "requestMappings": []}}
    assert pod_claims.named_complaints({"spec": {}, "status": made}) == []
    assert pod_claims.named_complaints({"spec": {"resourceClaims": [{"name": "own"}]}, "status": {}}) == [
        "expected no claim in its specification, found own",
        "expected a claim for its extended resources in its status, found none",
    ]
