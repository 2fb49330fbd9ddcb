"""Runs commands on a node over a persistent SSH connection, with SSHLibrary's client."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
from SSHLibrary.abstractclient import SSHClientException
from SSHLibrary.client import SSHClient

from mock_device.checks.errors import CheckError
from mock_device.lab.cluster.cluster import NodeAccess

_LOGIN_TIMEOUT_SECONDS = 60.0
_KEEPALIVE_SECONDS = "15s"
_CHUNK_BYTES = 65536


# paramiko raises its errors; without a handler it would also log them to standard error.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class _BoundedClient(paramiko.SSHClient):  # type: ignore[misc]
    """Applies the connection's time-out to each step of the login: a forwarder accepts the connection at once."""

    def connect(self, *args: Any, timeout: float, **options: Any) -> None:
        super().connect(*args, timeout=timeout, banner_timeout=timeout, auth_timeout=timeout, **options)


class _CheckingClient(SSHClient):  # type: ignore[misc]
    """SSHLibrary's client, restricted to the node's host key; by default it accepts any."""

    def __init__(self, access: NodeAccess, timeout: float) -> None:
        self._known_hosts: Path = access.known_hosts
        super().__init__(access.host, port=access.port, timeout=timeout)

    def _get_client(self) -> paramiko.SSHClient:
        client = _BoundedClient()
        client.load_host_keys(str(self._known_hosts))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        return client


class NodeShell:
    """A connection to one node, made on first use and again after it broke."""

    def __init__(self, access: NodeAccess) -> None:
        self._access = access
        self._client: Any = None

    def run(self, command: str, timeout: float) -> str:
        """Standard output of ``command``, run by the node's ``sh``.

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
                f"{type(error).__name__}: {error}; look at the guest's console: lab status"
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
            self._client = self._login(min(timeout, _LOGIN_TIMEOUT_SECONDS))
            transport = self._client.client.get_transport()
        return _run(transport, command, deadline)

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
