"""Which parts of CEL selectors are evaluated, and which are not."""

from __future__ import annotations

import pytest
from support.recorded_cluster import published

from mock_device.checks.objects import slices
from mock_device.diagnosis import selectors
from mock_device.diagnosis.selectors import Selectors

OURS = "mock-accel.example.com"
DRIVER = f'device.driver == "{OURS}"'
ATTRIBUTES = f'device.attributes["{OURS}"]'
DEVICES = slices.parse(published())


@pytest.mark.parametrize(
    ("expression", "driver", "attributes", "rest"),
    [
        (DRIVER, OURS, (), ()),
        ("device.driver == 'gpu.example.com'", "gpu.example.com", (), ()),
        (f'{DRIVER} &&\n  {ATTRIBUTES}.deviceType == "pf"', OURS, ((f"{OURS}/deviceType", "pf"),), ()),
        (f'({DRIVER}) && ({ATTRIBUTES}["numaNode"] == 0)', OURS, ((f"{OURS}/numaNode", 0),), ()),
        (f"({DRIVER} && {ATTRIBUTES}.fast == true)", OURS, ((f"{OURS}/fast", True),), ()),
        (f"{DRIVER} && {ATTRIBUTES}.memory > 5", OURS, (), (f"{ATTRIBUTES}.memory > 5",)),
        (f'{DRIVER} || {ATTRIBUTES}.uuid == "X"', None, (), (f'{DRIVER} || {ATTRIBUTES}.uuid == "X"',)),
        (f"true ? {DRIVER} : false", None, (), (f"true ? {DRIVER} : false",)),
        (f'{ATTRIBUTES}.uuid == "a && b"', None, ((f"{OURS}/uuid", "a && b"),), ()),
        (f'{ATTRIBUTES}.uuid == "a\\"b"', None, (), (f'{ATTRIBUTES}.uuid == "a\\"b"',)),
        (f"!({DRIVER})", None, (), (f"!({DRIVER})",)),
        (f"({DRIVER}) == ({DRIVER})", None, (), (f"({DRIVER}) == ({DRIVER})",)),
        (f'["x"].exists(d, {DRIVER} && d == "x")', None, (), (f'["x"].exists(d, {DRIVER} && d == "x")',)),
        ("true", None, (), ()),
        ("", None, (), ("",)),
    ],
)
def test_understood_and_other_parts_are_separated(
    expression: str, driver: str | None, attributes: tuple[tuple[str, object], ...], rest: tuple[str, ...]
) -> None:
    found = selectors.parse([expression])
    assert (found.driver, found.attributes, found.rest) == (driver, attributes, rest)
    assert str(found) == " ".join(expression.split())


def test_all_selectors_of_a_request_must_be_met() -> None:
    found = selectors.parse([f"{ATTRIBUTES}.numaNode == 0", f'{ATTRIBUTES}.deviceType == "pf"', f"{ATTRIBUTES}.x > 1"])
    assert [item.name for item in DEVICES if found.may_select(item)] == ["mock0", "mock1", "mock2"] * 2
    assert str(found) == " and ".join(found.expressions) and found
    assert not Selectors()


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        (f"{ATTRIBUTES}.numaNode == true", 0),  # another type is never equal
        (f"{ATTRIBUTES}.nothing == 0", 0),
        ('device.attributes["resource.kubernetes.io"].numaNode == 1', 6),
        ('device.driver == "gpu.example.com"', 0),
        (f"{ATTRIBUTES}.numaNode > 7", 12),  # not evaluated
    ],
)
def test_understood_parts_select_devices(expression: str, selected: int) -> None:
    found = selectors.parse([expression])
    assert sum(found.may_select(item) for item in DEVICES) == selected


def test_class_without_selectors_has_no_driver() -> None:
    assert selectors.of_class({"metadata": {"name": "all"}, "spec": {}}) == Selectors()
    assert selectors.of_class({"metadata": {"name": "all"}}).driver is None
