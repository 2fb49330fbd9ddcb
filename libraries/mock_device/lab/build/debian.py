"""Debian root file systems, built by mmdebstrap."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build.rootless import as_root

SUITE = "trixie"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
# Root of a user namespace cannot create device nodes, nor mount devpts for a group that the namespace lacks: bind-mount
# this machine's /dev instead. apt cannot drop to its sandbox user, because the namespace has no other user.
_ORDINARY_USER = (
    "--skip=chroot/mount/dev",
    '--extract-hook=mkdir -p "$1/dev"; mount --rbind /dev "$1/dev"',
    '--aptopt=APT::Sandbox::User "root"',
)


def tree(target: Path, packages: Sequence[str], *, log: Path, variant: str = "apt", hooks: Sequence[str] = ()) -> None:
    """Install ``packages`` and their dependencies into the new folder ``target``.

    Uses mmdebstrap's default mirror. ``hooks`` are shell commands with the
    folder as ``$1``; they run after the packages are installed. For an ordinary
    user the tree is built as described in ``lab.build.rootless``. Raises StepError.
    """
    argv = ["mmdebstrap", f"--variant={variant}", f"--keyring={_KEYRING}"]
    argv.append("--mode=root")
    if os.geteuid() != 0:
        argv += _ORDINARY_USER
    argv += ["--aptopt=Apt::Install-Recommends false", "--aptopt=Acquire::Retries 3"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
    if packages:
        argv.append(f"--include={','.join(packages)}")
    # For a variant that configures no packages, extraction is the last stage.
    stage = "extract" if variant == "extract" else "customize"
    argv += [f"--{stage}-hook={hook}" for hook in hooks]
    run(as_root([*argv, SUITE, target]), log=log, timeout=Timeout.DEBIAN_TREE.seconds)
