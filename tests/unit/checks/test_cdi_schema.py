"""CDI files of the driver, and invalid ones, checked with the official JSON schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mock_accel_dra import cdi as driver
from mock_accel_dra.discovery import Device

from mock_device.checks.nodes import cdi_schema
from mock_device.checks.nodes.cdi import CdiFile

PATH = "/var/run/cdi/example.com_mock-accel-mock0.json"
DEVICE = Device("mock0", "UUID", 1 << 30, 0, ("compute",), 0, "0000:11:00.0", "pci0000:10")


def complaints(text: str) -> list[str]:
    return cdi_schema.complaints([CdiFile("node1", PATH, text)])


def test_file_of_the_driver_is_valid() -> None:
    assert complaints(json.dumps(driver.spec(Path("/var/run/cdi"), DEVICE))) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec.pop("kind"), "$: 'kind' is a required property"),
        (lambda spec: spec["devices"][0].update(name=1), "$.devices[0].name: 1 is not of type 'string'"),
        (
            lambda spec: spec["devices"][0]["containerEdits"].update(env="A=B"),
            "$.devices[0].containerEdits.env: 'A=B' is not of type 'array'",
        ),
    ],
)
def test_violation_of_the_schema_is_reported(change: Callable[[dict[str, Any]], None], message: str) -> None:
    spec = driver.spec(Path("/var/run/cdi"), DEVICE)
    change(spec)
    assert complaints(json.dumps(spec)) == [f"node1: {PATH}: {message}"]


def test_invalid_json_is_reported() -> None:
    (message,) = complaints('{"kind":')
    assert message.startswith(f"node1: {PATH}: expected JSON, found '{{\"kind\":' (")
