"""Tags of suites and tests that affect on which clusters they run."""

from __future__ import annotations

from collections.abc import Iterable

from robot.running import TestSuite

from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster.cluster import Capability

_ALONE = "alone"
_LONG = "long"
_NEEDS = "needs-"


def runs_alone(suite: TestSuite) -> bool:
    """Whether ``suite`` must run alone on the machine: all its tests have the tag ``alone``."""
    return bool(suite.tests) and all(_ALONE in test.tags for test in suite.tests)


def runs_long(suite: TestSuite) -> bool:
    """Whether ``suite`` takes minutes: all its tests have the tag ``long``."""
    return bool(suite.tests) and all(_LONG in test.tags for test in suite.tests)


def needed(tags: Iterable[str]) -> set[Capability]:
    """Capabilities that a test with ``tags`` needs of its cluster: ``needs-hotplug``, ``needs-power``…

    Raises StepError for a capability that does not exist.
    """
    names = {tag.removeprefix(_NEEDS) for tag in tags if tag.startswith(_NEEDS)}
    if unknown := names - {*Capability}:
        raise StepError(f"expected a tag {_NEEDS} with {', '.join(Capability)}, found {', '.join(sorted(unknown))}")
    return set(map(Capability, names))
