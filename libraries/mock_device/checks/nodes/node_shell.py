"""Commands on a node over SSH, on a connection that is kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import paramiko

from mock_device.checks.errors import CheckError
from mock_device.lab.cluster.cluster import NodeAccess

_LOGIN_TIMEOUT_SECONDS = 60.0
_KEEPALIVE_SECONDS = 15
_CHUNK_BYTES = 65536


# paramiko raises its errors; without a handler it would also log them to standard error.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class NodeShell:
    """A connection to one node, made on first use and again after it broke."""

    def __init__(self, access: NodeAccess) -> None:
        self._access = access
        self._client: paramiko.SSHClient | None = None

    def run(self, command: str, timeout: float) -> str:
        """Standard output of ``command``, run by the node's ``sh``.

        ``timeout`` is in seconds. Raises CheckError if the node cannot be
        reached, or the command fails or takes too long.
        """
        try:
            output, errors, code = self._execute(command, timeout)
        except (paramiko.SSHException, OSError, EOFError) as error:
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
        transport = self._client.get_transport() if self._client else None
        if transport is None or not transport.is_active():
            self.close()
            self._client = self._login(min(timeout, _LOGIN_TIMEOUT_SECONDS))
            transport = self._client.get_transport()
        return _run(transport, command, deadline)

    def _login(self, timeout: float) -> paramiko.SSHClient:
        node = self._access
        client = paramiko.SSHClient()
        client.load_host_keys(str(node.known_hosts))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            # Each step has the time of the connection: the node's forwarder accepts that at once.
            client.connect(
                node.host,
                node.port,
                node.user,
                key_filename=str(node.key_file),
                timeout=timeout,
                banner_timeout=timeout,
                auth_timeout=timeout,
                allow_agent=False,
                look_for_keys=False,
            )
        except (OSError, paramiko.SSHException, EOFError):
            client.close()
            raise
        client.get_transport().set_keepalive(_KEEPALIVE_SECONDS)
        return client


def _run(transport: paramiko.Transport, command: str, deadline: float) -> tuple[str, str, int]:
    """Output, errors and exit code of ``command``. Raises TimeoutError after ``deadline``, or SSHException."""
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
