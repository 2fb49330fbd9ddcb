"""Some of Kubernetes' own tests of DRA, run by ginkgo against a real control plane (``kubernetes_e2e_inside.py``)."""

from __future__ import annotations

from typing import Any

import pytest
from support.inside import report_of

from mock_device.lab.build import gobuild, kubernetes_e2e
from mock_device.lab.build.store import NotCachedError, only_looking

SECONDS = 280.0
FOCUS = "CRUD Tests resource.k8s.io/v1 (DeviceClass|ResourceClaim |ResourceSlice)"
NAMES = [
    f"[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 {kind} [Conformance]"
    for kind in ("DeviceClass", "ResourceClaim", "ResourceSlice")
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run reports; it runs once."""
    try:
        with only_looking():
            programs = kubernetes_e2e.build_programs()
    except NotCachedError:
        pytest.skip("Kubernetes' own tests are not built, which takes minutes; build them: make kubernetes-e2e")
    folder = tmp_path_factory.mktemp("e2e")
    return report_of("kubernetes_e2e_inside.py", gobuild.build_embedded_k8s(), programs, folder, FOCUS, timeout=SECONDS)


def test_selected_tests_pass(report: dict[str, Any]) -> None:
    assert report["problem"] == ""
    assert {name: state.split()[0] for name, state in report["tests"].items()} == dict.fromkeys(NAMES, "passed")


def test_progress_counts_each_test_once(report: dict[str, Any]) -> None:
    first, *ended = report["said"]
    assert first == "  3 tests"
    assert [line.split()[0] for line in ended] == ["1/3", "2/3", "3/3"]
    assert sorted(line.partition(") ")[2] for line in ended) == NAMES


def test_other_systems_can_read_the_result(report: dict[str, Any]) -> None:
    assert report["junit"]
