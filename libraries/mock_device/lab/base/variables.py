"""Find profiles, topologies and drivers in ``variables`` by name."""

from __future__ import annotations

from pathlib import Path

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT

_PROFILES = PROJECT / "variables"
_TOPOLOGIES = _PROFILES / "topologies"
_DRIVERS = _PROFILES / "drivers"
LIMITS = _PROFILES / "limits" / "performance.yaml"
"""Limits that the performance suites enforce."""
PROFILE_SCHEMA = _PROFILES / "profile.schema.json"
"""JSON schema of profiles."""
DRIVER_SCHEMA = _PROFILES / "driver.schema.json"
"""JSON schema of descriptions of drivers."""


def profile_path(name: str) -> Path:
    """File of the profile ``name``: a name in ``variables``, or a path. Raises StepError."""
    return _find("profile", name, _PROFILES)


def topology_path(name: str) -> Path:
    """File of the topology ``name``: a name in ``variables/topologies``, or a path. Raises StepError."""
    return _find("topology", name, _TOPOLOGIES)


def driver_path(name: str) -> Path:
    """Description of the driver ``name``: a name in ``variables/drivers``, or a path. Raises StepError."""
    return _find("driver", name, _DRIVERS)


def topology_names() -> list[str]:
    """Names of the project's topologies."""
    return _names(_TOPOLOGIES)


def profile_names() -> list[str]:
    """Names of the project's profiles."""
    return _names(_PROFILES)


def driver_names() -> list[str]:
    """Names of the drivers that the project describes."""
    return _names(_DRIVERS)


def _find(what: str, name: str, folder: Path) -> Path:
    path = Path(name).absolute() if Path(name).suffix in {".yaml", ".yml"} else folder / f"{name}.yaml"
    if not path.is_file():
        raise StepError(f"no {what} {name!r}; available: {', '.join(_names(folder))}, or the path of a .yaml file")
    return path


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))
