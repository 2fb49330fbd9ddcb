"""Tags of suites and tests that affect on which clusters they run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from robot.running import TestSuite

from mock_device.driver import description
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster.cluster import Capability
from mock_device.lab.kube.features import Needed, Version

_ALONE = "alone"
_LONG = "long"
_NEEDS = "needs-"
_GATE = "gate-"
_API = "api-"
_SINCE = "since-"


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
    names = _of(_NEEDS, tags)
    offers = names & description.known_offers()
    if unknown := names - offers - {*Capability}:
        expected = ", ".join((*Capability, *sorted(description.known_offers())))
        raise StepError(f"expected a tag {_NEEDS} with {expected}, found {', '.join(sorted(unknown))}")
    return Needs(frozenset(map(Capability, names - offers)), offers)


def needed_of_kubernetes(tags: Iterable[str]) -> Needed:
    """What a test with ``tags`` needs of Kubernetes.

    ``gate-DRAExtendedResource`` is a feature gate that must be on, ``api-resource.k8s.io/v1alpha3`` an API that must be
    served, ``since-1.37`` the first version that has all of them. Raises StepError for a gate or API without a version,
    and for what is no version.
    """
    tags = list(tags)
    gates, apis, versions = (_of(prefix, tags) for prefix in (_GATE, _API, _SINCE))
    if (gates or apis) and len(versions) != 1:
        names = ", ".join(sorted(gates | apis))
        found = ", ".join(sorted(versions)) or "none"
        raise StepError(f"expected one tag {_SINCE} with the first version that has {names}, found {found}")
    try:
        since = max(map(Version.parse, versions), default=None)
    except ValueError as error:
        raise StepError(f"tag {_SINCE}: {error}") from error
    return Needed(gates, apis, since)


def _of(prefix: str, tags: Iterable[str]) -> frozenset[str]:
    return frozenset(tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix))
