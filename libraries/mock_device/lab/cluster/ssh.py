"""Runs commands on nodes with the ssh(1) client."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout


class SshServer(Protocol):
    """How to log in to an SSH server."""

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


@dataclass(frozen=True)
class JumpHost:
    """An SSH server through which nodes are reached."""

    host: str
    port: int
    user: str
    key_file: Path
    known_hosts: Path

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


class SshTarget(SshServer, Protocol):
    """How to reach a node; ``lab.cluster.cluster.NodeAccess`` implements it."""

    @property
    def name(self) -> str: ...
    @property
    def jump(self) -> JumpHost | None: ...
    @property
    def sudo(self) -> bool: ...


Target = TypeVar("Target", bound=SshTarget)
Result = TypeVar("Result")


def argv(node: SshTarget, command: Sequence[str] = ()) -> list[str]:
    """The ssh command line that runs ``command`` as root on ``node``, or a shell if it is empty."""
    line = _to(node)
    if command:
        return [*line, _login(node), as_root(node, shlex.join(command))]
    return [*line, *(["-t", _login(node), as_root(node, "-i")] if node.sudo else [_login(node)])]


def forward_argv(node: SshTarget, local: Path, remote: str) -> list[str]:
    """The ssh command line that forwards the Unix socket ``local``, which it makes, to ``remote`` of ``node``.

    With the rights of the node's SSH user. It runs until it is ended.
    """
    return [*_to(node), "-N", "-o", "ExitOnForwardFailure=yes", "-L", f"{local}:{remote}", _login(node)]


def _to(node: SshTarget) -> list[str]:
    """ssh with the options that lead to ``node``."""
    line = _client(node)
    if node.jump:
        # Not -J, whose connection to the jump host has no options. ssh(1) replaces %h and %p.
        line += ["-o", f"ProxyCommand={_escaped(_client(node.jump))} -W [%h]:%p {_escaped([_login(node.jump)])}"]
    return line


def as_root(node: SshTarget, words: str) -> str:
    """The command line ``words`` as ``node`` must run it to have root's rights."""
    # -n: never asks for a password, which would wait for a terminal.
    return f"sudo -n {words}" if node.sudo else words


def _client(server: SshServer) -> list[str]:
    options = {
        "IdentityFile": str(server.key_file),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(server.known_hosts),
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": f"{Timeout.SSH_CONNECT.seconds:.0f}",
        "LogLevel": "ERROR",
    }
    line = ["ssh", "-F", "none", "-p", str(server.port)]
    for option, value in options.items():
        line += ["-o", f"{option}={value}"]
    return line


def _login(server: SshServer) -> str:
    return f"{server.user}@{server.host}"


def _escaped(words: Sequence[str]) -> str:
    """``words`` for a shell, in an option in which ssh(1) replaces percent signs."""
    return shlex.join(words).replace("%", "%%")


def runner(access: Callable[[str], SshTarget]) -> Callable[[str, str], str]:
    """A function that runs a shell command on the node of a name, and returns what it prints.

    It raises StepError, with the node's name.
    """

    def run_on(node: str, command: str) -> str:
        try:
            return on_node(access(node), ["sh", "-c", command], timeout=Timeout.NODE_COMMAND.seconds)
        except StepError as error:
            raise StepError(f"{node}: {error}") from error

    return run_on


def on_node(
    node: SshTarget, command: Sequence[str], *, timeout: float, log: Path | None = None, stdin: Path | None = None
) -> str:
    """Run ``command`` on ``node`` and return what it prints.

    ``timeout`` is wall time in seconds; the command reads the file ``stdin``.
    Raises StepError with the end of the output.
    """
    return run(argv(node, command), timeout=timeout, log=log, stdin=stdin).decode(errors="replace")


def on_each(nodes: Sequence[Target], work: Callable[[Target], Result]) -> dict[str, Result]:
    """Do ``work`` for all ``nodes`` in parallel; its results by the nodes' names.

    Raises StepError with the nodes for which it failed, and why.
    """
    with ThreadPoolExecutor(max(len(nodes), 1)) as pool:
        started = {node.name: pool.submit(work, node) for node in nodes}
    failed, done = [], {}
    for name, future in started.items():
        try:
            done[name] = future.result()
        except StepError as error:
            failed.append(str(error) if str(error).startswith(f"{name}:") else f"{name}: {error}")
    if failed:
        raise StepError("\n".join(failed))
    return done
