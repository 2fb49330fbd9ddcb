"""``suites/operation.robot`` fails when slices are written without need."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from kubernetes import client
from kubernetes.client import ApiClient
from support.suite_run import run_suite, statuses

from mock_device.checks.objects import slices
from mock_device.lab.cluster.cluster import Cluster
from mock_device.lab.kube import kubeclient

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

TEST = "Slices Stay As They Are On An Idle Cluster"
WRITER = "a-test"
ANNOTATION = "mock-device.example.com/written-by-a-test"
INTERVAL_SECONDS = 2.0
JOIN_SECONDS = 60.0


def annotate(api: ApiClient, name: str, value: str | None) -> None:
    """Set an annotation that neither the driver nor the suite's setup reads; None removes it."""
    body = {"metadata": {"annotations": {ANNOTATION: value}}}
    client.ResourceV1Api(api).patch_resource_slice(name, body, field_manager=WRITER)


@pytest.fixture
def written_slice(cluster: Cluster) -> Iterator[str]:
    """A slice that is written every two seconds."""
    api = kubeclient.connect(cluster.kubeconfig)
    name = slices.published(api)[0].slice_name
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(INTERVAL_SECONDS):
            annotate(api, name, str(number := number + 1))

    writer = threading.Thread(target=write, name="writer")
    writer.start()
    try:
        yield name
    finally:
        stop.set()
        writer.join(JOIN_SECONDS)
        annotate(api, name, None)


def test_needless_writes_of_a_slice_are_noticed(written_slice: str) -> None:
    tests = run_suite("operation", "slices-written", "--test", TEST)
    assert statuses(tests) == {TEST: "FAIL"}
    title, *slices = tests[TEST].message.splitlines()
    assert title == "expected no writes of ResourceSlices on an idle cluster, found:"
    (complaint,) = slices
    assert complaint.startswith(f"{written_slice}: written ")
    assert f"{WRITER} (Update)" in complaint
