"""A DRA driver as suites and tools know it, read from ``variables/drivers/NAME.yaml`` or a user's file."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mock_device.lab.base import schema
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.variables import DRIVER_SCHEMA, driver_path
from mock_device.topology import yaml_lines

DEFAULT = "mock-accel"
"""Name of the description of this project's driver."""


class MissingOfferError(StepError):
    """The driver does not offer what a test needs."""


@dataclass(frozen=True)
class Chart:
    """A Helm chart that deploys a driver."""

    path: Path
    release: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pods:
    """Pods of a driver."""

    workload: str
    """Name of their DaemonSet or Deployment."""
    labels: Mapping[str, str]
    """Labels by which they are found."""
    container: str
    """Name of the driver's container."""
    service_account: str

    @property
    def selector(self) -> str:
        """Label selector of the pods."""
        return ",".join(f"{name}={value}" for name, value in self.labels.items())


@dataclass(frozen=True)
class Cdi:
    """CDI files of a driver."""

    kind: str
    """Kind of its devices, ``VENDOR/CLASS``."""
    files: str
    """Path of its files, with ``{device}``, ``{claim}`` or ``*``."""


@dataclass(frozen=True)
class Environment:
    """Variables of a container that has a claim, each with ``{DEVICE}`` for the device's name in upper case."""

    prefix: str
    """Beginning of all their names."""
    device: tuple[str, ...] = ()
    uuid: tuple[str, ...] = ()
    pci_address: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Driver:
    """The description of a driver; each file has one."""

    path: Path
    """Its file."""
    name: str
    """As in ``spec.driver`` of its ResourceSlices; the domain of its attributes."""
    namespace: str
    device_classes: Mapping[str, str]
    """DeviceClasses by what they select: ``pf``, ``vf``, ``all``."""
    node_agent: Pods
    controller: Pods | None = None
    manifests: tuple[Path, ...] = ()
    """Files, in the order in which they are applied."""
    chart: Chart | None = None
    archives: tuple[Path, ...] = ()
    """Archives of images."""
    builds: tuple[str, ...] = ()
    """Images that the lab builds from this project, by the names of ``lab build``."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Qualified names (``DOMAIN/NAME``) by meaning: ``numa-node``, ``pci-address``, …"""
    capacities: Mapping[str, str] = field(default_factory=dict)
    """Qualified names by meaning: ``memory``."""
    extended_resources: Mapping[str, str] = field(default_factory=dict)
    """Names that the DeviceClasses give extended resources, by what the class selects."""
    cdi: Cdi | None = None
    environment: Environment | None = None
    checkpoint: str = ""
    """Path of its record of claims in its folder among the kubelet's plugins; empty if it has none."""
    promises: frozenset[str] = frozenset()

    @property
    def offers(self) -> frozenset[str]:
        """What tests may need of the driver, as in their tags ``needs-…``."""
        found = {f"attribute-{meaning}" for meaning in self.attributes}
        found |= {f"capacity-{meaning}" for meaning in self.capacities}
        found |= {f"class-{selected}" for selected in self.device_classes}
        found |= {f"extended-resource-{selected}" for selected in self.extended_resources}
        keys = {"cdi": self.cdi, "environment": self.environment, "controller": self.controller}
        return self.promises | found | {name for name, value in keys.items() if value}

    def check_offers(self, needed: Collection[str]) -> None:
        """Raise MissingOfferError if the driver lacks some of the ``needed`` offers."""
        if missing := sorted(set(needed) - self.offers):
            raise MissingOfferError(f"driver {self.name} does not offer {', '.join(missing)} ({self.path})")

    def device_class(self, selected: str) -> str:
        """DeviceClass of ``pf`` or ``vf``; of all devices instead of PFs. Raises StepError if there is none."""
        kinds = [selected, *(["all"] if selected == "pf" else [])]
        found = next((self.device_classes[kind] for kind in kinds if kind in self.device_classes), None)
        if found is None:
            raise StepError(f"{self.path}: expected the key device-classes.{selected}, found none")
        return found

    def in_cel(self, meaning: str) -> str:
        """CEL expression of the attribute with this meaning, of ``device``. Raises StepError if it has none."""
        if meaning not in self.attributes:
            raise StepError(f"{self.path}: expected the key attributes.{meaning}, found none")
        return _in_cel("attributes", self.attributes[meaning])

    @property
    def cel(self) -> dict[str, str]:
        """CEL expressions of all attributes and capacities of ``device`` by their meaning."""
        found = {meaning: _in_cel("attributes", name) for meaning, name in self.attributes.items()}
        return found | {f"capacity-{meaning}": _in_cel("capacity", name) for meaning, name in self.capacities.items()}

    def qualified(self, name: str) -> str:
        """Add the driver's domain to the name of an attribute or capacity if it has no domain."""
        return _qualified(self.name, name)


def promises() -> dict[str, str]:
    """All promises that a driver can make, with their descriptions."""
    options = _schema()["properties"]["promises"]["items"]["oneOf"]
    return {option["const"]: option["description"] for option in options}


def known_offers() -> frozenset[str]:
    """Everything that a test can need of a driver."""
    properties = _schema()["properties"]
    groups = {
        "attribute": "attributes",
        "capacity": "capacities",
        "class": "device-classes",
        "extended-resource": "extended-resources",
    }
    parts = {f"{word}-{name}" for word, key in groups.items() for name in properties[key]["properties"]}
    return frozenset({*promises(), *parts, "cdi", "environment", "controller"})


def load(name: str) -> Driver:
    """The driver ``name``: a name in ``variables/drivers``, or a path.

    Raises StepError, which names file, line and reason.
    """
    return read(driver_path(name).resolve())


@cache
def read(path: Path) -> Driver:
    """The driver that the file ``path`` describes. Raises StepError like ``load``."""
    fields = _checked(path)
    name = fields["name"]
    images = fields.get("images") or []
    pods = fields["pods"]
    return Driver(
        path=path,
        name=name,
        namespace=fields["namespace"],
        device_classes=dict(fields["device-classes"]),
        node_agent=_pods(pods["node-agent"]),
        controller=_pods(pods["controller"]) if "controller" in pods else None,
        manifests=tuple(_manifests(path, fields)),
        chart=_chart(path, fields),
        archives=tuple(
            _existing(path, fields, ("images", index)) for index, image in enumerate(images) if isinstance(image, str)
        ),
        builds=tuple(image["build"] for image in images if not isinstance(image, str)),
        attributes={key: _qualified(name, value) for key, value in fields.get("attributes", {}).items()},
        capacities={key: _qualified(name, value) for key, value in fields.get("capacities", {}).items()},
        extended_resources=dict(fields.get("extended-resources", {})),
        cdi=Cdi(**fields["cdi"]) if "cdi" in fields else None,
        environment=_environment(fields["environment"]) if "environment" in fields else None,
        checkpoint=fields.get("checkpoint", ""),
        promises=frozenset(fields.get("promises", ())),
    )


@cache
def _schema() -> dict[str, Any]:
    """The schema that editors use as well."""
    content: dict[str, Any] = json.loads(DRIVER_SCHEMA.read_text())
    return content


def _checked(path: Path) -> yaml_lines.Fields:
    """Content of the file, which the schema allows, and whose promises have the keys that they need."""
    try:
        fields = yaml_lines.parse(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise StepError(f"{path}: cannot be read: {error}") from error
    except RecursionError as error:
        raise _error(path, 1, "not YAML: nested too deeply") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or error
        raise _error(path, mark.line + 1 if mark else 1, f"not YAML: {reason}") from error
    if wrong := schema.violation(_schema(), fields):
        raise _error(path, yaml_lines.line_of(fields, _place(wrong, fields)), str(wrong))
    assert isinstance(fields, yaml_lines.Fields)  # By the schema.
    needed = {
        "cdi-file-a-device": ("cdi", fields.get("cdi")),
        "checkpoint": ("checkpoint", fields.get("checkpoint")),
        "device-count-log": ("pods.controller", fields["pods"].get("controller")),
        "pf-vf-exclusion": ("device-classes.vf", fields["device-classes"].get("vf")),
    }
    for index, promise in enumerate(fields.get("promises", ())):
        key, value = needed.get(promise, ("", True))
        if not value:
            line = yaml_lines.line_of(fields, ("promises", index))
            raise _error(path, line, f"promises.{index}: {promise} needs the key {key}, found none")
    if "cdi-file-a-device" in fields.get("promises", ()) and "{device}" not in fields["cdi"]["files"]:
        line = yaml_lines.line_of(fields, ("cdi", "files"))
        raise _error(
            path, line, f"cdi.files: promise cdi-file-a-device needs {{device}} in it, found {fields['cdi']['files']!r}"
        )
    return fields


def _place(wrong: schema.Violation, fields: object) -> tuple[str | int, ...]:
    """Where a violation is; for unknown keys, the first of them."""
    for step in wrong.path:
        fields = fields[step]  # type: ignore[index]
    if isinstance(fields, yaml_lines.Fields) and wrong.reason.startswith("unknown keys "):
        unknown = wrong.reason.removeprefix("unknown keys ").partition(";")[0].split(", ")
        return (*wrong.path, min(unknown, key=lambda key: fields.lines.get(key, fields.line)))
    return wrong.path


def _error(path: Path, line: int, reason: str) -> StepError:
    return StepError(f"{path}:{line}: {reason}")


def _qualified(driver: str, name: str) -> str:
    return name if "/" in name else f"{driver}/{name}"


def _in_cel(kind: str, qualified: str) -> str:
    domain, _, name = qualified.partition("/")
    return f'device.{kind}["{domain}"].{name}'


def _pods(fields: Mapping[str, Any]) -> Pods:
    workload = fields["workload"]
    account = fields.get("service-account", workload)
    return Pods(workload, dict(fields["labels"]), fields["container"], account)


def _environment(fields: Mapping[str, Any]) -> Environment:
    names = {key.replace("-", "_"): tuple(value) for key, value in fields.items() if key != "prefix"}
    return Environment(fields["prefix"], **names)


def _chart(path: Path, fields: yaml_lines.Fields) -> Chart | None:
    if "helm" not in fields:
        return None
    helm = fields["helm"]
    return Chart(
        _existing(path, fields, ("helm", "chart")), helm.get("release", fields["namespace"]), helm.get("values", {})
    )


def _manifests(path: Path, fields: yaml_lines.Fields) -> Iterable[Path]:
    for index in range(len(fields.get("manifests", ()))):
        found = _existing(path, fields, ("manifests", index))
        files = sorted([*found.glob("*.yaml"), *found.glob("*.yml")]) if found.is_dir() else [found]
        if not files:
            line = yaml_lines.line_of(fields, ("manifests", index))
            raise _error(path, line, f"manifests.{index}: expected .yaml files in {found}, found none")
        yield from files


def _existing(path: Path, fields: yaml_lines.Fields, where: tuple[str | int, ...]) -> Path:
    """The path at ``where``, relative to the file; it must exist."""
    value: Any = fields
    for step in where:
        value = value[step]
    found = (path.parent / Path(value).expanduser()).resolve()
    if not found.exists():
        key = ".".join(map(str, where))
        raise _error(
            path, yaml_lines.line_of(fields, where), f"{key}: expected a file or folder, {found} does not exist"
        )
    return found
