"""``lab diagnose`` of a driver that has little in common with ours: no controller, metrics, registers or own slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.diagnosis_cases import HEALTHY
from support.recorded_cluster import NODE1, Object, Recorded, shown
from support.topologies import CLUSTER

from mock_device.checks.objects import claims, pods
from mock_device.checks.objects.claims import DeviceRequest
from mock_device.diagnosis import diagnosis
from mock_device.driver import current, description

DRIVER = "gpu.example.org"
DESCRIPTION = f"""\
name: {DRIVER}
namespace: gpus
device-classes: {{all: gpu}}
attributes: {{pci-address: address}}
pods:
  node-agent: {{workload: plugin, labels: {{app: gpu}}, container: driver}}
"""


@pytest.fixture(autouse=True)
def driver(tmp_path: Path) -> Iterator[None]:
    path = tmp_path / "gpu.yaml"
    path.write_text(DESCRIPTION)
    current.use(description.read(path), CLUSTER)
    yield
    current.use(None)


def slice_of(node: str) -> Object:
    devices = [
        {"name": f"gpu-{number}", "attributes": {"address": {"string": function.bdf}}}
        for number, function in enumerate(CLUSTER.node(node).pfs)
    ]
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    return {
        "metadata": {"name": node},
        "spec": {"driver": DRIVER, "nodeName": node, "pool": pool, "devices": devices},
    }


def allocated() -> Object:
    body = claims.build("user", [DeviceRequest("device")], None, {})
    body["metadata"]["namespace"] = "default"
    result = {"request": "device", "driver": DRIVER, "pool": NODE1, "device": "gpu-0"}
    reserved = [{"resource": "pods", "name": "user", "uid": "u"}]
    body["status"] = {"allocation": {"devices": {"results": [result]}}, "reservedFor": reserved}
    return body


def recorded(**changes: Any) -> Recorded:
    """A cluster whose pod ``user`` has a device of the driver, which writes no register and no file that we know."""
    of_class = {"spec": {"selectors": [{"cel": {"expression": f'device.driver == "{DRIVER}"'}}]}}
    healthy = {
        "devices": [shown(node) for node in CLUSTER.nodes],
        "slices": [slice_of(node.name) for node in CLUSTER.nodes],
        "claims": [allocated()],
        "device_classes": [{"metadata": {"name": "gpu"}, **of_class}],
        "controllers": [],
        "agent_metrics": {},
        "agent_folders": {},
        "cdi_files": [],
        "views": {},
    }
    return replace(HEALTHY, **{**healthy, **changes})


def test_healthy_cluster_has_no_broken_step() -> None:
    found = diagnosis.walk(recorded())
    assert found.broken is None, found.broken
    evidence = {step.step: step.evidence for step in found.steps}
    assert evidence["all devices can be published"] == f"not judged: {DRIVER} does not promise metrics"
    assert evidence["controller runs"] == f"{DRIVER} has none"
    assert evidence["containers see their devices"] == f"not judged: {DRIVER} does not promise it"


@pytest.mark.parametrize(
    ("changes", "step", "remedy"),
    [
        ({"daemon_set": None}, "node agents run", "lab deploy"),
        (
            {"slices": [slice_of(CLUSTER.nodes[1].name)], "claims": []},
            "ResourceSlices follow sysfs",
            "lab kubectl -n gpus rollout restart daemonset/plugin",
        ),
        ({"device_classes": []}, "DeviceClasses exist", "lab deploy"),
    ],
)
def test_what_is_broken_is_named_by_its_description(changes: dict[str, Any], step: str, remedy: str) -> None:
    found = diagnosis.walk(recorded(**changes))
    assert found.broken and (found.broken.step, found.remedy) == (step, remedy)


def test_variables_that_nobody_described_are_not_asked_for() -> None:
    assert pods.probe() == "echo end\n"
