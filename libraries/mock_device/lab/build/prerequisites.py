"""Checks this machine's prerequisites; all that are missing are reported at once, with the commands to install them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from mock_device.lab.base import command_line, namespaces
from mock_device.lab.base.commands import search_path
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout

_PYTHON = (3, 11)
_GO = (1, 26)


@dataclass(frozen=True)
class Tool:
    """A command, its purpose, and the Debian and Ubuntu package that provides it."""

    command: str
    package: str
    purpose: str


TOOLS = (
    Tool("mmdebstrap", "mmdebstrap", "builds the guests' Debian"),
    Tool("buildah", "buildah", "builds container images"),
    Tool("mke2fs", "e2fsprogs", "makes the guests' disks"),
    Tool("nft", "nftables", "kube-proxy's rules in the cluster's namespace"),
    Tool("ssh", "openssh-client", "reaches the guests"),
    Tool("unshare", "util-linux", "makes the cluster's namespaces"),
)
PASST = Tool("passt", "passt", "connects a cluster with the internet")
SKOPEO = Tool("skopeo", "skopeo", "pulls and converts images")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True)
class Missing:
    """A prerequisite that is not met."""

    what: str
    purpose: str
    remedy: str
    package: str | None = None


def _which(command: str) -> str | None:
    """Like shutil.which, on the search path of the lab's own commands."""
    return shutil.which(command, path=search_path())


def _go_version() -> tuple[int, ...] | None:
    try:
        output = subprocess.run(
            ["go", "env", "GOVERSION"],
            capture_output=True,
            text=True,
            timeout=Timeout.GO_VERSION.seconds,
            check=True,
            cwd="/",
        ).stdout
        return tuple(int(part) for part in output.strip().removeprefix("go").split(".")[:2])
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def missing() -> list[Missing]:
    """All prerequisites that this machine does not meet."""
    found = []
    if sys.version_info < _PYTHON:
        found.append(Missing("Python 3.11 or newer", "runs the lab", "apt-get install python3", None))
    go = _go_version()
    if go is None or go < _GO:
        have = f"found {'.'.join(map(str, go))}" if go else "found none"
        remedy = "install it from your distribution's backports or the Go project, and put it on PATH"
        found.append(Missing(f"Go {_GO[0]}.{_GO[1]} or newer ({have})", "builds Kubernetes and containerd", remedy))
    for tool in TOOLS:
        if _which(tool.command) is None:
            install = f"apt-get install {tool.package}"
            found.append(Missing(tool.command, tool.purpose, install, tool.package))
    if not _KEYRING.exists():
        package = "debian-archive-keyring"
        found.append(Missing(str(_KEYRING), "checks Debian's packages", f"apt-get install {package}", package))
    if _which("unshare") and (forbidden := namespaces.forbidden()):
        what = f"namespaces for this user ({forbidden.found})"
        found.append(Missing(what, "isolate a cluster, and replace root's privileges", forbidden.remedy))
    return found


def need(tool: Tool) -> None:
    """Raise StepError with the command that installs ``tool``, which only some commands need, if it is missing."""
    if _which(tool.command) is None:
        raise StepError(f"this machine lacks {tool.command}, which {tool.purpose}: apt-get install {tool.package}")


def check() -> None:
    """Raise StepError with every missing prerequisite and the command that installs it."""
    if found := missing():
        lines = [f"  {item.what}: {item.purpose}; {item.remedy}" for item in found]
        raise StepError("this machine lacks:\n" + "\n".join(lines) + "\nto install all packages: make prerequisites")


@click.command("prerequisites", context_settings=command_line.SETTINGS)
def prerequisites() -> int:
    """Print missing packages, one per line; exit code 1 if something is missing that no package provides."""
    found = missing()
    for item in found:
        if item.package:
            print(item.package)
        else:
            print(f"missing: {item.what}: {item.purpose}; {item.remedy}", file=sys.stderr)
    return 1 if any(item.package is None for item in found) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Print missing packages; exit code 2 for bad usage."""
    return command_line.run(prerequisites, argv)


if __name__ == "__main__":
    sys.exit(main())
