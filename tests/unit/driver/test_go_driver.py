"""The example of a driver in Go is what its description says."""

from __future__ import annotations

import re
from typing import Any

from mock_device.driver import description
from mock_device.driver.description import Driver
from mock_device.lab.build import images
from mock_device.lab.build.gobuild import GO_DRIVER
from mock_device.lab.kube import manifests

DRIVER: Driver = description.load("go-driver")


def objects() -> dict[str, dict[str, Any]]:
    """Objects of the manifests, by kind."""
    return {item["kind"]: item for path in DRIVER.manifests for item in manifests.read_manifest(path)}


def constant(file: str, name: str) -> str:
    found = re.search(rf'^\s*{name} += (?:driverName \+ )?"([^"]*)"', (GO_DRIVER / file).read_text(), re.MULTILINE)
    assert found, f"expected the constant {name} in {file}"
    return found[1]


def test_names_are_those_of_the_code() -> None:
    assert constant("main.go", "driverName") == DRIVER.name
    assert DRIVER.cdi and DRIVER.environment
    assert DRIVER.name + constant("cdi.go", "cdiKind") == DRIVER.cdi.kind
    assert f'variable := "{DRIVER.environment.prefix}"' in (GO_DRIVER / "cdi.go").read_text()
    assert DRIVER.cdi.files.startswith(f"/var/run/cdi/{DRIVER.name}-")


def test_pods_are_those_of_the_manifest() -> None:
    found = objects()
    daemon_set = found["DaemonSet"]
    template = daemon_set["spec"]["template"]
    (container,) = template["spec"]["containers"]
    agent = DRIVER.node_agent
    assert found["Namespace"]["metadata"]["name"] == DRIVER.namespace
    assert (daemon_set["metadata"]["name"], container["name"]) == (agent.workload, agent.container)
    assert agent.labels.items() <= template["metadata"]["labels"].items()
    assert template["spec"]["serviceAccountName"] == agent.service_account
    assert container["image"] == images.GO_DRIVER_IMAGE


def test_class_selects_devices_of_the_driver() -> None:
    device_class = objects()["DeviceClass"]
    assert device_class["metadata"]["name"] == DRIVER.device_class("pf")
    (selector,) = device_class["spec"]["selectors"]
    assert f'device.driver == "{DRIVER.name}"' in selector["cel"]["expression"]


def test_rolling_updates_start_the_new_pod_first() -> None:
    strategy = objects()["DaemonSet"]["spec"]["updateStrategy"]["rollingUpdate"]
    assert ("rolling-update" in DRIVER.promises) == (strategy == {"maxSurge": 1, "maxUnavailable": 0})
