"""Configuration of a claim's devices: opaque parameters of kind ``MockAccelConfig``; no I/O.

API: resource.k8s.io/v1, ``status.allocation.devices.config``. The scheduler copies the parameters of the device class
and of the claim there (k8s.io/dynamic-resource-allocation, ``structured``). Parameters of the claim apply over those of
the class, later ones over earlier ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mock_accel_dra import DRIVER_NAME
from mock_accel_dra.quantities import quantity, value

API_VERSION = f"{DRIVER_NAME}/v1alpha1"
KIND = "MockAccelConfig"
MODES = ("Exclusive", "Shared")
_MOST_JOBS = 1023
"""The ring has at most 1024 descriptors, one less may wait: data sheet, RING_SIZE and JOB_LIMIT."""
_PAGE, _LARGEST_WINDOW = 4096, 16 << 20
"""Bytes; data sheet, WINDOW_LIMIT and BAR2."""
_FROM = {"FromClass": "from the device class", "FromClaim": "from the claim"}
"""Values of ``source``, in the order in which they apply."""
_LONGEST_SHOWN = 80


class ConfigurationError(ValueError):
    """Parameters that are not a valid MockAccelConfig; the message names field and reason."""


@dataclass(frozen=True)
class Configuration:
    """What a claim configures of a device; a field that it does not configure keeps the device's default."""

    mode: str = ""
    """``Exclusive``: one process may open the device; ``Shared``: many. Empty: not configured."""
    max_jobs: int | None = None
    """Jobs that may wait at once."""
    window_size: int | None = None
    """Bytes from the start of the device memory that jobs and mappings may use."""

    def __bool__(self) -> bool:
        return self != DEFAULTS

    def over(self, earlier: Configuration) -> Configuration:
        """``earlier``, with the fields that this one configures."""
        return Configuration(
            mode=self.mode or earlier.mode,
            max_jobs=earlier.max_jobs if self.max_jobs is None else self.max_jobs,
            window_size=earlier.window_size if self.window_size is None else self.window_size,
        )

    def variables(self) -> dict[str, str]:
        """Environment variables of a container, without their prefix; ``WINDOW_SIZE`` is in bytes."""
        found = {"MODE": self.mode, "MAX_JOBS": self.max_jobs, "WINDOW_SIZE": self.window_size}
        return {name: str(item) for name, item in found.items() if item}

    def parameters(self) -> dict[str, Any]:
        """The configured fields as parameters, which ``decode`` reads."""
        size = None if self.window_size is None else quantity(self.window_size)
        found = {"mode": self.mode, "maxJobs": self.max_jobs, "windowSize": size}
        return {"apiVersion": API_VERSION, "kind": KIND, **{name: item for name, item in found.items() if item}}


DEFAULTS = Configuration()
"""Nothing is configured."""


@dataclass(frozen=True)
class Part:
    """Configuration of some requests of a claim."""

    requests: tuple[str, ...]
    """Names; ``main`` also stands for all its subrequests ``main/sub``. Empty: all requests."""
    configuration: Configuration


def of_claim(claim: Mapping[str, Any]) -> list[Part]:
    """Parts for this driver of an allocated claim, in the order in which they apply.

    Raises ConfigurationError, also for a part that applies to no device of this driver.
    """
    devices = claim.get("status", {}).get("allocation", {}).get("devices", {})
    found: list[tuple[int, Part]] = []
    complaints = []
    for index, item in enumerate(devices.get("config") or []):
        opaque = item.get("opaque") or {}
        if opaque.get("driver") != DRIVER_NAME:
            continue
        source, requests = str(item.get("source")), tuple(item.get("requests") or ())
        try:
            part = Part(requests, decode(opaque.get("parameters")))
        except ConfigurationError as error:
            where = f"config[{index}] {_FROM.get(source, source)}"
            complaints.append(f"{where}{' for ' if requests else ''}{', '.join(requests)}: {error}")
            continue
        found.append((list(_FROM).index(source) if source in _FROM else len(_FROM), part))
    if complaints:
        raise ConfigurationError("; ".join(complaints))
    return [part for _, part in sorted(found, key=lambda item: item[0])]


def of_request(parts: Sequence[Part], request: str) -> Configuration:
    """Merged configuration for the devices of ``request`` (``main`` or ``main/sub``)."""
    merged = DEFAULTS
    for part in parts:
        if not part.requests or {request, request.partition("/")[0]} & set(part.requests):
            merged = part.configuration.over(merged)
    return merged


def decode(parameters: object) -> Configuration:
    """The configuration in ``parameters``, strictly: every field must be known and valid. Raises ConfigurationError."""
    if not isinstance(parameters, dict):
        raise ConfigurationError(f"parameters: expected an object of kind {KIND}, found {_shown(parameters)}")
    complaints = [
        f"parameters.{field}: expected {expected}, found {_shown(parameters.get(field))}"
        for field, expected in (("apiVersion", API_VERSION), ("kind", KIND))
        if parameters.get(field) != expected
    ]
    if complaints:  # the fields of another kind mean something else
        raise ConfigurationError("; ".join(complaints))
    values: dict[str, Any] = {}
    for field, found in parameters.items():
        if field in ("apiVersion", "kind"):
            continue
        if field not in _FIELDS:
            complaints.append(f"parameters.{field}: unknown field; expected one of {', '.join(_FIELDS)}")
            continue
        attribute, read, expected = _FIELDS[field]
        try:
            values[attribute] = read(found)
        except ValueError:
            complaints.append(f"parameters.{field}: expected {expected}, found {_shown(found)}")
    if complaints:
        raise ConfigurationError("; ".join(complaints))
    return Configuration(**values)


def _mode(found: object) -> str:
    if found not in MODES:
        raise ValueError
    return str(found)


def _jobs(found: object) -> int:
    # In Python True is an integer; in JSON it is not.
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= _MOST_JOBS:
        raise ValueError
    return found


def _bytes(found: object) -> int:
    # The API accepts a quantity as a string or as a number (apimachinery, api/resource, UnmarshalJSON).
    if not isinstance(found, (str, int)) or isinstance(found, bool):
        raise ValueError
    size = value(str(found))
    if not _PAGE <= size <= _LARGEST_WINDOW or size % _PAGE:
        raise ValueError
    return int(size)


_FIELDS: dict[str, tuple[str, Callable[[object], object], str]] = {
    "mode": ("mode", _mode, " or ".join(MODES)),
    "maxJobs": ("max_jobs", _jobs, f"a whole number from 1 to {_MOST_JOBS}"),
    "windowSize": (
        "window_size",
        _bytes,
        f"a quantity from {quantity(_PAGE)} to {quantity(_LARGEST_WINDOW)}, a multiple of {quantity(_PAGE)}",
    ),
}
"""Attribute of Configuration, function that reads it, and what it expects, by field."""


def _shown(found: object) -> str:
    """A value of JSON in a message."""
    if found is None:
        return "nothing"
    text = json.dumps(found)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
