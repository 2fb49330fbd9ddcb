"""``lab diagnose`` and ``lab slices`` on claims that a real scheduler has processed (``scheduler_inside.py``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from support import PYTHONPATH, SUPPORT
from support.recorded_cluster import NODE1, NODE2

from mock_device.lab.base import namespaces
from mock_device.lab.build.gobuild import build_embedded_k8s

TIMEOUT_SECONDS = 240
CANNOT = "0/2 nodes are available: 2 cannot allocate all claims."
ATTRIBUTES = 'device.attributes["mock-accel.example.com"]'
PF_RESOURCE = "deviceclass.resource.kubernetes.io/mock-accel-pf"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Report of ``scheduler_inside.py``, which runs once."""
    if forbidden := namespaces.forbidden():
        pytest.skip(f"namespaces are not available here: {forbidden.found}")
    folder = tmp_path_factory.mktemp("scheduler")
    inside = SUPPORT / "scheduler_inside.py"
    run = subprocess.run(
        [*namespaces.unshare(), sys.executable, str(inside), str(build_embedded_k8s()), str(folder)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
    )
    assert run.returncode == 0, f"logs are in {folder / 'logs'}:\n{run.stderr[-3000:]}"
    result: dict[str, dict[str, Any]] = json.loads(run.stdout.splitlines()[-1])
    return result


@pytest.mark.slow
class TestJudgedClaims:
    @pytest.mark.parametrize(
        ("case", "pod", "cause", "remedy"),
        [
            (
                "admin",
                "third",
                "claim default/third, request 'device': 6 of mock-accel-pf on one node, at most 0 are free there, "
                "of 12 published",
                "lab slices",
            ),
            (
                "all",
                "all",
                "claim default/all, request 'device': all of mock-accel-pf on one node: on each node some are not free "
                f"({NODE1}: mock0; {NODE2}: mock0)",
                "lab slices",
            ),
            (
                "seven extended",
                "seven",
                f"extended resource {PF_RESOURCE} of main: 7 of mock-accel-pf on one node, at most 6 are free there, "
                "of 12 published",
                "lab slices",
            ),
            ("foreign", "gpus", "", "lab kubectl -n default describe pod gpus"),
            (
                "taint rule",
                "off",
                "claim default/off, request 'device': 1 of mock-accel-pf on one node, at most 0 are free there, "
                "of 12 published; 12 have a taint that is not tolerated: example.com/maintenance=yes:NoSchedule "
                "(DeviceTaintRule maintenance)",
                "lab kubectl get devicetaintrules -o yaml",
            ),
            (
                "same",
                "same",
                "claim 'same' asks for 4 of mock-accel-pf with the same mock-accel.example.com/numaNode and has no "
                "devices yet; no node has enough free devices with the same mock-accel.example.com/numaNode",
                "lab slices",
            ),
            (
                "different",
                "different",
                "claim 'different' asks for 3 of mock-accel-pf with different mock-accel.example.com/numaNode and has "
                "no devices yet; no node has enough free devices with different mock-accel.example.com/numaNode",
                "lab slices",
            ),
            (
                "together",
                "together",
                "claim default/together, request 'a' and claim default/together, request 'b': "
                "together 7 of mock-accel-pf on one node, at most 6 are free there",
                "lab slices",
            ),
        ],
    )
    def test_cause_of_missing_devices(
        self, report: dict[str, dict[str, Any]], case: str, pod: str, cause: str, remedy: str
    ) -> None:
        found = report[case]
        assert found["reasons"][pod].startswith(CANNOT)
        said = f"pod default/{pod}: {f'{cause}; ' if cause else ''}the scheduler says: {CANNOT}"
        assert found["claims can be met"].startswith(said)
        assert found["remedy"] == remedy

    @pytest.mark.parametrize(
        ("case", "cause"),
        [
            (
                "hard CEL",
                f"pod default/hard: claim default/hard, request 'device': CEL {ATTRIBUTES}.memory < 5 is met by fewer "
                "than 1 of the 6 free devices (their memory: ",
            ),
            (
                "failing CEL",
                f"pod default/color: claim default/color, request 'device': CEL {ATTRIBUTES}.color == \"red\" fails "
                "for a device (no device has attribute color); the scheduler says: running "
                '"DynamicResources" filter plugin: claim default/color: selector #0 on device ',
            ),
            (
                "no class",
                "pod default/fast: claim default/fast, request 'device': there is no DeviceClass 'fast'; "
                "available: fabric, gpu, mock-accel-pf, mock-accel-vf; the scheduler says: ",
            ),
            (
                "binding",
                f"pod default/bound: claim 'bound': device {NODE1} port-0 of fabric.example.com waits to be bound: "
                "fabric.example.com/attached is not reported",
            ),
        ],
    )
    def test_other_causes(self, report: dict[str, dict[str, Any]], case: str, cause: str) -> None:
        assert report[case]["claims can be met"].startswith(cause)

    def test_device_with_administrative_access_is_free_for_others(self, report: dict[str, dict[str, Any]]) -> None:
        found = report["admin"]
        assert found["held"] == ["default/again → again", "default/six → six", "default/watch (adminAccess) → watch"]
        assert found["claims are allocated"] == "3 claims of 3 pods are allocated and reserved for them"

    def test_claim_of_an_extended_resource_belongs_to_its_pod(self, report: dict[str, dict[str, Any]]) -> None:
        found = report["two extended"]
        (name,) = found["uses"]["two"]
        assert found["held"] == [f"default/{name} → two"] and found["free"] == 10
        assert found["claims exist"] == "1 pods with claims"
        assert found["claims are allocated"] == "1 claims of 1 pods are allocated and reserved for them"

    def test_devices_of_another_driver_are_not_ours(self, report: dict[str, dict[str, Any]]) -> None:
        found = report["foreign too"]
        assert (found["free"], found["held"], found["remedy"]) == (12, [], "")
        assert found["claims are allocated"] == "1 claims of 1 pods are allocated and reserved for them"
