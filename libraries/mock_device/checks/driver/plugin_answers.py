"""What a kubelet plugin answers to the kubelet's calls, and how its answers differ from the contract.

Contract: ``k8s.io/kubelet`` v0.37.2, ``pkg/apis/pluginregistration/v1/api.proto``, ``pkg/apis/dra/v1/api.proto`` and
``pkg/apis/dra-health/v1/api.proto``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mock_device.checks.objects.claim_forms import Result
from mock_device.checks.objects.slices import PublishedId

KIND = "DRAPlugin"
"""Type of the plugin (``k8s.io/kubelet/pkg/apis/pluginregistration/v1/constants.go``)."""
SERVICE = "v1.DRAPlugin"
HEALTH_SERVICE = "v1.DRAResourceHealth"


@dataclass(frozen=True)
class Info:
    """How a plugin introduces itself (``PluginInfo``)."""

    kind: str
    name: str
    endpoint: str
    """Path of its service socket on the node."""
    services: tuple[str, ...]
    seconds: float
    """How long the second of two calls took: the first one connects."""


@dataclass(frozen=True)
class ClaimOnNode:
    """A claim as the kubelet of a node names it in calls, with what is allocated to it."""

    node: str
    namespace: str
    name: str
    uid: str
    results: tuple[Result, ...]
    """Devices of the driver."""


@dataclass(frozen=True)
class PreparedDevice:
    """A device in the answer to NodePrepareResources."""

    pool: str
    device: str
    requests: tuple[str, ...]
    """Names without alternatives; empty: all requests."""
    cdi: tuple[str, ...]
    """IDs of CDI devices, ``VENDOR/CLASS=NAME``."""


@dataclass(frozen=True)
class Answer:
    """The entry of one claim in an answer."""

    devices: tuple[PreparedDevice, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Prepared:
    """The answer to a call of NodePrepareResources."""

    claims: tuple[ClaimOnNode, ...]
    """Claims of the call."""
    answers: Mapping[str, Answer]
    """By the uid of the claim."""
    seconds: float

    @property
    def cdi(self) -> tuple[str, ...]:
        """IDs of all CDI devices."""
        found = (name for answer in self.answers.values() for device in answer.devices for name in device.cdi)
        return tuple(dict.fromkeys(found))


def info_complaints(info: Info, driver: str) -> list[str]:
    """How a plugin introduces itself otherwise than the kubelet expects of a DRA driver."""
    found = []
    if info.kind != KIND:
        found.append(f"expected type {KIND}, found {info.kind!r}")
    if info.name != driver:
        found.append(f"expected name {driver}, found {info.name!r}")
    if not info.endpoint.startswith("/"):
        found.append(f"expected an absolute path as endpoint, found {info.endpoint!r}")
    if SERVICE not in info.services:
        found.append(f"expected {SERVICE} among the services, found {', '.join(info.services) or 'none'}")
    return found


def entry_complaints(prepared: Prepared) -> list[str]:
    """Claims of a call without an entry of their own, with an error, and entries of other claims."""
    wanted = {claim.uid: claim.name for claim in prepared.claims}
    found = [
        f"claim {name}: expected an entry in the answer, found none"
        for uid, name in wanted.items()
        if uid not in prepared.answers
    ]
    for uid, answer in prepared.answers.items():
        if uid not in wanted:
            found.append(f"claim with uid {uid}: expected no entry, nobody has asked for it")
        elif answer.error:
            found.append(f"claim {wanted[uid]}: expected no error, found {answer.error}")
    return found


def device_complaints(prepared: Prepared) -> list[str]:
    """How the devices of an answer differ from those that the scheduler has allocated."""
    found = []
    for claim in prepared.claims:
        allocated = {(item.pool, item.device, item.request) for item in claim.results}
        answered = {
            (item.pool, item.device, request)
            for item in prepared.answers.get(claim.uid, Answer()).devices
            for request in item.requests or _requests_of(item, allocated)
        }
        found += [f"claim {claim.name}: expected {_named(item)}, found it not" for item in sorted(allocated - answered)]
        found += [
            f"claim {claim.name}: expected only what is allocated, found {_named(item)}"
            for item in sorted(answered - allocated)
        ]
    return found


def _requests_of(item: PreparedDevice, allocated: Collection[tuple[str, str, str]]) -> list[str]:
    """Requests of a device that names none, and so belongs to all that have it."""
    return [request for pool, device, request in allocated if (pool, device) == (item.pool, item.device)] or ["(all)"]


def _named(item: tuple[str, str, str]) -> str:
    pool, device, request = item
    return f"device {device} of pool {pool} for request {request}"


def differences(first: Prepared, again: Prepared) -> list[str]:
    """How the second answer differs from the first one; the order of entries and devices does not count."""
    found = []
    names = {claim.uid: claim.name for claim in (*first.claims, *again.claims)}
    for uid in sorted({*first.answers, *again.answers}):
        before, after = (_comparable(prepared.answers.get(uid)) for prepared in (first, again))
        if before != after:
            found.append(f"claim {names.get(uid, uid)}: expected {before} again, found {after}")
    return found


def _comparable(answer: Answer | None) -> list[str]:
    if answer is None:
        return ["no entry"]
    devices = [
        f"{item.device} of {item.pool} for {', '.join(sorted(item.requests)) or 'all'} by {', '.join(sorted(item.cdi))}"
        for item in answer.devices
    ]
    return sorted(devices) + ([f"error {answer.error}"] if answer.error else [])


def cdi_complaints(prepared: Prepared, known: Collection[str]) -> list[str]:
    """CDI devices of the answer that no CDI file of the node defines; ``known`` are those that one does."""
    return [
        f"CDI device {name}: expected a CDI file that defines it, found {', '.join(sorted(known)) or 'none'}"
        for name in prepared.cdi
        if name not in known
    ]


def health_complaints(reported: Mapping[PublishedId, str], published: Iterable[PublishedId]) -> list[str]:
    """Published devices whose health the plugin's first report leaves out."""
    return [f"{device}: expected it in the report of health" for device in published if device not in reported]


def unprepare_complaints(claim: ClaimOnNode, errors: Mapping[str, str]) -> list[str]:
    """What is wrong with the answer to NodeUnprepareResources for ``claim``; ``errors`` are its entries by uid."""
    if claim.uid not in errors:
        return [f"unprepare claim {claim.name}: expected an entry in the answer, found none"]
    error = errors[claim.uid]
    return [f"unprepare claim {claim.name}: expected no error, found {error}"] if error else []


def cdi_by_use(prepared: Prepared, used: Collection[tuple[str, str | None]]) -> tuple[list[str], list[str]]:
    """IDs of the CDI devices of a container that uses claims ``used``, each with a request or None for all; the others.

    The prepared claims are all of its pod.
    """
    own: dict[str, None] = {}
    others: dict[str, None] = {}
    for claim in prepared.claims:
        for device in prepared.answers.get(claim.uid, Answer()).devices:
            ways = {(claim.name, None), *((claim.name, request) for request in device.requests)}
            # A device without names belongs to all requests.
            named = not device.requests and any(name == claim.name for name, _ in used)
            (own if ways & {*used} or named else others).update(dict.fromkeys(device.cdi))
    return list(own), [name for name in others if name not in own]
