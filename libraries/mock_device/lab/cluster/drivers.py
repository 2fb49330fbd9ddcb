"""Which drivers a cluster has, and with which of them this process works."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from mock_device.driver import current, description
from mock_device.driver.description import Driver
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.topology import Topology

VARIABLE = "LAB_DRIVER"
"""Environment variable with the driver that commands work with: a name in ``variables/drivers``, or a path."""
_chosen: Driver | None = None


def choose(name: str | None) -> Driver | None:
    """Let this process work with the driver ``name``; returns ``chosen()``. Raises StepError with file and line."""
    global _chosen  # noqa: PLW0603 - all clusters of a process have one driver
    if name:
        _chosen = description.load(name)
    if found := chosen():
        current.use(found)
    return found


def chosen() -> Driver | None:
    """The driver that the user of this process has named, by an option or in the environment; None if the cluster's
    own will do. Raises StepError.
    """
    name = os.environ.get(VARIABLE)
    return _chosen or (description.load(name) if name else None)


def deployed(record: Path) -> list[Driver]:
    """Drivers that a cluster has, the first of them by default, from the file where ``write`` has recorded them.

    Without that file, which older versions did not write, it is this project's. Raises ValueError for a damaged file,
    StepError for a driver whose description cannot be read any more.
    """
    if not record.exists():
        return [description.load(description.DEFAULT)]
    paths = json.loads(record.read_text())
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise ValueError(f"expected a list of paths, found {paths!r}")
    return [description.read(Path(path)) for path in paths]


def write(record: Path, drivers: Sequence[Driver]) -> None:
    """Record which drivers a cluster has. Their files may change while it runs."""
    write_file(record, json.dumps([str(driver.path) for driver in drivers]))


def use_of_cluster(record: Path, topology: Topology) -> list[Driver]:
    """Work with the chosen driver of a cluster, else with its first one; returns all that it has.

    Raises as ``deployed``.
    A driver that is chosen need not be deployed yet: see ``check_deployed``.
    """
    found = deployed(record)
    current.use(chosen() or next(iter(found), None), topology)
    return found


def check_deployed(cluster: str, found: Sequence[Driver]) -> None:
    """Raise StepError if the driver that this process works with is not among those of the cluster."""
    used = current.driver()
    if used.path not in [driver.path for driver in found]:
        names = ", ".join(driver.name for driver in found) or "none"
        raise StepError(
            f"cluster {cluster!r}: expected driver {used.name} ({used.path}), it has {names}; "
            f"deploy it beside: lab deploy --name {cluster} --driver {used.path}"
        )
