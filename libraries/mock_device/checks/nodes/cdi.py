"""CDI files on a node, which tell the container runtime how to add devices to containers.

Format: Container Device Interface specification 0.8.0, SPEC.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mock_device.checks.errors import CheckError
from mock_device.driver import current
from mock_device.topology import DeviceId, Function

VERSION = "0.8.0"
FOLDER = "/var/run/cdi"
_TO_DEVICES = "../../../devices/"
"""From a device's folder in the class."""

# Lists files and folders, even temporary ones, with the content of the files that the runtime reads and the targets of
# the links in the folders.
_PROBE = r"""
for f in {patterns}; do
  [ -e "$f" ] || [ -h "$f" ] || continue
  if [ -d "$f" ]; then
    printf 'folder\t%s\n' "$f"
    find "$f" -mindepth 1 -printf 'link\t%P\t%l\n'
    continue
  fi
  printf 'file\t%s\n' "$f"
  case "$f" in *.json) while IFS= read -r line || [ -n "$line" ]; do printf '+%s\n' "$line"; done <"$f" ;; esac
done
echo end
"""


def _files() -> str:
    """Path of the driver's files with their placeholders. Raises CheckError if it describes none."""
    driver = current.driver()
    if driver.cdi is None:
        raise CheckError(f"{driver.path}: expected the key cdi, found none")
    return driver.cdi.files


def probe() -> str:
    """Shell command that lists the driver's files and folders, for ``parse``; of none, if the driver describes none.

    A file that is being written has a name around that of the file, such as ``.NAME.json.tmp``.
    """
    driver = current.driver()
    if driver.cdi is None:
        return "echo end"
    folder, _, name = driver.cdi.files.rpartition("/")
    stem = re.sub(r"\{\w+\}", "*", name).removesuffix(".json").rstrip("*") or "*"
    return _PROBE.replace("{patterns}", f"{folder}/{stem}* {folder}/.{stem}*")


@dataclass(frozen=True)
class CdiFile:
    """A file of the driver in the CDI folder of a node."""

    node: str
    path: str
    text: str
    links: Mapping[str, str] | None = None
    """Targets of the links in the device's folder beside the file; None if there is no folder."""


def path_of(device: str) -> str:
    """Path of the CDI file of the device named ``device`` in sysfs."""
    return _files().replace("{device}", device)


def around_device() -> tuple[str, str]:
    """What stands before and after a device's name in the path of its file."""
    start, _, end = _files().partition("{device}")
    return start, end


def links_of(device: str) -> str:
    """Path of the folder of links beside the device's CDI file, which is mounted into containers."""
    return f"{path_of(device).removesuffix('.json')}.links"


def parse(node: str, output: str) -> list[CdiFile]:
    """Parse the output of ``probe()`` on ``node``; a folder without a file becomes an entry without text.

    Raises ValueError with the invalid line.
    """
    lines = output.splitlines()
    if not lines or lines[-1] != "end":
        raise ValueError(f"{node}: the list of CDI files is incomplete: {output[-200:]!r}")
    paths: list[str] = []
    texts: list[list[str]] = []
    folders: dict[str, dict[str, str]] = {}
    links: dict[str, str] = {}
    for line in lines[:-1]:
        if line.startswith("file\t"):
            paths.append(line.removeprefix("file\t"))
            texts.append([])
        elif line.startswith("+") and texts:
            texts[-1].append(line[1:])
        elif line.startswith("folder\t"):
            links = folders[line.removeprefix("folder\t")] = {}
        elif line.startswith("link\t") and line.count("\t") == 2 and folders:
            _, name, target = line.split("\t")
            links[name] = target
        else:
            raise ValueError(f"{node}: expected the line of a CDI file, found {line!r}")
    files = [
        CdiFile(node, path, "\n".join(text), folders.pop(f"{path.removesuffix('.json')}.links", None))
        for path, text in zip(paths, texts, strict=True)
    ]
    return files + [CdiFile(node, path, "", found) for path, found in folders.items()]


def complaints(
    files: Iterable[CdiFile], allocated: Mapping[DeviceId, Function], others: Collection[DeviceId] = ()
) -> list[str]:
    """How the CDI files differ from those expected for the devices ``allocated``.

    Devices of ``others`` may have any. Drivers that promise no file for each device are not judged.
    """
    if "cdi-file-a-device" not in current.driver().promises:
        return []
    result = []
    missing = {key: function for key, function in allocated.items() if key not in others}
    ignored = {(key.node, path_of(key.name)) for key in others}
    expected = {(key.node, path_of(key.name)): key for key in allocated}
    for file in files:
        if (file.node, file.path) in ignored:
            continue
        key = expected.get((file.node, file.path))
        if key is None:
            result.append(f"{file.node}: {file.path} is unexpected: no allocated device belongs to it")
            continue
        function = missing.pop(key)
        result += [f"{file.node}: {file.path}: {complaint}" for complaint in _content_complaints(file, function)]
    result += [
        f"{key} ({function.bdf}): is allocated, but the node has no {path_of(key.name)}; look at the node agent's log"
        for key, function in missing.items()
    ]
    return result


def _content_complaints(file: CdiFile, function: Function) -> list[str]:
    try:
        spec: dict[str, Any] = json.loads(file.text)
        devices = spec["devices"]
        names = [device["name"] for device in devices]
        edits = devices[0]["containerEdits"] if names else {}
        environment = {str(variable) for variable in edits.get("env", [])}
        sources = {mount.get("hostPath") for mount in edits.get("mounts", [])}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        return [f"expected a CDI specification, found {file.text[:200]!r} ({error!r})"]
    found = []
    described = current.driver().cdi
    kind = described.kind if described else ""
    for field, expected in (("cdiVersion", VERSION), ("kind", kind)):
        if spec.get(field) != expected:
            found.append(f"expected {field} {expected!r}, found {spec.get(field)!r}")
    if names != [function.name]:
        found.append(f"expected device {function.name!r} alone, found {names}")
    if lacking := sorted(environment_of(function) - environment):
        found.append(f"expected environment {', '.join(lacking)}, found {', '.join(sorted(environment)) or 'none'}")
    if (path := links_of(function.name)) in sources:
        found += [f"{path}: {complaint}" for complaint in _link_complaints(file.links, function)]
    return found


def _link_complaints(links: Mapping[str, str] | None, function: Function) -> list[str]:
    if links is None:
        return ["expected a folder of links, found none"]
    pci = f"/{function.bdf}"
    ends = {name: f"{pci}/mock-accel/{function.name}/{name}" for name in {"uuid", *links}} | {"device": pci}
    # The class, which is the same for all devices.
    ends.pop("subsystem", None)
    found = []
    for name, end in sorted(ends.items()):
        target = links.get(name)
        if not (target and target.startswith(_TO_DEVICES) and target.endswith(end)):
            found.append(f"expected link {name} to {_TO_DEVICES}…{end}, found {target!r}")
    return found


def environment_of(function: Function) -> set[str]:
    """Environment variables (``NAME=value``) that describe this device to a container; their names contain its name."""
    return {
        f"{name.replace('{DEVICE}', function.name.upper())}={value}"
        for names, value in described(function)
        for name in names
        if "{DEVICE}" in name
    }


def described(function: Function) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Names of variables, with ``{DEVICE}``, by the value that they have for this device."""
    names = current.driver().environment
    if names is None:
        return ()
    return (names.device, function.name), (names.uuid, function.uuid), (names.pci_address, function.bdf)


def configuration_names(function: Function) -> set[str]:
    """Names of variables that a container also has if its claim configures the device (docs/driver.md)."""
    driver = current.driver()
    if driver.environment is None or "claim-configuration" not in driver.promises:
        return set()
    suffixes = ("", f"_{function.name.upper()}")
    keys = ("MODE", "MAX_JOBS", "WINDOW_SIZE")
    return {f"{driver.environment.prefix}{key}{suffix}" for key in keys for suffix in suffixes}
