"""What deploying and removing a driver does, by its description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client
from support import recorded_cluster
from support.topologies import CLUSTER

from mock_device.driver import description
from mock_device.driver.description import Driver
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import deploy
from mock_device.lab.kube import kubeclient, manifests

DESCRIPTION = """\
name: gpu.example.org
namespace: gpus
manifests: [driver.yaml]
device-classes: {all: gpu}
attributes: {pci-address: address}
pods:
  node-agent: {workload: plugin, labels: {app: gpu}, container: driver}
"""
MANIFEST = """\
apiVersion: v1
kind: Namespace
metadata: {name: gpus}
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpu}
spec: {}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: plugin}
"""
LOGS = SimpleNamespace(kubeconfig="kubeconfig", log_dir=Path("logs"), topology=CLUSTER)


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    (tmp_path / "driver.yaml").write_text(MANIFEST)
    path = tmp_path / "gpu.yaml"
    path.write_text(DESCRIPTION)
    return description.read(path)


@pytest.mark.parametrize(
    ("expressions", "kept"),
    [
        (['device.driver == "gpu.example.org"'], False),
        (['device.driver == "other.example.org"'], True),
        ([], False),
        (None, False),
    ],
    ids=["selects it", "selects another driver", "selects everything", "is gone"],
)
def test_driver_is_removed_without_what_others_use(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, expressions: list[str] | None, kept: bool
) -> None:
    selectors = [SimpleNamespace(cel=SimpleNamespace(expression=item)) for item in expressions or ()]
    classes = [] if expressions is None else [SimpleNamespace(spec=SimpleNamespace(selectors=selectors))]
    deleted: list[tuple[str, str | None]] = []

    def delete(_: Any, objects: list[dict[str, Any]], namespace: str | None, timeout: float) -> None:
        deleted.extend((item["kind"], namespace) for item in objects)

    monkeypatch.setattr(kubeclient, "connect", lambda _: None)
    monkeypatch.setattr(manifests, "delete_objects", delete)
    monkeypatch.setattr(
        client,
        "ResourceV1Api",
        lambda _: SimpleNamespace(list_device_class=lambda field_selector: SimpleNamespace(items=classes)),
    )
    cluster: Any = LOGS
    done = deploy.remove_driver(cluster, driver)
    of_class = (
        "kept\tDeviceClass gpu: it does not select devices of gpu.example.org" if kept else "removed\tDeviceClass gpu"
    )
    assert done == ["removed\tDaemonSet plugin", of_class, "kept\tNamespace gpus: others may use it"]
    assert deleted == [("DaemonSet", "gpus"), *([] if kept else [("DeviceClass", "gpus")])]


def published(monkeypatch: pytest.MonkeyPatch, driver: Driver, items: list[dict[str, Any]]) -> None:
    """Wait until the driver publishes all devices, while the cluster has the ResourceSlices ``items``."""

    def watch(_: Any, done: Callable[[Mapping[str, Any]], bool], seconds: float) -> dict[str, Any]:
        assert seconds == 1
        found = {str(number): item for number, item in enumerate(items)}
        done(found)
        return found

    monkeypatch.setattr(kubeclient, "connect", lambda _: None)
    monkeypatch.setattr(kubeclient, "watch_until", watch)
    monkeypatch.setattr(kubeclient, "as_json", lambda _, item: item)
    monkeypatch.setattr(deploy, "explain_pods", lambda *_: "no pods")
    cluster: Any = LOGS
    deploy.wait_published(cluster, driver, timeout=1)


def slice_of(node: str, addresses: list[str], attribute: str = "address") -> dict[str, Any]:
    devices = [
        {"name": f"gpu-{number}", "attributes": {attribute: {"string": address}}}
        for number, address in enumerate(addresses)
    ]
    return {"metadata": {"name": node}, "spec": {"driver": "gpu.example.org", "nodeName": node, "devices": devices}}


def test_devices_are_awaited_by_address(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    slices = [slice_of(node.name, [function.bdf for function in node.pfs]) for node in CLUSTER.nodes]
    published(monkeypatch, driver, slices)
    with pytest.raises(StepError, match=r"no ResourceSlice of gpu\.example\.org after 1 s for: .* mock0.*; no pods"):
        published(monkeypatch, driver, slices[1:])


def test_slices_of_other_drivers_do_not_count(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StepError, match=r"no ResourceSlice of gpu\.example\.org"):
        published(monkeypatch, driver, recorded_cluster.published())
    published(monkeypatch, description.load(description.DEFAULT), recorded_cluster.published())


def test_driver_that_says_no_address_publishes_on_each_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "driver.yaml").write_text(MANIFEST)
    path = tmp_path / "gpu.yaml"
    path.write_text(DESCRIPTION.replace("attributes: {pci-address: address}\n", ""))
    driver = description.read(path)
    slices = [slice_of(node.name, ["any"]) for node in CLUSTER.nodes]
    published(monkeypatch, driver, slices)
    with pytest.raises(StepError, match=r"no ResourceSlice"):
        published(monkeypatch, driver, slices[:1])
