"""Tags of suites and tests that affect on which clusters they run."""

from __future__ import annotations

from collections.abc import Iterable

from robot.running import TestSuite

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.kubernetes_version import minor
from mock_device.lab.cluster.cluster import Capability

_ALONE = "alone"
_LONG = "long"
_NEEDS = "needs-"
_SINCE = "since-"


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


def first_version(tags: Iterable[str]) -> str:
    """First version of Kubernetes on which a test with ``tags`` can pass (``since-v1.36``); empty without such a tag.

    Raises StepError for a tag that names no version.
    """
    versions = [tag.removeprefix(_SINCE) for tag in tags if tag.startswith(_SINCE)]
    return max(versions, key=minor, default="")


def too_old(first: str, release: str) -> str:
    """Why a test that needs ``first`` or later cannot pass on ``release`` of Kubernetes; empty if it can."""
    if not first or minor(release) >= minor(first):
        return ""
    return f"needs Kubernetes {first} or later, the cluster has {release}"
