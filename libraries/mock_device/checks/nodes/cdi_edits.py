"""What CDI files of any driver add to containers, and whether a container has it.

Format: Container Device Interface specification 1.0.0, SPEC.md; files may be JSON or YAML.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

END = "-- end --"
"""Last line of complete output."""
# Files that are being written have other names (SPEC.md, "CDI JSON Specification").
FILES_PROBE = rf"""
for f in /etc/cdi/*.json /etc/cdi/*.yaml /var/run/cdi/*.json /var/run/cdi/*.yaml; do
  [ -f "$f" ] || continue
  printf 'file\t%s\n' "$f"
  while IFS= read -r line || [ -n "$line" ]; do printf '+%s\n' "$line"; done <"$f"
done
echo '{END}'
"""
CONTAINER_PROBE = rf"""
env | while IFS= read -r line; do printf 'env\t%s\n' "$line"; done
find /dev ! -type d 2>/dev/null | while IFS= read -r path; do printf 'path\t%s\n' "$path"; done
while read -r _ path _; do printf 'path\t%s\n' "$path"; done </proc/mounts
echo '{END}'
"""


@dataclass(frozen=True)
class Edits:
    """What a CDI device adds to a container, as far as the container can see it."""

    environment: tuple[str, ...] = ()
    """``NAME=value``."""
    paths: tuple[str, ...] = ()
    """Device nodes and mount points."""


@dataclass(frozen=True)
class Container:
    """What a container sees."""

    environment: Mapping[str, str]
    paths: frozenset[str]


def parse_files(node: str, output: str) -> dict[str, Edits]:
    """Edits of all CDI devices of ``node`` by ID (``VENDOR/CLASS=NAME``), from the output of FILES_PROBE.

    A file that is not a CDI specification defines nothing, as for the container runtime. Raises ValueError if the
    output is incomplete.
    """
    texts: dict[str, list[str]] = {}
    current: list[str] = []
    for line in _lines(node, output):
        if line.startswith("file\t"):
            current = texts.setdefault(line.removeprefix("file\t"), [])
        elif line.startswith("+"):
            current.append(line[1:])
    found: dict[str, Edits] = {}
    for text in texts.values():
        found |= _defined("\n".join(text))
    return found


def _defined(text: str) -> dict[str, Edits]:
    try:
        spec: Any = yaml.safe_load(text)  # JSON is YAML
        common = _edits(spec.get("containerEdits"))
        return {
            f"{spec['kind']}={device['name']}": _joined(common, _edits(device.get("containerEdits")))
            for device in spec["devices"]
        }
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        return {}


def _edits(item: Mapping[str, Any] | None) -> Edits:
    item = item or {}
    nodes = [node["path"] for node in item.get("deviceNodes") or ()]
    mounts = [mount["containerPath"] for mount in item.get("mounts") or ()]
    return Edits(tuple(item.get("env") or ()), (*nodes, *mounts))


def _joined(*parts: Edits) -> Edits:
    return Edits(
        tuple(line for part in parts for line in part.environment),
        tuple(path for part in parts for path in part.paths),
    )


def parse_container(name: str, output: str) -> Container:
    """What container ``name`` sees, from the output of CONTAINER_PROBE. Raises ValueError if it is incomplete."""
    environment, paths = {}, set()
    for line in _lines(name, output):
        kind, _, rest = line.partition("\t")
        if kind == "env" and "=" in rest:
            variable, _, value = rest.partition("=")
            environment[variable] = value
        elif kind == "path":
            paths.add(rest)
    return Container(environment, frozenset(paths))


def _lines(where: str, output: str) -> list[str]:
    lines = output.splitlines()
    if not lines or lines[-1] != END:
        raise ValueError(f"{where}: expected complete output, found {output[-200:]!r}")
    return lines[:-1]


def container_complaints(container: Container, own: Iterable[Edits], others: Iterable[Edits] = ()) -> list[str]:
    """What the container lacks of its ``own`` devices, and what it has of ``others``.

    Several devices may give one variable different values; the container has one of them.
    """
    mine, foreign = _joined(*own), _joined(*others)
    values = _values(mine.environment)
    found = []
    for variable, wanted in values.items():
        value = container.environment.get(variable)
        if value not in wanted:
            found.append(f"expected {variable} to be {' or '.join(wanted)}, found {value or 'it not'}")
    found += [f"expected {path}, found it not" for path in mine.paths if path not in container.paths]
    found += [
        f"expected no {variable} of another device, found {container.environment[variable]}"
        for variable, theirs in _values(foreign.environment).items()
        if variable not in values and container.environment.get(variable) in theirs
    ]
    found += [
        f"expected no {path} of another device, found it"
        for path in foreign.paths
        if path not in mine.paths and path in container.paths
    ]
    return found


def _values(environment: Collection[str]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for line in environment:
        variable, _, value = line.partition("=")
        values.setdefault(variable, []).append(value)
    return values
