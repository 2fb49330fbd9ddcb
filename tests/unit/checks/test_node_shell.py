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
from support.fake_command import fake_command

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.node_shell import NodeShell
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.ssh import JumpHost


class _Server(paramiko.ServerInterface):  # type: ignore[misc]
    """Accepts any key, opens an idle shell, which SSHLibrary's login requires, and runs one command per channel."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return int(paramiko.AUTH_SUCCESSFUL)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_direct_tcpip_request(self, _: int, __: tuple[str, int], target: tuple[str, int]) -> int:
        """Forwards, as a jump host does."""
        threading.Thread(target=self._forward, args=(socket.create_connection(target),), daemon=True).start()
        return int(paramiko.OPEN_SUCCEEDED)

    def _forward(self, connection: socket.socket) -> None:
        channel = self._transport.accept(20)
        assert channel
        threading.Thread(target=copy, args=(channel, connection), daemon=True).start()
        copy(connection, channel)

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


def copy(source: socket.socket | paramiko.Channel, target: socket.socket | paramiko.Channel) -> None:
    """Copy bytes until ``source`` ends."""
    while data := source.recv(65536):
        target.sendall(data)
    target.close()


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
            transport.start_server(server=_Server(transport))

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


def test_node_is_reached_through_a_jump_host(access: NodeAccess) -> None:
    """The server forwards to itself."""
    jump = JumpHost(access.host, access.port, "gate", access.key_file, access.known_hosts)
    shell = NodeShell(replace(access, jump=jump))
    assert shell.run("echo through", 20) == "through\n"
    shell.close()


def test_jump_host_that_does_not_answer_is_named(access: NodeAccess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    jump = JumpHost(access.host, port, "gate", access.key_file, access.known_hosts)
    with pytest.raises(CheckError, match=f"JumpError: through jump host gate@127.0.0.1:{port}: .*Unable to connect"):
        NodeShell(replace(access, jump=jump)).run("true", 10)


def test_refused_login_is_named(access: NodeAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Server, "check_auth_publickey", lambda *_: paramiko.AUTH_FAILED)
    with pytest.raises(CheckError, match="node1: no answer over SSH .*: Login with public key failed for user 'root'"):
        NodeShell(access).run("true", 10)


def test_sudo_runs_the_command_as_root(access: NodeAccess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_command(monkeypatch, tmp_path, "sudo", ["print(sys.argv[1:])"])
    shell = NodeShell(replace(access, sudo=True))
    assert shell.run("echo 'a b'; id", 20) == "['-n', 'sh', '-c', \"echo 'a b'; id\"]\n"
    shell.close()


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
