"""Debian trees by mmdebstrap."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.build.rootless import as_root

SUITE = "trixie"
_TIMEOUT_SECONDS = 1200.0
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
# Who is root in a namespace only makes no devices, and mounts no file system of terminals for a group that is not
# there: this machine's devices serve. There is no other user that apt could become.
_ORDINARY_USER = (
    "--skip=chroot/mount/dev",
    '--extract-hook=mkdir -p "$1/dev"; mount --rbind /dev "$1/dev"',
    '--aptopt=APT::Sandbox::User "root"',
)


def tree(target: Path, packages: Sequence[str], *, log: Path, variant: str = "apt", hooks: Sequence[str] = ()) -> None:
    """Install ``packages`` and what they need into the new folder ``target``.

    Uses mmdebstrap's own default mirror. ``hooks`` are shell
    lines with the folder as ``$1``, run when the packages are there. An ordinary
    user gets the tree as ``lab.build.rootless`` says. Raises StepError.
    """
    argv = ["mmdebstrap", f"--variant={variant}", f"--keyring={_KEYRING}"]
    argv.append("--mode=root")
    if os.geteuid() != 0:
        argv += _ORDINARY_USER
    argv += ["--aptopt=Apt::Install-Recommends false", "--aptopt=Acquire::Retries 3"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
    if packages:
        argv.append(f"--include={','.join(packages)}")
    # The last stage of a variant that installs nothing is the extraction.
    stage = "extract" if variant == "extract" else "customize"
    argv += [f"--{stage}-hook={hook}" for hook in hooks]
    run(as_root([*argv, SUITE, target]), log=log, timeout=_TIMEOUT_SECONDS)
