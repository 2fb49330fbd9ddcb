"""The driver that this process works with: the one of its cluster, or the one that its user has chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mock_device.driver import description, published
from mock_device.driver.description import Driver
from mock_device.topology import Topology

_driver: Driver | None = None
_names: published.Names = {}


def driver() -> Driver:
    """The driver in use; this project's until ``use`` has named another one. Raises StepError for a wrong file."""
    global _driver  # noqa: PLW0603 - all clusters of a process have one driver
    if _driver is None:
        _driver = description.load(description.DEFAULT)
    return _driver


def use(chosen: Driver | None, topology: Topology | None = None) -> None:
    """Let this process work with a driver on a topology's devices; None for this project's."""
    global _driver, _names  # noqa: PLW0603
    _driver = chosen
    _names = published.names(topology) if topology else {}


def name_in_sysfs(item: Mapping[str, Any], device: Mapping[str, Any]) -> str:
    """Name in sysfs of a ``device`` of a ResourceSlice ``item`` of the driver in use (API's JSON)."""
    return published.name_in_sysfs(driver(), _names, item, device)
