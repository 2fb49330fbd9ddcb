"""Parses every form of a ResourceClaim, for all modules that count, show or check claims.

Source of the fields: resource.k8s.io/v1 of Kubernetes 1.37 (``k8s.io/api/resource/v1/types.go``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mock_device.checks.objects.slices import PublishedId, Taint
from mock_device.driver import current

_EXACT, _ALL = "ExactCount", "All"

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Toleration:
    """A toleration of a request; empty fields match everything."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    seconds: int | None = None
    """How long a taint with effect NoExecute is tolerated; None: as long as it lasts."""

    def tolerates(self, taint: Taint) -> bool:
        """Same rules as ``resourceclaim.ToleratesTaint`` of k8s.io/dynamic-resource-allocation."""
        if self.effect not in ("", taint.effect) or self.key not in ("", taint.key):
            return False
        return self.operator == "Exists" or (self.operator in ("", "Equal") and self.value == taint.value)


@dataclass(frozen=True)
class Wanted:
    """What ``exactly``, or one alternative of ``firstAvailable``, requests."""

    name: str
    """``REQUEST``, or ``REQUEST/ALTERNATIVE`` for an alternative."""
    device_class: str
    mode: str = _EXACT
    """``allocationMode``; clients must not guess the meaning of an unknown mode."""
    count: int = 1
    """Number of devices in mode ``ExactCount``."""
    selectors: tuple[str, ...] = ()
    """CEL expressions."""
    admin_access: bool = False
    tolerations: tuple[Toleration, ...] = ()
    capacity: Mapping[str, str] = field(default_factory=dict)
    """Minimum remaining capacity of each device, as quantities by name."""
    derives_attributes: bool = False
    """Whether constraints may name attributes that CEL computes instead of published ones."""

    @property
    def is_count(self) -> bool:
        return self.mode == _EXACT

    @property
    def is_all(self) -> bool:
        return self.mode == _ALL

    @property
    def amount(self) -> str:
        """``2``, ``all``, or the name of an unknown mode."""
        return str(self.count) if self.is_count else self.mode.lower() if self.is_all else self.mode

    def tolerates(self, taint: Taint) -> bool:
        """Whether this request can get devices with ``taint``."""
        return not taint.keeps_off or any(toleration.tolerates(taint) for toleration in self.tolerations)

    def __str__(self) -> str:
        needs = "".join(f" with {quantity} of {name}" for name, quantity in self.capacity.items())
        admin = " (adminAccess)" if self.admin_access else ""
        where = f" where {' and '.join(self.selectors)}" if self.selectors else ""
        return f"{self.amount} of {self.device_class}{needs}{admin}{where}"


@dataclass(frozen=True)
class Request:
    """A request of a claim."""

    name: str
    alternatives: tuple[Wanted, ...]
    """One for ``exactly``; none for an unknown form."""
    resource: str = ""
    """Name of the extended resource for which the scheduler makes the request; else empty."""

    def __str__(self) -> str:
        words = " or else ".join(map(str, self.alternatives))
        return words or f"request {self.name!r} of an unknown form"


@dataclass(frozen=True)
class Constraint:
    """An attribute that devices of several requests must, or must not, have in common."""

    attribute: str
    """Qualified name; empty for an unknown kind of constraint."""
    distinct: bool = False
    requests: tuple[str, ...] = ()
    """``REQUEST`` or ``REQUEST/ALTERNATIVE``; empty for all."""

    def concerns(self, wanted: Wanted) -> bool:
        """Whether the constraint applies to devices of ``wanted``."""
        return not self.requests or wanted.name in self.requests or wanted.name.partition("/")[0] in self.requests

    def __str__(self) -> str:
        if not self.attribute:
            return "an unknown constraint"
        return f"{'different' if self.distinct else 'the same'} {self.attribute}"


@dataclass(frozen=True)
class Condition:
    """A condition that a driver reports for an allocated device."""

    status: str
    reason: str = ""
    message: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (f"{self.status}, {self.reason}" if self.reason else self.status, self.message)))


@dataclass(frozen=True)
class Result:
    """A device allocated to a claim."""

    request: str
    driver: str
    pool: str
    device: str
    alternative: str = ""
    admin_access: bool = False
    share: str = ""
    """ID of the share, for a device with consumable capacity."""
    consumed: Mapping[str, str] = field(default_factory=dict)
    """Quantities that the share consumes, by name."""
    binding_conditions: tuple[str, ...] = ()
    binding_failures: tuple[str, ...] = ()
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    """Conditions from the claim's ``status.devices``, by type."""

    @property
    def published_id(self) -> PublishedId:
        """Which device it is, of the driver's."""
        return PublishedId(self.pool, self.device)

    @property
    def takes_device(self) -> bool:
        """Whether the allocation is exclusive: no other claim can get the device."""
        return not self.admin_access and not self.share

    @property
    def what(self) -> str:
        """How the claim shares the device; empty if it holds it exclusively."""
        if self.admin_access:
            return "adminAccess"
        used = ", ".join(f"{quantity} of {name}" for name, quantity in self.consumed.items())
        return f"a share of it{f', {used}' if used else ''}" if self.share else ""

    def waits_for(self) -> list[str]:
        """Binding conditions that failed, else those that are not met yet, each with its state."""
        failed = [
            f"{name} is {self.conditions[name]}"
            for name in self.binding_failures
            if name in self.conditions and self.conditions[name].status == "True"
        ]
        return failed or [
            f"{name} is {self.conditions.get(name, 'not reported')}"
            for name in self.binding_conditions
            if name not in self.conditions or self.conditions[name].status != "True"
        ]

    def __str__(self) -> str:
        of = "" if self.driver == current.driver().name else f" of {self.driver}"
        where = f"{self.pool.partition('/')[0]} {self.device}{of}"
        return where + (f" ({self.what})" if self.what else "")


@dataclass(frozen=True)
class Consumer:
    """An object for which a claim is reserved: a pod, or an object that owns pods."""

    resource: str
    name: str
    uid: str = ""


@dataclass(frozen=True)
class Claim:
    """A ResourceClaim."""

    namespace: str
    name: str
    """Empty for the claim that the scheduler will create for a pod's extended resources."""
    requests: tuple[Request, ...]
    constraints: tuple[Constraint, ...] = ()
    is_allocated: bool = False
    results: tuple[Result, ...] = ()
    """Devices of all drivers."""
    reserved_for: tuple[Consumer, ...] = ()

    @property
    def own_results(self) -> tuple[Result, ...]:
        """Devices of this project's driver."""
        driver = current.driver().name
        return tuple(item for item in self.results if item.driver == driver)

    @property
    def pods(self) -> tuple[str, ...]:
        """Names of the pods for which the claim is reserved."""
        return tuple(consumer.name for consumer in self.reserved_for if consumer.resource == "pods")

    def __str__(self) -> str:
        """What the claim requests, and which devices it has."""
        asked = ", ".join(map(str, self.requests)) or "nothing"
        common = " and ".join(map(str, self.constraints))
        has = ", ".join(map(str, self.results))
        return (
            f"claim {self.name!r} asks for {asked}"
            + (f" with {common}" if common else "")
            + (f" and has {has}" if has else "" if self.is_allocated else " and has no devices yet")
        )


def parse(item: Object) -> Claim:
    """Parse a ResourceClaim (API's JSON)."""
    metadata, status = item["metadata"], item.get("status") or {}
    devices = item["spec"].get("devices") or {}
    allocation = status.get("allocation")
    found = ((allocation or {}).get("devices") or {}).get("results") or []
    conditions = {_status_key(entry): _conditions(entry) for entry in status.get("devices") or []}
    return Claim(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        requests=tuple(_request(request) for request in devices.get("requests") or []),
        constraints=tuple(_constraint(constraint) for constraint in devices.get("constraints") or []),
        is_allocated=allocation is not None,
        results=tuple(_result(result, conditions.get(_status_key(result), {})) for result in found),
        reserved_for=tuple(
            Consumer(user["resource"], user["name"], user.get("uid", "")) for user in status.get("reservedFor") or []
        ),
    )


def _request(request: Object) -> Request:
    name = request["name"]
    if request.get("firstAvailable"):
        alternatives = tuple(_wanted(f"{name}/{item['name']}", item) for item in request["firstAvailable"])
    else:
        alternatives = (_wanted(name, request["exactly"]),) if request.get("exactly") else ()
    return Request(name, alternatives)


def _wanted(name: str, item: Object) -> Wanted:
    return Wanted(
        name=name,
        device_class=item["deviceClassName"],
        mode=item.get("allocationMode") or _EXACT,
        count=item.get("count") or 1,
        selectors=tuple(selector["cel"]["expression"] for selector in item.get("selectors") or [] if "cel" in selector),
        admin_access=bool(item.get("adminAccess")),
        tolerations=tuple(
            Toleration(
                toleration.get("key") or "",
                toleration.get("operator") or "Equal",
                toleration.get("value") or "",
                toleration.get("effect") or "",
                toleration.get("tolerationSeconds"),
            )
            for toleration in item.get("tolerations") or []
        ),
        capacity={name: str(value) for name, value in ((item.get("capacity") or {}).get("requests") or {}).items()},
        derives_attributes=bool(item.get("derivedAttributes")),
    )


def _constraint(constraint: Object) -> Constraint:
    distinct = constraint.get("distinctAttribute")
    attribute = distinct or constraint.get("matchAttribute") or ""
    return Constraint(attribute, bool(distinct), tuple(constraint.get("requests") or ()))


def _result(result: Object, conditions: Mapping[str, Condition]) -> Result:
    # An alternative of firstAvailable is reported as REQUEST/ALTERNATIVE.
    request, _, alternative = result["request"].partition("/")
    return Result(
        request=request,
        driver=result["driver"],
        pool=result["pool"],
        device=result["device"],
        alternative=alternative,
        admin_access=bool(result.get("adminAccess")),
        share=result.get("shareID") or "",
        consumed={name: str(value) for name, value in (result.get("consumedCapacity") or {}).items()},
        binding_conditions=tuple(result.get("bindingConditions") or ()),
        binding_failures=tuple(result.get("bindingFailureConditions") or ()),
        conditions=conditions,
    )


def _status_key(item: Object) -> tuple[str, str, str, str]:
    return item["driver"], item.get("pool", ""), item["device"], item.get("shareID") or ""


def _conditions(item: Object) -> dict[str, Condition]:
    return {
        condition["type"]: Condition(
            condition.get("status", ""), condition.get("reason", ""), condition.get("message", "")
        )
        for condition in item.get("conditions") or []
    }


def parse_all(items: Iterable[Object]) -> list[Claim]:
    """Parse ResourceClaims (API's JSON)."""
    return [parse(item) for item in items]


def by_name(claims: Sequence[Claim]) -> dict[str, Claim]:
    """``claims`` by ``namespace/name``."""
    return {f"{claim.namespace}/{claim.name}": claim for claim in claims}
