"""Reading, waiting for and explaining objects in the cluster, from recorded answers over real HTTP."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from dra_fakes.answers import Answers, Object, api_server, listing
from mock_accel_dra.discovery import Device
from mock_accel_dra.slices import desired

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import claims, kube, pods
from mock_device.checks.objects.claims import DeviceRequest
from mock_device.lab.base.timeouts import Timeout

NODE = "mock-cluster-node1"
CORE = "/api/v1/namespaces/default"
CLAIMS = "/apis/resource.k8s.io/v1/resourceclaims"
OWN_CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
WHY = "0/2 nodes are available: 2 cannot allocate all claims."


def claim(*devices: str, namespace: str = "default") -> Object:
    body = claims.build("pair", [DeviceRequest("accelerators", 2)], "numaNode", kube.LABELS)
    body["metadata"]["namespace"] = namespace
    results = [
        {"request": "accelerators", "driver": "mock-accel.example.com", "pool": f"{NODE}/{device}", "device": device}
        for device in devices
    ]
    body["status"] = {"allocation": {"devices": {"results": results}}} if devices else {}
    return body


def pod(phase: str, **status: Any) -> Object:
    body = pods.build("pair", ["pair"], None, kube.LABELS)
    body["metadata"]["uid"] = "pod-uid"
    return body | {"status": {"phase": phase, **status}}


def cluster(the_pod: Object, *the_claims: Object) -> Answers:
    """mock0 and mock1 on NUMA node 0 and mock3 on 1, a pod, and claims."""
    places = {"mock0": ("0000:11:00.0", 0), "mock1": ("0000:12:00.0", 0), "mock3": ("0000:21:00.0", 1)}
    devices = [
        Device(name, f"UUID-{name}", 1 << 30, numa_node, ("compute",), 0, bdf, "pci0000:10")
        for name, (bdf, numa_node) in places.items()
    ]
    slices = [item for pool in desired(NODE, "uid", devices).values() for item in pool]
    for item in slices:
        item["spec"]["pool"] |= {"generation": 1, "resourceSliceCount": 1}
    return {
        f"{CORE}/pods/pair": (200, the_pod),
        f"{CORE}/pods": listing(the_pod),
        f"{CORE}/events": listing(),
        CLAIMS: listing(*the_claims),
        SLICES: listing(*slices),
    }


def test_numa_node_of_devices_survives_the_client() -> None:
    with api_server(cluster(pod("Running"), claim("mock3", "mock0"))) as api:
        found = kube.devices_of_pod(api, "pair")
    assert [(device.name, device.published.numa_node) for device in found] == [("mock3", 1), ("mock0", 0)]


@pytest.mark.parametrize(
    ("the_claims", "message"),
    [
        ([], "pod 'pair' has no devices: it has no claims"),
        ([claim("mock0", namespace="other")], "pod 'pair' has no devices: it has no claims"),
        (
            [claim()],
            "pod 'pair' has no devices: claim 'pair' asks for 2 of mock-accel-pf "
            "with the same mock-accel.example.com/numaNode and has no devices yet",
        ),
    ],
)
def test_pod_without_devices_is_an_error(the_claims: list[Object], message: str) -> None:
    with api_server(cluster(pod("Pending"), *the_claims)) as api, pytest.raises(CheckError) as caught:
        kube.devices_of_pod(api, "pair")
    assert str(caught.value) == message


def test_missing_pod_is_an_error() -> None:
    with api_server({}) as api, pytest.raises(CheckError, match="^there is no pod 'pair' in namespace default$"):
        kube.get_pod(api, "pair")


def test_pending_pod_is_explained_by_claims_free_devices_and_last_event() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": WHY}
    events = [
        {
            "metadata": {"name": reason, "creationTimestamp": f"2026-01-01T00:00:0{second}Z"},
            "involvedObject": {},
            "reason": reason,
            "message": WHY,
        }
        for second, reason in ((5, "FailedScheduling"), (2, "Older"))
    ]
    the_pod = pod("Pending", conditions=[condition])
    # A claim of the same name in another namespace: it holds a device, but is not the pod's.
    other = claim("mock0", namespace="other")
    answers = cluster(the_pod, claim(), other) | {f"{CORE}/events": listing(*events)}
    with api_server(answers) as api:
        explanation = kube.explain_pod(api, the_pod)
    assert explanation == (
        f"it is Pending; PodScheduled=False Unschedulable ({WHY}); "
        "claim 'pair' asks for 2 of mock-accel-pf with the same mock-accel.example.com/numaNode "
        "and has no devices yet; "
        "free PFs: mock-cluster-node1 NUMA node 0: 1, mock-cluster-node1 NUMA node 1: 1; "
        f"last event: FailedScheduling: {WHY}"
    )


def test_wait_ends_when_the_pod_has_ended() -> None:
    with api_server(cluster(pod("Failed"))) as api, pytest.raises(CheckError) as caught:
        kube.wait_pod(api, "pair", pods.runs, timedelta(minutes=10), "Running")
    assert str(caught.value).startswith("pod 'pair': expected it to be Running within 600 s: it is Failed; ")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (409, "ResourceClaim 'pair' already exists: an earlier test has not cleaned up"),
        (422, "ResourceClaim 'pair': the API server refuses it, 422: too many"),
    ],
)
def test_error_of_a_refused_claim_has_the_reason(status: int, message: str) -> None:
    answers: Answers = {OWN_CLAIMS: (status, {"message": "too many"})}
    with api_server(answers) as api, pytest.raises(CheckError) as caught:
        kube.create_claim(api, claim())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("reason", "text", "complaint"),
    [
        ("PrepareFailed", "is gone", ""),
        (
            "PrepareFailed",
            "busy",
            "expected an event PrepareFailed with 'busy', found PrepareFailed: mock9 is gone",
        ),
        ("Failed", "not", "expected an event Failed with 'not', found PrepareFailed: mock9 is gone"),
    ],
)
def test_missing_event_is_reported(reason: str, text: str, complaint: str) -> None:
    events = [SimpleNamespace(reason="PrepareFailed", message="mock9 is gone")]
    assert kube.event_complaints(events, reason, text) == ([complaint] if complaint else [])
    assert kube.event_complaints([], "Failed", "x") == ["expected an event Failed with 'x', found none"]


class SlicesComeBack(dict[str, Any]):
    """Answers of an API server that has no slices when it is first asked for them."""

    def get(self, path: str, default: Any = None) -> Any:
        found = super().get(path, default)
        if path == SLICES and self.pop("away", None):
            return listing()
        return found


def test_devices_are_those_that_are_published_again() -> None:
    """A kubelet that starts deletes the slices of its node."""
    answers = SlicesComeBack(cluster(pod("Running"), claim("mock0")), away=(200, {}))
    with api_server(answers) as api:
        assert [device.name for device in kube.allocated_devices(api)] == ["mock0"]
        answers["away"] = (200, {})
        assert [device.name for device in kube.devices_of_pod(api, "pair")] == ["mock0"]


def test_device_that_stays_unpublished_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timeout.SLICES, "nominal", timedelta(0))
    with (
        api_server(cluster(pod("Running"), claim("mock7"))) as api,
        pytest.raises(CheckError, match="mock7 of pool .* but no ResourceSlice publishes it"),
    ):
        kube.allocated_devices(api)
