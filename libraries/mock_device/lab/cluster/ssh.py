"""Runs commands on nodes with the ssh(1) client."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mock_device.lab.base.commands import run

_CONNECT_TIMEOUT_SECONDS = 30


class SshTarget(Protocol):
    """How to reach a node; ``lab.cluster.cluster.NodeAccess`` implements it."""

    @property
    def name(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def key_file(self) -> Path: ...
    @property
    def known_hosts(self) -> Path: ...


def argv(node: SshTarget, command: Sequence[str] = ()) -> list[str]:
    """The ssh command line that runs ``command`` on ``node``, or a shell if it is empty."""
    options = {
        "IdentityFile": str(node.key_file),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(node.known_hosts),
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": str(_CONNECT_TIMEOUT_SECONDS),
        "LogLevel": "ERROR",
    }
    line = ["ssh", "-F", "none", "-p", str(node.port)]
    for option, value in options.items():
        line += ["-o", f"{option}={value}"]
    return [*line, f"{node.user}@{node.host}", *([shlex.join(command)] if command else [])]


def on_node(
    node: SshTarget, command: Sequence[str], *, timeout: float, log: Path | None = None, stdin: Path | None = None
) -> str:
    """Run ``command`` on ``node`` and return what it prints.

    ``timeout`` is wall time in seconds; the command reads the file ``stdin``.
    Raises StepError with the end of the output.
    """
    return run(argv(node, command), timeout=timeout, log=log, stdin=stdin).decode(errors="replace")
