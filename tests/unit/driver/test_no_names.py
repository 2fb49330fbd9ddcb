"""No suite, resource, keyword class, check, step of the diagnosis or tool has a name of a driver."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_device.driver import description
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.variables import driver_names

PLACES = (
    "suites/*.robot",
    "resources/*.resource",
    "libraries/*.py",
    *(f"libraries/mock_device/{room}/**/*.py" for room in ("checks", "diagnosis", "tools", "acceptance")),
)
FILES = sorted(path for place in PLACES for path in PROJECT.glob(place))
COMMON = re.compile(r"[a-z]+")
"""Names of attributes that are ordinary words, such as uuid, or that the kernel has, such as physfn."""
STANDARD = "(?<!resource.kubernetes.io/)(?<!{STANDARD}/)"
"""What stands before a standard attribute, which belongs to Kubernetes."""


def names(driver: description.Driver) -> Iterator[str]:
    """Regular expressions for the names that only a description may have."""
    yield re.escape(driver.name)
    for pods in (driver.node_agent, driver.controller):
        if pods:
            yield re.escape(pods.workload)
    yield from map(re.escape, driver.device_classes.values())
    for qualified in (*driver.attributes.values(), *driver.capacities.values()):
        domain, _, name = qualified.partition("/")
        if domain == driver.name and not COMMON.fullmatch(name):
            yield f"{STANDARD}\\b{re.escape(name)}\\b"
    if driver.environment:
        yield re.escape(driver.environment.prefix)
    if driver.cdi:
        yield re.escape(driver.cdi.kind)
        yield re.escape(Path(driver.cdi.files).name.partition("{")[0])


@pytest.mark.parametrize("name", driver_names())
def test_only_its_description_has_the_names_of_a_driver(name: str) -> None:
    pattern = re.compile("|".join(filter(None, names(description.load(name)))))
    assert pattern.search(description.load(name).path.read_text())
    found = [
        f"{path.relative_to(PROJECT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_files_are_looked_at() -> None:
    assert len(FILES) > 150
