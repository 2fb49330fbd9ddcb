"""The KMM loader on a real API server, against a stand-in for the operator, not KMM (``module_loader_inside.py``)."""

from __future__ import annotations

from typing import Any

import pytest
from support.inside import report_of
from support.recorded_cluster import NODE1, NODE2

from mock_device.lab.build.gobuild import build_embedded_k8s

TIMEOUT_SECONDS = 240
LABEL = "mock-accel.example.com/kernel-module=kmm"
BOTH = {"labelled": [NODE1, NODE2], "ready": [NODE1, NODE2], "available": 2, "module": True}
OF_TWO = "KMM has loaded the module on {} of 2 nodes after 2 s (status.moduleLoader.availableNumber of Module "


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Report of ``module_loader_inside.py``, which runs once."""
    folder = tmp_path_factory.mktemp("kmm")
    return report_of("module_loader_inside.py", build_embedded_k8s(), folder, timeout=TIMEOUT_SECONDS)


@pytest.mark.slow
class TestStandIn:
    def test_stand_in_has_no_errors(self, report: dict[str, Any]) -> None:
        assert report["errors"] == []

    def test_our_module_is_accepted_by_the_schema(self, report: dict[str, Any]) -> None:
        found = report["schema"]
        assert found["ours"] == "nothing"
        assert 'unknown field "spec.moduleLoader.container.modprobe.module"' in found["unknown field"]
        assert "spec.selector: Required value" in found["no selector"]

    def test_cluster_without_the_operator_says_so(self, report: dict[str, Any]) -> None:
        assert report["before"]["kind"] == "pod"
        assert "KMM is not installed: the cluster has no kind Module" in report["before"]["no operator"]

    def test_everything_is_there_after_the_installation(self, report: dict[str, Any]) -> None:
        assert report["installed"] == BOTH
        assert report["security"] == "privileged"
        assert set(report["checksums"]) >= {"stand-in.yaml", "operator.tar", "worker.tar"}
        assert {len(checksum) for checksum in report["checksums"].values()} == {64}

    def test_module_comes_once_the_operator_and_its_webhook_answer(self, report: dict[str, Any]) -> None:
        history = report["history"]
        assert history[:3] == ["Deployment kmm-stand-in available", "webhook refuses", "Module seen"]
        assert {f"pod kmm-worker-{node}-mock-accel Load" for node in (NODE1, NODE2)} <= set(history[3:])

    def test_operator_uses_preloaded_images(self, report: dict[str, Any]) -> None:
        assert report["container"] == {
            "image": "registry.example.com/kmm/kmm-stand-in:v9",
            "policy": "IfNotPresent",
            "env": {
                "RELATED_IMAGE_WORKER": "localhost/worker-stand-in:v9",
                # Nothing is built in the cluster, so it is not needed.
                "RELATED_IMAGE_BUILD": "registry.example.com/kaniko:latest",
            },
        }

    def test_webhook_keeps_its_certificate(self, report: dict[str, Any]) -> None:
        assert report["certificate kept"]

    def test_attachment_plans_and_marks_what_it_applies(self, report: dict[str, Any]) -> None:
        assert report["planned"] == {"marks": ["mark"], "missing": [], "unplanned": [], "unlabelled": []}

    def test_module_leaves_and_comes_back_with_the_label(self, report: dict[str, Any]) -> None:
        control = report["control"]
        assert control["kind"] == "kmm"
        state, loaded = control["unloaded"]
        assert (state["labelled"], state["ready"], state["available"], loaded) == ([NODE1], [NODE1], 1, [NODE1])
        assert control["loaded"] == [BOTH, [NODE1, NODE2]]

    def test_refused_unload_leaves_all_as_it_was(self, report: dict[str, Any]) -> None:
        control = report["control"]
        assert control["in use"].startswith(f"KMM cannot unload the module on {NODE2}: pod kmm-worker-{NODE2}-mock")
        assert control["after in use"] == [BOTH, [NODE1, NODE2]]

    def test_module_unloaded_behind_its_back_is_loaded_again(self, report: dict[str, Any]) -> None:
        assert report["control"]["behind its back"] == [BOTH, [NODE1, NODE2]]

    @pytest.mark.parametrize(
        ("cause", "number", "reason", "remedy"),
        [
            (
                "label",
                1,
                f"{NODE1}: it has no label {LABEL}, so KMM does not",
                f"lab kubectl label node {NODE1} {LABEL}",
            ),
            (
                "worker",
                1,
                f"{NODE1}: pod kmm-worker-{NODE1}-mock-accel loads the module: container worker waits: CrashLoop",
                f"lab kubectl -n mock-device logs kmm-worker-{NODE1}-mock-accel --all-containers",
            ),
            (
                "mapping",
                0,
                f"{NODE1}: no kernel mapping of Module mock-device/mock-accel fits its kernel 6.12.1-cloud",
                "lab kubectl -n mock-device edit module mock-accel",
            ),
            (
                "image",
                0,
                f"{NODE1}: its image localhost/mock-device/mock-accel-kmod:dev is not there: "
                "pod mock-accel-pull-pod-x7f2k on no node: container puller waits: ErrImagePull connection refused",
                "lab kubectl -n mock-device describe pod mock-accel-pull-pod-x7f2k",
            ),
            (
                "operator",
                2,
                "Deployment kmm-stand-in/kmm-stand-in: expected 1 available replicas, found 0",
                "lab kubectl -n kmm-stand-in describe pods -l app.kubernetes.io/name=kmm",
            ),
        ],
    )
    def test_wait_names_the_cause(
        self, report: dict[str, Any], cause: str, number: int, reason: str, remedy: str
    ) -> None:
        found = report["control"]["failures"][cause]
        assert found.startswith(OF_TWO.format(number))
        assert f"\n  {reason}" in found
        assert f"; look at: {remedy}" in found

    def test_removal_unloads_the_module_and_leaves_no_label(self, report: dict[str, Any]) -> None:
        assert report["removed"] == [{"labelled": [], "ready": [], "available": 0, "module": False}, []]
