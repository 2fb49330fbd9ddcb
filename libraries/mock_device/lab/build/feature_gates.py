"""Feature gates of each version of Kubernetes: which exist, and which of them a profile's cluster gets.

A component refuses to start with a gate that it does not know, or whose value is locked. The lists in
``embedded-k8s/versions/VERSION/feature-gates.json`` come from the source of each version. After a change of a version:
``python -m mock_device.lab.build.feature_gates``, which asks the components by ``embedded-k8s/versions/gates.go``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click

from mock_device.lab.base import command_line
from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.kubernetes_version import KubernetesVersion, minor
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build.gobuild import VERSIONS, kubernetes_modules, kubernetes_release

Wanted = bool | Mapping[str, str]
"""What a profile says of a gate: its value, or ``since`` and ``until``, the versions with it turned on."""


@dataclass(frozen=True)
class Gate:
    """A feature gate in one version of Kubernetes."""

    stage: str
    """``alpha``, ``beta``, ``ga`` or ``deprecated``."""
    default: bool
    locked: bool
    """Whether it cannot be changed."""

    def __str__(self) -> str:
        """As in the files: ``beta on``, ``ga on locked``."""
        return " ".join([self.stage, "on" if self.default else "off", *["locked"] * self.locked])

    @staticmethod
    def parse(words: str) -> Gate:
        """The gate of which ``str`` gives ``words``."""
        stage, default, *rest = words.split()
        return Gate(stage, default == "on", bool(rest))


def gates_file(version: KubernetesVersion) -> Path:
    """File with the gates of ``version``."""
    return VERSIONS / version / "feature-gates.json"


@cache
def known(version: KubernetesVersion) -> Mapping[str, Gate]:
    """All feature gates of ``version``, by name."""
    content = json.loads(gates_file(version).read_text())
    return {name: Gate.parse(gate) for name, gate in content["gates"].items()}


def of_version(wanted: Mapping[str, Wanted], version: KubernetesVersion) -> dict[str, bool]:
    """The gates of ``wanted`` that a cluster of ``version`` gets.

    Raises StepError if ``version`` does not know one of them, or if it is locked to another value.
    """
    found = in_range(wanted, version)
    for name, value in found.items():
        _check(name, value, version)
    return found


def in_range(wanted: Mapping[str, Wanted], version: KubernetesVersion) -> dict[str, bool]:
    """The gates of ``wanted`` for ``version``; one with a range is on in these versions, and left out in others."""
    return {
        name: value if isinstance(value, bool) else True
        for name, value in wanted.items()
        if isinstance(value, bool) or _within(name, value, version)
    }


def _within(name: str, value: Mapping[str, str], version: KubernetesVersion) -> bool:
    since, until = value.get("since"), value.get("until")
    if since and until and minor(since) > minor(until):
        raise StepError(f"feature-gates.{name}: expected until {since} or later, found {until}")
    return (not since or version.number >= minor(since)) and (not until or version.number <= minor(until))


def _check(name: str, value: bool, version: KubernetesVersion) -> None:
    gate = known(version).get(name)
    if gate is None:
        raise StepError(f"feature-gates.{name}: Kubernetes {version} has no such gate{_instead(name, version)}")
    if gate.locked and value is not gate.default:
        state = "on" if gate.default else "off"
        raise StepError(f"feature-gates.{name}: Kubernetes {version} has it {state} and locked ({gate.stage})")


def _instead(name: str, version: KubernetesVersion) -> str:
    versions = [other for other in KubernetesVersion if name in known(other)]
    if not versions:
        return ", nor has any other version of the lab; see embedded-k8s/versions"
    first, last = versions[0], versions[-1]
    if first > version:
        return f", {first} is the first; for other versions to go without it: {name}: {{since: {first}}}"
    return f", {last} is the last; for other versions to go without it: {name}: {{until: {last}}}"


def read_from_source(version: KubernetesVersion) -> dict[str, Any]:
    """Compile and run ``versions/gates.go`` with the modules of ``version``. Raises StepError."""
    argv = ["go", "run", "-trimpath", f"-modfile={kubernetes_modules(version)}", str(VERSIONS / "gates.go")]
    environment = {"CGO_ENABLED": "0"}
    output = run(argv, cwd=VERSIONS.parent, env=environment, timeout=Timeout.GO_BUILD.seconds)
    gates = {name: str(Gate(**gate)) for name, gate in json.loads(output).items()}
    return {"kubernetes": kubernetes_release(version), "gates": gates}


@click.command("feature-gates", context_settings=command_line.SETTINGS)
@click.argument("versions", nargs=-1, type=click.Choice([version.value for version in KubernetesVersion]))
def generate(versions: Sequence[str]) -> None:
    """Write the lists of feature gates of all versions, or of VERSIONS.

    It compiles as long as `lab build kubernetes`, or a minute after that.
    """
    for version in map(KubernetesVersion, versions or KubernetesVersion):
        write_file(gates_file(version), json.dumps(read_from_source(version), indent=1, sort_keys=True) + "\n")
        print(f"{version}\t{gates_file(version)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the lists; exit code 1 for a step that failed, 2 for bad usage."""
    return command_line.run(generate, argv)


if __name__ == "__main__":
    sys.exit(main())
