"""Namespaces of a cluster: how to create them, as root and as an ordinary user, and what prevents it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mock_device.lab.base.timeouts import Timeout

_SYSCTL = Path("/proc/sys")
_ENOUGH = "10000"


@dataclass(frozen=True)
class Forbidden:
    """Why namespaces cannot be created, and what to do about it."""

    found: str
    remedy: str


def unshare() -> list[str]:
    """unshare(1) with new namespaces; an ordinary user gets a user namespace in which they are root."""
    command = ["unshare", "--net", "--mount", "--pid", "--ipc", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
    return command if os.geteuid() == 0 else [*command, "--user", "--map-root-user"]


def forbidden() -> Forbidden | None:
    """Try the supervisor's first steps in new namespaces; None if they work.

    The kernel's settings alone prove nothing: only a trial shows whether they
    matter on this machine.
    """
    try:
        trial = subprocess.run(
            [*unshare(), "mount", "-t", "tmpfs", "tmpfs", "/tmp"],
            capture_output=True,
            text=True,
            timeout=Timeout.NAMESPACES.seconds,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return explain(_settings(), str(error), root=os.geteuid() == 0)
    return explain(_settings(), trial.stderr, root=os.geteuid() == 0) if trial.returncode else None


def _settings() -> dict[str, str]:
    """Values of the kernel's settings that can forbid namespaces, as far as this kernel has them."""
    limits = [f"user.max_{kind}_namespaces" for kind in ("user", "net", "mnt", "pid", "ipc")]
    names = [*limits, "kernel.unprivileged_userns_clone", "kernel.apparmor_restrict_unprivileged_userns"]
    paths = {name: _SYSCTL / name.replace(".", "/") for name in names}
    return {name: path.read_text().strip() for name, path in paths.items() if path.exists()}


def explain(settings: Mapping[str, str], message: str, *, root: bool) -> Forbidden:
    """Explain a failed trial by the kernel's ``settings`` (sysctl(8)) and the trial's error ``message``."""
    wanted = {name: _ENOUGH for name, value in settings.items() if name.startswith("user.max_") and value == "0"}
    if not root:
        # Settings of Debian's and Ubuntu's kernels; they do not restrict root.
        for name, right in (
            ("kernel.unprivileged_userns_clone", "1"),
            ("kernel.apparmor_restrict_unprivileged_userns", "0"),
        ):
            if name in settings and settings[name] != right:
                wanted[name] = right
    if not wanted:
        found = message.strip().splitlines()[-1] if message.strip() else "no reason given"
        where = "a container must be started with more privileges"
        return Forbidden(found, where if root else f"become root, or allow user namespaces; {where}")
    found = ", ".join(f"{name} = {settings[name]}" for name in wanted)
    lines = " ".join(f"{name}={value}" for name, value in wanted.items())
    keep = "(to make it permanent, add it to a file in /etc/sysctl.d)"
    return Forbidden(found, f"as root: sysctl -w {lines} {keep}")
