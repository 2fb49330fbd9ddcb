"""Files of ``variables``, found by their names."""

from __future__ import annotations

from pathlib import Path

from lab.artifacts import PROJECT, StepError

_PROFILES = PROJECT / "variables"
_TOPOLOGIES = _PROFILES / "topologies"
LIMITS = _PROFILES / "limits.yaml"
"""Limits of what the suites of performance measure; no profile."""


def profile_path(name: str) -> Path:
    """File of a profile, given by its name in ``variables`` or as a path. Raises StepError."""
    return _find("profile", name, _PROFILES)


def topology_path(name: str) -> Path:
    """File of a topology, given by its name in ``variables/topologies`` or as a path. Raises StepError."""
    return _find("topology", name, _TOPOLOGIES)


def topology_names() -> list[str]:
    """Topologies of the project."""
    return sorted(path.stem for path in _TOPOLOGIES.glob("*.yaml"))


def _find(what: str, name: str, folder: Path) -> Path:
    path = Path(name).absolute() if Path(name).suffix in {".yaml", ".yml"} else folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in folder.glob("*.yaml") if other != LIMITS))
        raise StepError(f"no {what} {name!r}; there are {known}, or give the path of a .yaml file")
    return path
