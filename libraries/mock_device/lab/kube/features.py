"""What of Kubernetes a cluster has: its version, its feature gates, the API versions that it serves.

They come from the running API server: ``/version``, the metric ``kubernetes_feature_enabled`` of ``/metrics``
(k8s.io/component-base, ``metrics/prometheus/feature``), and ``/apis``. Gates are those of the API server; the lab gives
all components the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from kubernetes import client
from kubernetes.client import ApiClient, ApiException
from prometheus_client.parser import text_string_to_metric_families
from urllib3.exceptions import HTTPError

from mock_device.lab.base.errors import StepError
from mock_device.lab.kube import kubeclient

METRIC = "kubernetes_feature_enabled"
_VERSION = re.compile(r"v?(\d+)\.(\d+)")


@dataclass(frozen=True, order=True)
class Version:
    """A minor version of Kubernetes."""

    major: int
    minor: int

    @staticmethod
    def parse(text: str) -> Version:
        """The minor version of ``1.37`` or ``v1.37.2``. Raises ValueError."""
        match = _VERSION.match(text)
        if match is None:
            raise ValueError(f"expected a version of Kubernetes such as 1.37, found {text!r}")
        return Version(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True)
class Gate:
    """A feature gate of the running API server."""

    name: str
    stage: str
    """``alpha``, ``beta``, ``deprecated`` or, once it is stable, ``GA``."""
    enabled: bool


@dataclass(frozen=True)
class Offered:
    """What a cluster's Kubernetes has."""

    version: str
    """As the API server says: ``v1.37.2``."""
    gates: Mapping[str, Gate] = field(default_factory=dict)
    """All feature gates that this version knows, by name."""
    api_versions: Collection[str] = ()
    """Group and version of the APIs that are served: ``resource.k8s.io/v1``."""


@dataclass(frozen=True)
class Needed:
    """What a test needs of Kubernetes."""

    gates: frozenset[str] = frozenset()
    api_versions: frozenset[str] = frozenset()
    since: Version | None = None
    """The first version that has all of it."""

    def __bool__(self) -> bool:
        return bool(self.gates or self.api_versions or self.since)


class MissingFeatureError(StepError):
    """The cluster's Kubernetes lacks a feature, or has it off."""


def parse_gates(text: str) -> dict[str, Gate]:
    """Feature gates in the metrics of a component (Prometheus text format), by name."""
    # The API server has some ten thousand lines.
    lines = "".join(f"{line}\n" for line in text.splitlines() if line.startswith(METRIC))
    samples = [sample for family in text_string_to_metric_families(lines) for sample in family.samples]
    return {
        sample.labels["name"]: Gate(
            sample.labels["name"], sample.labels.get("stage", "").lower() or "GA", bool(sample.value)
        )
        for sample in samples
    }


def read(api: ApiClient) -> Offered:
    """Ask the API server. Raises StepError if it does not answer, or refuses an answer."""
    try:
        version = kubeclient.release(api)
        groups = client.ApisApi(api).get_api_versions().groups
        gates = parse_gates(kubeclient.get_text(api, "/metrics"))
    except ApiException as error:
        raise StepError(f"the API server's version, APIs and metrics: {kubeclient.refusal(error)}") from error
    except HTTPError as error:
        raise StepError(f"the API server's version, APIs and metrics: no answer: {error}") from error
    if not gates:
        raise StepError(f"expected metric {METRIC} in the API server's /metrics, found none; see if it was turned off")
    served = frozenset(item.group_version for group in groups for item in group.versions)
    return Offered(version, gates, served)


def check(offered: Offered, needed: Needed) -> None:
    """Raise MissingFeatureError if the cluster lacks something, with what to do about it.

    Raises StepError if the version that should have a gate does not know it.
    """
    own = f"Kubernetes {offered.version}"
    # Robot Framework's tags have no case.
    known = {name.casefold(): gate for name, gate in offered.gates.items()}
    if needed.since and Version.parse(offered.version) < needed.since:
        what = _listing({*needed.gates, *needed.api_versions})
        first = f", the first one with {what}" if what else ""
        raise MissingFeatureError(f"expected Kubernetes {needed.since} or newer{first}, found {offered.version}")
    if unknown := [name for name in needed.gates if name.casefold() not in known]:
        raise StepError(f"expected a feature gate of {own}, found {_listing(unknown)}; correct the tag of the test")
    gates = sorted((known[name.casefold()] for name in needed.gates), key=lambda gate: gate.name)
    if off := [gate for gate in gates if not gate.enabled]:
        stages = _listing(f"{gate.name} ({gate.stage})" for gate in off)
        setting = ", ".join(f"{gate.name}: true" for gate in off)
        raise MissingFeatureError(
            f"feature gate {stages} of {own} is off; turn it on by feature-gates: {{{setting}}} in the cluster's "
            "profile, as variables/alpha.yaml does: lab up --profile alpha, or robot --variable PROFILE:alpha"
        )
    if unserved := sorted(needed.api_versions - frozenset(offered.api_versions)):
        setting = ", ".join(f"{name}: true" for name in unserved)
        raise MissingFeatureError(
            f"{own} does not serve {_listing(unserved)}; turn it on by runtime-config: {{{setting}}} in the cluster's "
            "profile, as variables/alpha.yaml does: lab up --profile alpha, or robot --variable PROFILE:alpha"
        )


def _listing(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
