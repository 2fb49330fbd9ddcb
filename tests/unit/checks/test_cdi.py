"""CDI files on the nodes, compared with the devices allocated to claims."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mock_accel_dra import cdi as driver
from support.driver_device import device_of
from support.topologies import CLUSTER

from mock_device import topology
from mock_device.checks.nodes import cdi
from mock_device.checks.nodes.cdi import CdiFile
from mock_device.topology import DeviceId

NODE = "mock-cluster-node1"
PF, VF = CLUSTER.node(NODE).functions[:2]
ALLOCATED = {DeviceId(NODE, PF.name): PF}
PATH = "/var/run/cdi/example.com_mock-accel-mock0.json"
LINKS = dict(device_of(CLUSTER.node(NODE), PF).links)


def content(function: topology.Function) -> dict[str, Any]:
    """Content of the driver's file for ``function``."""
    return driver.spec(Path(cdi.FOLDER), device_of(CLUSTER.node(NODE), function))


def file_with(spec: dict[str, Any], links: dict[str, str] | None = LINKS) -> CdiFile:
    """The file of ``mock0`` with content ``spec``."""
    return CdiFile(NODE, PATH, json.dumps(spec), links)


def test_probe_lists_all_files_of_the_driver(tmp_path: Path) -> None:
    driver.write(tmp_path, device_of(CLUSTER.node(NODE), PF))
    driver.write(tmp_path, device_of(CLUSTER.node(NODE), VF))
    (tmp_path / ".example.com_mock-accel-mock1.json.7.tmp").write_text('{"cut of')
    (tmp_path / "nvidia.json").write_text("{}")
    (tmp_path / "example.com_mock-accel-mock2.links").mkdir()
    (tmp_path / "example.com_mock-accel-mock2.links" / "a").symlink_to("../../devices/left")
    (tmp_path / "example.com_mock-accel-mock2.links" / "b").write_text("")
    (tmp_path / "example.com_mock-accel-mock3.link").symlink_to("dangling")
    script = cdi.probe().replace(cdi.FOLDER, str(tmp_path))
    output = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    files = cdi.parse(NODE, output.replace(str(tmp_path), cdi.FOLDER))
    assert [(file.text, file.links) for file in files] == [
        (json.dumps(content(PF), indent=2), LINKS),
        (json.dumps(content(VF), indent=2), dict(device_of(CLUSTER.node(NODE), VF).links)),
        ("", None),
        ("", None),
        ("", {"a": "../../devices/left", "b": ""}),
    ]
    assert cdi.complaints(files, {DeviceId(NODE, PF.name): PF, DeviceId(NODE, VF.name): VF}) == [
        f"{NODE}: /var/run/cdi/{name} is unexpected: no allocated device belongs to it"
        for name in (
            "example.com_mock-accel-mock3.link",
            ".example.com_mock-accel-mock1.json.7.tmp",
            "example.com_mock-accel-mock2.links",
        )
    ]


def test_probe_of_a_missing_folder_lists_nothing(tmp_path: Path) -> None:
    script = cdi.probe().replace(cdi.FOLDER, str(tmp_path / "cdi"))
    output = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert cdi.parse(NODE, output) == []


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "node1: the list of CDI files is incomplete: ''"),
        ("file\t/a.json\n+{", "node1: the list of CDI files is incomplete: 'file\\t/a.json\\n+{'"),
        ("+{}\nend\n", "node1: expected the line of a CDI file, found '+{}'"),
        ("folder\t/a\nlink\tuuid\nend\n", "node1: expected the line of a CDI file, found 'link\\tuuid'"),
        ("link\tuuid\t..\nend\n", "node1: expected the line of a CDI file, found 'link\\tuuid\\t..'"),
        ("file\t/a.json\n{}\nend\n", "node1: expected the line of a CDI file, found '{}'"),
    ],
)
def test_invalid_output_is_rejected(output: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        cdi.parse("node1", output)
    assert str(caught.value) == message


def test_file_on_another_node_is_unexpected() -> None:
    text = json.dumps(content(PF))
    assert cdi.complaints([CdiFile("mock-cluster-node2", PATH, text)], ALLOCATED) == [
        f"mock-cluster-node2: {PATH} is unexpected: no allocated device belongs to it",
        f"{NODE} mock0 (0000:11:00.0): is allocated, but the node has no {PATH}; look at the node agent's log",
    ]


def _edits(spec: dict[str, Any]) -> dict[str, Any]:
    edits: dict[str, Any] = spec["devices"][0]["containerEdits"]
    return edits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec.update(cdiVersion="0.5.0"), "expected cdiVersion '0.8.0', found '0.5.0'"),
        (lambda spec: spec.pop("kind"), "expected kind 'example.com/mock-accel', found None"),
        (lambda spec: spec["devices"][0].update(name="mock1"), "expected device 'mock0' alone, found ['mock1']"),
        (lambda spec: spec["devices"].append({"name": "all"}), "expected device 'mock0' alone, found ['mock0', 'all']"),
        (
            lambda spec: _edits(spec).update(
                env=["MOCK_ACCEL_DEVICE_MOCK0=mock0", "MOCK_ACCEL_PCI_MOCK0=0000:12:00.0"]
            ),
            "expected environment MOCK_ACCEL_PCI_MOCK0=0000:11:00.0, MOCK_ACCEL_UUID_MOCK0=NODE1-NUMA0-PF, "
            "found MOCK_ACCEL_DEVICE_MOCK0=mock0, MOCK_ACCEL_PCI_MOCK0=0000:12:00.0",
        ),
        (
            lambda spec: _edits(spec).pop("env"),
            "expected environment MOCK_ACCEL_DEVICE_MOCK0=mock0, MOCK_ACCEL_PCI_MOCK0=0000:11:00.0, "
            "MOCK_ACCEL_UUID_MOCK0=NODE1-NUMA0-PF, found none",
        ),
        (
            lambda spec: _edits(spec).update(env=[7]),
            "expected environment MOCK_ACCEL_DEVICE_MOCK0=mock0, MOCK_ACCEL_PCI_MOCK0=0000:11:00.0, "
            "MOCK_ACCEL_UUID_MOCK0=NODE1-NUMA0-PF, found 7",
        ),
    ],
)
def test_file_of_another_device_is_reported(change: Callable[[dict[str, Any]], None], message: str) -> None:
    spec = content(PF)
    change(spec)
    assert cdi.complaints([file_with(spec)], ALLOCATED) == [f"{NODE}: {PATH}: {message}"]


@pytest.mark.parametrize(
    ("links", "complaint"),
    [
        (None, "expected a folder of links, found none"),
        (
            {"device": LINKS["device"]},
            "expected link uuid to ../../../devices/…/0000:11:00.0/mock-accel/mock0/uuid, found None",
        ),
        (
            LINKS | {"device": "/sys/devices/pci0000:10/0000:11:00.0"},
            "expected link device to ../../../devices/…/0000:11:00.0, found '/sys/devices/pci0000:10/0000:11:00.0'",
        ),
        (
            LINKS | {"status": LINKS["uuid"]},
            f"expected link status to ../../../devices/…/0000:11:00.0/mock-accel/mock0/status, found {LINKS['uuid']!r}",
        ),
    ],
)
def test_wrong_links_are_reported(links: dict[str, str] | None, complaint: str) -> None:
    assert cdi.complaints([file_with(content(PF), links)], ALLOCATED) == [
        f"{NODE}: {PATH}: /var/run/cdi/example.com_mock-accel-mock0.links: {complaint}"
    ]


def test_links_are_only_required_if_they_are_mounted() -> None:
    spec = content(PF)
    _edits(spec)["mounts"] = [{"hostPath": "/sys/class/mock-accel/mock0", "containerPath": "/a", "options": ["bind"]}]
    assert cdi.complaints([file_with(spec, None)], ALLOCATED) == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "JSONDecodeError("),
        ("[]", "TypeError("),
        ("{}", "KeyError('devices')"),
        ('{"devices": [{"name": "mock0"}]}', "KeyError('containerEdits')"),
        ('{"devices": [{"name": "mock0", "containerEdits": null}]}', "AttributeError("),
    ],
)
def test_file_other_than_a_cdi_specification_is_reported(text: str, error: str) -> None:
    (message,) = cdi.complaints([CdiFile(NODE, PATH, text)], ALLOCATED)
    assert message.startswith(f"{NODE}: {PATH}: expected a CDI specification, found {text!r} ({error}")
