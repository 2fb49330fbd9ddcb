"""Commands over SSH, on paramiko's server, which runs them with ``sh``."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.node_shell import NodeShell
from mock_device.lab.cluster.cluster import NodeAccess


class _Server(paramiko.ServerInterface):  # type: ignore[misc]
    """Accepts any key, opens an idle shell, which SSHLibrary's login requires, and runs one command per channel."""

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return int(paramiko.AUTH_SUCCESSFUL)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_pty_request(self, *_: object) -> bool:
        return True

    def check_channel_shell_request(self, channel: paramiko.Channel) -> bool:
        return True

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command.decode()), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, command: str) -> None:
        # The transport's thread acknowledges the command before it reads this answer, so the command ends later.
        channel.get_transport().global_request("keepalive@lag.net", wait=True)
        if command == "die":
            channel.get_transport().close()
            return
        done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=20, check=False)
        channel.sendall(done.stdout)
        channel.sendall_stderr(done.stderr)
        channel.send_exit_status(done.returncode)
        channel.close()


@pytest.fixture
def access(tmp_path: Path) -> Iterator[NodeAccess]:
    """A node whose SSH server runs in this process."""
    host_key = paramiko.ECDSAKey.generate()
    client_key = paramiko.RSAKey.generate(2048)
    client_key.write_private_key_file(str(tmp_path / "key"))
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key.get_name()} {host_key.get_base64()}\n")
    transports: list[paramiko.Transport] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transports.append(transport)
            transport.add_server_key(host_key)
            transport.start_server(server=_Server())

    threading.Thread(target=serve, daemon=True).start()
    yield NodeAccess("node1", "127.0.0.1", port, "root", tmp_path / "key", tmp_path / "known_hosts")
    listener.close()
    for transport in transports:
        transport.close()


@pytest.fixture
def shell(access: NodeAccess) -> Iterator[NodeShell]:
    shell = NodeShell(access)
    yield shell
    shell.close()


def test_output_is_returned(shell: NodeShell) -> None:
    assert shell.run("echo out; echo err >&2", 10) == "out\n"
    assert shell.run("printf 'ä\\377'", 10) == "ä\N{REPLACEMENT CHARACTER}"


def test_long_output_is_complete(shell: NodeShell) -> None:
    assert len(shell.run("head -c 5000000 /dev/zero", 20)) == 5_000_000


def test_failed_command_is_reported_with_its_errors(shell: NodeShell) -> None:
    with pytest.raises(CheckError, match="node1: 'echo why >&2; exit 3' ended with 3: why"):
        shell.run("echo why >&2; exit 3", 10)


def test_command_times_out(shell: NodeShell) -> None:
    begin = time.monotonic()
    with pytest.raises(CheckError, match="no answer over SSH .* within 1 s: TimeoutError"):
        shell.run("sleep 10", 1)
    assert time.monotonic() - begin < 5
    assert shell.run("echo again", 10) == "again\n"


def test_silent_node_times_out(access: NodeAccess) -> None:
    """A forwarder behaves like this for a stopped guest."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        shell = NodeShell(replace(access, port=silent.getsockname()[1]))
        begin = time.monotonic()
        with pytest.raises(CheckError, match="node1: no answer over SSH .* within 1 s: SSHException"):
            shell.run("true", 1)
        assert time.monotonic() - begin < 5


def test_broken_connection_is_replaced(shell: NodeShell) -> None:
    with pytest.raises(CheckError, match="node1: "):
        shell.run("die", 10)
    assert shell.run("echo again", 10) == "again\n"


def test_waiting_uses_no_cpu_time(shell: NodeShell) -> None:
    shell.run("true", 10)
    begin = time.process_time()
    shell.run("sleep 2", 10)
    assert time.process_time() - begin < 0.5
