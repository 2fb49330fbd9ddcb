"""Runs commands on a node over a persistent SSH connection, with SSHLibrary's client."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
from SSHLibrary.abstractclient import SSHClientException
from SSHLibrary.client import SSHClient

from mock_device.checks.errors import CheckError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.ssh import JumpHost, as_root

_KEEPALIVE_SECONDS = "15s"
_CHUNK_BYTES = 65536


# paramiko raises its errors; without a handler it would also log them to standard error.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class _BoundedClient(paramiko.SSHClient):  # type: ignore[misc]
    """Applies the connection's time-out to each step of the login: a forwarder accepts the connection at once.

    It accepts the host keys of ``known_hosts`` only, and connects through ``jump``, if given.
    """

    def __init__(self, known_hosts: Path, jump: JumpHost | None = None) -> None:
        super().__init__()
        self.load_host_keys(str(known_hosts))
        self.set_missing_host_key_policy(paramiko.RejectPolicy())
        self._jump = jump
        self._jump_client: _BoundedClient | None = None

    def connect(self, hostname: str, port: int, *args: Any, timeout: float, **options: Any) -> None:
        # A file with a refused key would be reported as a key of a wrong type: paramiko tries all types in turn.
        key_file = options.pop("key_filename")
        try:
            options["pkey"] = paramiko.PKey.from_path(key_file)
        except paramiko.pkey.UnknownKeyType as error:
            raise paramiko.SSHException(f"{key_file}: expected a private key, found a key of another type") from error
        if self._jump:
            options["sock"] = self._through(self._jump, (hostname, port), timeout)
        super().connect(hostname, port, *args, timeout=timeout, banner_timeout=timeout, auth_timeout=timeout, **options)

    def _through(self, jump: JumpHost, target: tuple[str, int], timeout: float) -> paramiko.Channel:
        """A channel to ``target`` that the jump host forwards. Raises JumpError."""
        client = self._jump_client = _BoundedClient(jump.known_hosts)
        try:
            client.connect(
                jump.host,
                jump.port,
                jump.user,
                timeout=timeout,
                key_filename=str(jump.key_file),
                allow_agent=False,
                look_for_keys=False,
            )
            transport: Any = client.get_transport()
            return transport.open_channel("direct-tcpip", target, ("127.0.0.1", 0), timeout=timeout)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise JumpError(f"through jump host {jump}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        super().close()
        if self._jump_client:
            self._jump_client.close()


class JumpError(paramiko.SSHException):  # type: ignore[misc]
    """The jump host does not connect this machine to the node."""


class _CheckingClient(SSHClient):  # type: ignore[misc]
    """SSHLibrary's client, restricted to the node's host key; by default it accepts any."""

    def __init__(self, access: NodeAccess, timeout: float) -> None:
        self._access = access
        super().__init__(access.host, port=access.port, timeout=timeout)

    def _get_client(self) -> paramiko.SSHClient:
        return _BoundedClient(self._access.known_hosts, self._access.jump)


class NodeShell:
    """A connection to one node, made on first use and again after it broke."""

    def __init__(self, access: NodeAccess) -> None:
        self._access = access
        self._client: Any = None

    def run(self, command: str, timeout: float) -> str:
        """Standard output of ``command``, run by the node's ``sh`` as root.

        ``timeout`` is in seconds. Raises CheckError if the node cannot be
        reached, or the command fails or takes too long.
        """
        try:
            output, errors, code = self._execute(command, timeout)
        except (SSHClientException, paramiko.SSHException, OSError, EOFError) as error:
            self.close()
            node = self._access
            raise CheckError(
                f"{node.name}: no answer over SSH ({node.host}:{node.port}) within {timeout:.0f} s: "
                f"{type(error).__name__}: {error}; see: lab status"
            ) from error
        if code:
            first = command.strip().partition("\n")[0]
            raise CheckError(f"{self._access.name}: {first!r} ended with {code}: {(errors or output).strip()}")
        return str(output)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _execute(self, command: str, timeout: float) -> tuple[str, str, int]:
        deadline = time.monotonic() + timeout
        transport = self._client.client.get_transport() if self._client else None
        if transport is None or not transport.is_active():
            self.close()
            self._client = self._login(min(timeout, Timeout.LOGIN.seconds))
            transport = self._client.client.get_transport()
        line = as_root(self._access, shlex.join(["sh", "-c", command])) if self._access.sudo else command
        return _run(transport, line, deadline)

    def _login(self, timeout: float) -> Any:
        client = _CheckingClient(self._access, timeout)
        try:
            client.login_with_public_key(
                self._access.user, str(self._access.key_file), None, keep_alive_interval=_KEEPALIVE_SECONDS
            )
        except (OSError, SSHClientException, paramiko.SSHException):
            client.close()
            raise
        return client


def _run(transport: paramiko.Transport, command: str, deadline: float) -> tuple[str, str, int]:
    """Output, errors and exit code of ``command``. Raises TimeoutError after ``deadline``, or paramiko's SSHException.

    SSHLibrary's execute_command polls for the exit code in a busy loop, which
    takes a whole core away from the guests.
    """
    with transport.open_session(timeout=_remaining(deadline)) as channel:
        channel.settimeout(_remaining(deadline))
        channel.exec_command(command)
        output = _read(channel, channel.recv, deadline)
        errors = _read(channel, channel.recv_stderr, deadline)
        if not channel.status_event.wait(_remaining(deadline)):
            raise TimeoutError("no exit code")
        return output, errors, channel.recv_exit_status()


def _read(channel: paramiko.Channel, receive: Callable[[int], bytes], deadline: float) -> str:
    """Read a stream of ``channel`` to its end. More than 2 MiB (paramiko's window) on standard error would block it."""
    chunks = []
    while chunk := receive(_CHUNK_BYTES):
        chunks.append(chunk)
        channel.settimeout(_remaining(deadline))
    return b"".join(chunks).decode(errors="replace")


def _remaining(deadline: float) -> float:
    """Seconds until ``deadline``. Raises TimeoutError after it."""
    if (remaining := deadline - time.monotonic()) <= 0:
        raise TimeoutError("the command has not ended")
    return remaining
