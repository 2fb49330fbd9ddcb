"""Tags of suites and tests that affect on which clusters they run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from robot.running import TestSuite

from mock_device.driver import description
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


@dataclass(frozen=True)
class Needs:
    """What a test needs."""

    capabilities: frozenset[Capability]
    """Of its cluster."""
    offers: frozenset[str]
    """Of the driver: promises, and parts of its description such as ``attribute-numa-node``."""


def needed(tags: Iterable[str]) -> Needs:
    """What a test with ``tags`` needs of its cluster (``needs-hotplug``) and its driver (``needs-status-register``).

    Raises StepError for what neither can offer.
    """
    names = {tag.removeprefix(_NEEDS) for tag in tags if tag.startswith(_NEEDS)}
    offers = names & description.known_offers()
    if unknown := names - offers - {*Capability}:
        expected = ", ".join((*Capability, *sorted(description.known_offers())))
        raise StepError(f"expected a tag {_NEEDS} with {expected}, found {', '.join(sorted(unknown))}")
    return Needs(frozenset(map(Capability, names - offers)), frozenset(offers))
