"""The driver that this process works with: the one of its cluster, or the one that its user has chosen."""

from __future__ import annotations

from mock_device.driver import description
from mock_device.driver.description import Driver

_current: Driver | None = None


def driver() -> Driver:
    """The driver in use; this project's until ``use`` has named another one. Raises StepError if it has no file."""
    return _current or description.load(description.DEFAULT)


def use(chosen: Driver | None) -> None:
    """Let this process work with a driver; None for this project's."""
    global _current  # noqa: PLW0603 - all clusters of a process have one driver
    _current = chosen
