"""A Helm release on a real API server without nodes (``release_inside.py``): ownership, conflicts, loaders."""

from __future__ import annotations

from typing import Any

import pytest
from support.inside import report_of

from mock_device.lab.build import chart
from mock_device.lab.build.gobuild import build_embedded_k8s
from mock_device.lab.kube import owned

# It may have to build Helm.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
TIMEOUT_SECONDS = 280.0


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Report of ``release_inside.py``, which runs once."""
    chart.helm_program()
    folder = tmp_path_factory.mktemp("release")
    return report_of("release_inside.py", build_embedded_k8s(), folder, timeout=TIMEOUT_SECONDS)


def test_release_beside_plain_manifests_is_refused(report: dict[str, Any]) -> None:
    assert "exists and cannot be imported into the current release" in report["install beside"]


def test_release_takes_over_without_a_change(report: dict[str, Any]) -> None:
    assert report["take over"] == "done"
    assert report["changed by taking over"] == []
    assert report["owners"] == [chart.RELEASE] * 3


def test_first_change_of_what_was_taken_over_needs_force(report: dict[str, Any]) -> None:
    assert 'conflict with "lab"' in report["upgrade without force"]
    assert report["upgrade"] == "done"
    assert report["changed by upgrade"] == ["mock-accel-node-agent"]
    assert report["upgrade again"] == "done"


def test_wrong_value_is_refused(report: dict[str, Any]) -> None:
    assert "at '/module/loader': value must be one of 'pod', 'kmm', 'kmm-build', 'none'" in report["wrong value"]


def test_rollback_restores_what_was_there(report: dict[str, Any]) -> None:
    assert report["rollback"] == "done"
    assert report["changed after rollback"] == []


def test_kmm_takes_the_place_of_the_loader_pod(report: dict[str, Any]) -> None:
    assert (report["kmm"], report["kmm-build"]) == ("done", "done")
    assert report["with kmm"] == ["mock-accel-controller", "mock-accel-node-agent"]


def test_worker_of_kmm_runs_as_root_where_it_copies_firmware(report: dict[str, Any]) -> None:
    users = report["users of pods"]
    assert users == {"worker": 0, "worker without firmware": None, "other container": None, "other pod": None}


def test_uninstall_leaves_the_namespace_only(report: dict[str, Any]) -> None:
    assert report["uninstall"] == "done"
    assert report["left"] == ["Namespace"]


def test_waiting_names_the_object_that_remains(report: dict[str, Any]) -> None:
    assert report["wait before"].startswith("ServiceAccount mock-device/mock-accel-node-agent is still there after 1 s")
    assert report["wait after"] == "done"


def test_label_tells_our_release_from_another(report: dict[str, Any]) -> None:
    assert report["marked"] == "done"
    assert (report["found"], report["found after"]) == ([True, False, True], False)
    assert report["pods on"]["affinity"] == owned.affinity_to(["node1"])


def test_plain_manifests_can_be_applied_afterwards(report: dict[str, Any]) -> None:
    assert report["restored"] == ["mock-accel-controller", "mock-accel-kmod", "mock-accel-node-agent"]
