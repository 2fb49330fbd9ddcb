"""Descriptions of drivers: what they say, and what a wrong one is told, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_device.driver import current, description
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.variables import driver_names

SMALLEST = """\
name: gpu.example.com
namespace: gpus
device-classes: {all: gpu.example.com}
pods:
  node-agent: {workload: plugin, labels: {app: gpu, part: plugin}, container: driver}
"""


def read(folder: Path, text: str) -> description.Driver:
    path = folder / "driver.yaml"
    path.write_text(text)
    return description.read(path)


@pytest.mark.parametrize("name", driver_names())
def test_drivers_of_the_project_can_be_read(name: str) -> None:
    assert description.load(name).path.stem == name


def test_driver_of_the_project() -> None:
    driver = description.load(description.DEFAULT)
    assert driver.name == "mock-accel.example.com"
    assert driver.device_class("pf") == "mock-accel-pf"
    assert driver.attributes["numa-node"] == "mock-accel.example.com/numaNode"
    assert driver.attributes["pci-root"] == "resource.kubernetes.io/pcieRoot"
    assert driver.in_cel("pci-root") == 'device.attributes["resource.kubernetes.io"].pcieRoot'
    assert driver.manifests == tuple(sorted((PROJECT / "dra-driver" / "manifests").glob("*.yaml")))
    assert driver.builds == ("driver-image",)
    assert {"status-register", "attribute-numa-node", "class-vf", "environment", "controller"} <= driver.offers


def test_smallest_driver(tmp_path: Path) -> None:
    driver = read(tmp_path, SMALLEST)
    assert driver.device_class("pf") == "gpu.example.com"
    with pytest.raises(StepError, match="expected the key device-classes.vf, found none"):
        driver.device_class("vf")
    with pytest.raises(StepError, match="expected the key attributes.numa-node, found none"):
        driver.in_cel("numa-node")
    assert driver.node_agent.selector == "app=gpu,part=plugin"
    assert driver.node_agent.service_account == "plugin"
    assert driver.offers == {"class-all"}
    assert (driver.manifests, driver.chart, driver.controller) == ((), None, None)


def test_every_offer_of_a_driver_is_known() -> None:
    assert description.load(description.DEFAULT).offers <= description.known_offers()


def test_chart_archives_and_manifests_are_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "image.tar").touch()
    (tmp_path / "chart").mkdir()
    images = "images: [image.tar]\n"
    driver = read(tmp_path, f"{SMALLEST}{images}helm: {{chart: chart, values: {{replicas: 2}}}}\n")
    assert driver.archives == (tmp_path / "image.tar",)
    assert driver.chart == description.Chart(tmp_path / "chart", "gpus", {"replicas": 2})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: gpu.example.com", "name: GPU", "1: name: expected text that matches"),
        ("namespace: gpus\n", "", "1: expected the key namespace"),
        ("namespace: gpus\n", "namespace: gpus\nnamespaces: 1\n", "3: unknown keys namespaces; expected name,"),
        ("{all: gpu.example.com}", "{}", "3: device-classes: "),
        ("container: driver", "image: driver", "5: pods.node-agent: unknown keys image; expected workload,"),
        ("pods:", "promises:\n- health\n- wealth\npods:", "6: promises.1: expected admin-access, binding-conditions, "),
        ("pods:", "promises: [checkpoint]\npods:", "4: promises.0: checkpoint needs the key checkpoint, found none"),
        ("pods:", "manifests: [deploy]\npods:", "4: manifests.0: expected a file or folder, "),
        ("pods:", "helm: {chart: c}\nmanifests: [m]\npods:", "5: manifests: this key is not allowed here"),
        (
            "pods:",
            "images: [{build: nothing}]\npods:",
            "4: images.0.build: expected driver-image or go-driver-image, found 'nothing'",
        ),
        ("pods:", "cdi:\n  kind: x\n  files: /a.json\npods:", "5: cdi.kind: expected text that matches"),
        ("pods:", "pods: {}\npods:", "5: not YAML: duplicate key 'pods'"),
    ],
)
def test_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    with pytest.raises(StepError) as error:
        read(tmp_path, SMALLEST.replace(old, new, 1))
    assert str(error.value).startswith(f"{tmp_path / 'driver.yaml'}:{expected}")


def test_files_of_each_device_must_have_its_name(tmp_path: Path) -> None:
    cdi = "cdi:\n  kind: example.com/gpu\n  files: /var/run/cdi/gpu-{claim}.json\npromises: [cdi-file-a-device]\n"
    with pytest.raises(StepError, match=r"driver\.yaml:8: cdi\.files: .* needs \{device\} in it"):
        read(tmp_path, SMALLEST + cdi)


def test_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(StepError, match="no driver 'gpu'; available: go-driver, mock-accel, or the path"):
        description.load("gpu")


def test_process_works_with_the_driver_that_it_is_told(tmp_path: Path) -> None:
    assert current.driver().path.stem == description.DEFAULT
    other = read(tmp_path, SMALLEST)
    current.use(other)
    try:
        assert current.driver() is other
    finally:
        current.use(None)
