"""A driver like ours under other names: the checks follow its description, and see nothing of it by ours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import recorded_cluster
from support.topologies import CLUSTER

from mock_device.checks.layers import publication
from mock_device.checks.nodes import cdi
from mock_device.checks.objects import claims, pods, slices
from mock_device.checks.objects.claims import DeviceClass, DeviceRequest
from mock_device.driver import current, description
from mock_device.topology import DeviceId

NEW = {
    "mock-accel.example.com": "gpu.example.org",
    "mock-accel-pf": "gpu",
    "mock-accel-vf": "gpu-part",
    "numaNode": "numa",
    "pciAddress": "address",
    "deviceType": "type",
    "example.com/mock-accel": "example.org/gpu",
    "example.com_mock-accel-": "example.org_gpu-",
    "MOCK_ACCEL_": "GPU_",
}
NODE = recorded_cluster.NODE1
FUNCTION = CLUSTER.node(NODE).pfs[0]
SHOWN = [recorded_cluster.shown(node) for node in CLUSTER.nodes]


def renamed(text: str) -> str:
    """``text`` with the new names; standard attributes keep theirs."""
    for old, new in NEW.items():
        text = re.sub(rf"(?<!resource\.kubernetes\.io/){re.escape(old)}", new, text)
    return text


@pytest.fixture
def use_renamed(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A function that lets the checks use the renamed driver."""
    text = renamed(description.load(description.DEFAULT).path.read_text())
    path = tmp_path / "gpu.yaml"
    path.write_text(re.sub(r"(?m)^(manifests:|images:|  - build).*\n", "", text))
    yield lambda: current.use(description.read(path))
    current.use(None)


def recorded() -> list[dict[str, Any]]:
    """ResourceSlices of the renamed driver."""
    found: list[dict[str, Any]] = json.loads(renamed(json.dumps(recorded_cluster.published())))
    return found


def test_slices_are_those_of_the_description(use_renamed: Callable[[], None]) -> None:
    assert slices.parse(recorded()) == []
    use_renamed()
    found = slices.parse(recorded())
    assert slices.parse(recorded_cluster.published()) == []
    assert publication.complaints(CLUSTER, SHOWN, found) == []
    assert publication.complaints(CLUSTER, SHOWN, found[1:]) != []


def test_requests_name_its_class_and_attribute(use_renamed: Callable[[], None]) -> None:
    use_renamed()
    request = DeviceRequest("vf", device_class=DeviceClass.VF, selectors=(claims.numa_selector(1),))
    text = json.dumps(claims.build("some", [request], "uuid", {}))
    assert '"gpu-part"' in text
    assert json.dumps('device.attributes["gpu.example.org"].numa == 1') in text
    assert '"matchAttribute": "gpu.example.org/uuid"' in text


def test_cdi_files_are_those_of_the_description(use_renamed: Callable[[], None]) -> None:
    ours = recorded_cluster.cdi_file(FUNCTION, CLUSTER.node(NODE))
    path, text = renamed(ours.path), renamed(ours.text)
    theirs = cdi.CdiFile(NODE, path, text, ours.links)
    allocated = {DeviceId(NODE, FUNCTION.name): FUNCTION}
    assert cdi.complaints([ours], allocated) == []
    use_renamed()
    assert path in cdi.probe().replace("*", f"{FUNCTION.name}.json")
    assert cdi.complaints([theirs], allocated) == []
    assert cdi.complaints([ours], allocated) != []


def test_variables_of_a_container_are_those_of_the_description(use_renamed: Callable[[], None]) -> None:
    use_renamed()
    environment = {"GPU_DEVICE": FUNCTION.name, "GPU_UUID": FUNCTION.uuid, "GPU_PCI": FUNCTION.bdf}
    environment |= {f"{name}_{FUNCTION.name.upper()}": value for name, value in environment.items()}
    seen = pods.SeenDevice(FUNCTION.name, FUNCTION.uuid, str(FUNCTION.numa_node), f"/sys/devices/{FUNCTION.bdf}")
    node = CLUSTER.node(NODE)
    assert pods.view_complaints(pods.ContainerView(environment, (seen,)), node, [FUNCTION]) == []
    (first, *_) = pods.view_complaints(pods.ContainerView({}, (seen,)), node, [FUNCTION])
    assert first.startswith("environment of the container: expected GPU_")
    assert 'case "$line" in GPU_*)' in pods.probe()


def test_device_is_known_by_its_address_without_a_slice_of_its_own(tmp_path: Path) -> None:
    """A driver with other names of devices, and several devices in a slice."""
    path = tmp_path / "other.yaml"
    path.write_text(
        "name: gpu.example.org\nnamespace: gpus\ndevice-classes: {all: gpu}\n"
        "attributes: {pci-address: resource.kubernetes.io/pciBusID, numa-node: resource.kubernetes.io/numaNode}\n"
        "pods: {node-agent: {workload: gpu, labels: {app: gpu}, container: gpu}}\n"
    )
    functions = CLUSTER.node(NODE).pfs
    standard = "resource.kubernetes.io"
    devices = [
        {
            "name": f"gpu-{number}",
            "attributes": {
                f"{standard}/pciBusID": {"string": function.bdf},
                f"{standard}/numaNode": {"int": function.numa_node},
                "model": {"string": "any"},
            },
        }
        for number, function in enumerate(functions)
    ]
    pool = {"name": NODE, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "gpu.example.org", "nodeName": NODE, "pool": pool, "devices": devices}
    item = {"metadata": {"name": "some"}, "spec": spec}
    shown = SHOWN[:1]
    current.use(description.read(path), CLUSTER)
    try:
        found = slices.parse([item])
        assert [device.name for device in found] == [function.name for function in functions]
        assert [device.numa_node for device in found] == [function.numa_node for function in functions]
        assert publication.complaints(CLUSTER, shown, found) == []
        devices[0]["attributes"][f"{standard}/numaNode"] = {"int": 7}  # type: ignore[index]
        (wrong,) = publication.complaints(CLUSTER, shown, slices.parse([item]))
        assert "expected attribute resource.kubernetes.io/numaNode 0, ResourceSlice says 7" in wrong
        del devices[0]
        assert len(publication.complaints(CLUSTER, shown, slices.parse([item]))) == 1
    finally:
        current.use(None)
