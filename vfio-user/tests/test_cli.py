"""The command line and the socket files, with separate processes."""

from __future__ import annotations

import hmac
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from guest_driver import BASE, DATA, Driver
from mock_accel_server import control_client
from mock_accel_server.descriptors import Opcode, Status
from mock_accel_server.protocol import Command
from vfio_user_client import Client

from mock_device import topology

PROJECT = Path(__file__).resolve().parents[2]
TOPOLOGY = PROJECT / "variables/topologies/numa-cluster.yaml"
NODE = "mock-cluster-node2"
TIMEOUT = 30.0
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT / "vfio-user"), str(PROJECT / "libraries")])}

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Function that starts the command in ``folder`` and waits for its first line; kills leftovers at the end."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "mock_accel_server", *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(argv, cwd=folder, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        assert process.stdout is not None
        process.first_line = process.stdout.readline()  # type: ignore[attr-defined]
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate(timeout=TIMEOUT)


def finish(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> str:
    """Stop a server by a signal; returns its stderr."""
    process.send_signal(number)
    stderr = process.communicate(timeout=TIMEOUT)[1]
    assert process.returncode == 0, stderr
    return stderr


def fails(start: Start, code: int, *arguments: str) -> str:
    """The error of a command that must fail."""
    process = start(*arguments)
    out, error = process.communicate(timeout=TIMEOUT)
    assert process.first_line + out == ""  # type: ignore[attr-defined]
    assert process.returncode == code, error
    assert error.count("error: ") == 1 and "Traceback" not in error
    return error


def test_one_device(start: Start, folder: Path) -> None:
    arguments = ["--uuid", "MY-CARD", "--memory", "512M", "--capabilities", "encryption,p2p-dma", "--total-vfs", "3"]
    arguments += ["--window", "64K"]
    process = start(*arguments, "card.sock")
    assert process.first_line == "ready\t1\tcard.sock\n"  # type: ignore[attr-defined]
    path = folder / "card.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Client(path) as client:
        assert client.read(0x08, 16).rstrip(b"\0") == b"MY-CARD"
        assert int.from_bytes(client.read(0x20, 8), "little") == 512 << 20
        assert client.read(0x28, 4) == b"\x0b\0\0\0"
        assert int.from_bytes(client.read(0x54, 4), "little") == 64 << 10
        assert client.config(0x0E, 1) == 0x80
        assert client.config(0x10E, 2) == 3
        assert finish(process) == ""
        assert client.at_end()
    assert list(folder.iterdir()) == []


def test_vf_and_defaults(start: Start, folder: Path) -> None:
    start("--vf", "vf.sock")
    start("pf.sock")
    with Client(folder / "vf.sock") as vf, Client(folder / "pf.sock") as pf:
        assert (vf.config(2, 2), pf.config(2, 2)) == (2, 1)
        assert (vf.config(0x0E, 1), pf.config(0x0E, 1)) == (0x80, 0)
        memory = [int.from_bytes(client.read(0x20, 8), "little") >> 30 for client in (vf, pf)]
        assert memory == [2, 16]


def test_all_devices_of_a_node(start: Start, folder: Path) -> None:
    node = topology.load(TOPOLOGY).node(NODE)
    process = start("--topology", str(TOPOLOGY), "--node", NODE, "--socket-dir", ".")
    assert process.first_line == f"ready\t{len(node.functions)}\t.\n"  # type: ignore[attr-defined]
    sockets = {f"{function.name}.sock" for function in node.functions}
    assert {path.name for path in folder.iterdir()} == sockets | {"control.sock"}
    names = [device["name"] for device in control_client.devices(folder / "control.sock")]
    assert names == [function.name for function in node.functions]
    for function in node.functions:
        with Client(folder / f"{function.name}.sock") as client:
            assert client.read(0x08, 16).rstrip(b"\0").decode() == function.uuid
            assert int.from_bytes(client.read(0x20, 8), "little") == function.memory
            assert int.from_bytes(client.read(0x28, 4), "little") == function.capability_bits
            assert client.config(2, 2) == (2 if function.is_vf else 1)
            assert client.config(0x0E, 1) == (0x80 if function.multifunction else 0)
            assert client.config(0x10E, 2) == function.total_vfs
            assert int.from_bytes(client.read(0x54, 4), "little") == function.window
    finish(process, signal.SIGINT)
    assert list(folder.iterdir()) == []


def test_devices_sign_with_the_key_file(start: Start, folder: Path) -> None:
    secret = os.urandom(32)
    (folder / "key").write_bytes(secret)
    start("--key-file", "key", "--uuid", "MY-CARD", "--control", "faults.sock", "card.sock")
    assert control_client.devices(folder / "faults.sock")[0]["name"] == "card"
    with Client(folder / "card.sock") as client:
        driver = Driver(client)
        driver.put(DATA, b"nonce")
        assert driver.do(Opcode.IDENTIFY, BASE + DATA, BASE + DATA + 64, 5).status == Status.DONE
        key = hmac.digest(secret, b"MY-CARD", "sha256")
        assert driver.take(DATA + 64, 32) == hmac.digest(key, b"nonce", "sha256")
        driver.close()


def test_control_socket_that_is_in_use(start: Start, folder: Path) -> None:
    start("--control", "faults.sock", "a.sock")
    assert "faults.sock: a server listens there already" in fails(start, 1, "--control", "faults.sock", "b.sock")
    assert not (folder / "b.sock").exists()


def test_verbose_shows_messages(start: Start, folder: Path) -> None:
    process = start("--verbose", "a.sock")
    with Client(folder / "a.sock") as client:
        client.read(0, 4)
        client.send(Command.DMA_READ)
        client.receive()
    errors = finish(process)
    assert "client connected" in errors
    assert "REGION_READ" in errors and b"KCOM".hex() in errors
    assert "command 11 refused" in errors


def test_stale_socket_is_replaced(start: Start, folder: Path) -> None:
    process = start("a.sock")
    process.kill()
    process.wait(TIMEOUT)
    assert (folder / "a.sock").is_socket()
    again = start("a.sock")
    with Client(folder / "a.sock") as client:
        assert client.read(0, 4) == b"KCOM"
    finish(again)


def test_live_socket_is_left_alone(start: Start, folder: Path) -> None:
    first = start("a.sock")
    assert "a server listens there already" in fails(start, 1, "a.sock")
    with Client(folder / "a.sock") as client:
        assert "a server listens there already" in fails(start, 1, "a.sock")
        assert client.read(0, 4) == b"KCOM"
    finish(first)


def test_live_socket_of_another_program_is_left_alone(start: Start, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(folder / "a.sock"))
        other.listen(0)
        busy = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client in busy:  # fill its backlog
            client.setblocking(False)
            client.connect_ex(str(folder / "a.sock"))
        assert "a server listens there already" in fails(start, 1, "a.sock")
        for client in busy:
            client.close()
        assert (folder / "a.sock").is_socket()


def test_one_live_socket_of_many_leaves_nothing_behind(start: Start, folder: Path) -> None:
    start("mock3.sock")
    many = ["--topology", str(TOPOLOGY), "--node", NODE, "--socket-dir", "."]
    assert "mock3.sock: a server listens there already" in fails(start, 1, *many)
    assert [path.name for path in folder.iterdir()] == ["mock3.sock"]


def test_socket_file_of_another_server_is_not_removed(start: Start, folder: Path) -> None:
    first = start("a.sock")
    (folder / "a.sock").unlink()
    second = start("a.sock")
    finish(first)
    with Client(folder / "a.sock") as client:
        assert client.read(0, 4) == b"KCOM"
    finish(second)


def test_servers_started_at_once_on_a_stale_socket(folder: Path) -> None:
    """Exactly one server gets the socket."""
    path = folder / "a.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    argv = [sys.executable, "-m", "mock_accel_server", str(path)]
    pipe = subprocess.PIPE
    servers = [subprocess.Popen(argv, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    try:
        deadline = time.monotonic() + TIMEOUT
        while sum(server.poll() is None for server in servers) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        codes = sorted(str(server.poll()) for server in servers)
        assert codes == ["1", "1", "1", "None"]
        with Client(path) as client:
            assert client.read(0, 4) == b"KCOM"
    finally:
        for server in servers:
            server.terminate()
            server.communicate(timeout=TIMEOUT)


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_other_files_are_left_alone(start: Start, folder: Path, make: Callable[[Path], None]) -> None:
    make(folder / "a.sock")
    assert "expected nothing or a socket" in fails(start, 1, "a.sock")
    assert (folder / "a.sock").exists()


def test_invalid_socket_paths(start: Start) -> None:
    assert "at most 107 bytes" in fails(start, 1, "x" * 108)
    assert "No such file or directory" in fails(start, 1, "missing/a.sock")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "SOCKET is missing"),
        (["--uuid", "0123456789ABCDEFG", "a"], "--uuid: expected 1 to 16"),
        (["--uuid", "", "a"], "--uuid: expected 1 to 16"),
        (["--uuid", "ÜÜÜ", "a"], "--uuid: expected 1 to 16 printable ASCII"),
        (["--uuid", "a\tb", "a"], "--uuid: expected 1 to 16 printable ASCII"),
        (["--memory", "lots", "a"], "--memory: expected a size such as 16G"),
        (["--memory", "", "a"], "--memory: expected a size such as 16G"),
        (["--memory", "0", "a"], "--memory: expected a size such as 16G"),
        (["--memory", "-1G", "a"], "--memory"),
        (["--memory", "8388608T", "a"], "--memory: expected at most 8388607T"),
        (["--window", "lots", "a"], "--window: expected a size such as 16G"),
        (["--window", "3M", "a"], "--window: expected a power of two from 4K to 16M, found '3M'"),
        (["--window", "32M", "a"], "--window: expected a power of two from 4K to 16M"),
        (["--window", "2K", "a"], "--window: expected a power of two from 4K to 16M"),
        (["--key-file", "none", "a"], "--key-file: none: No such file"),
        (["--key-file", "/dev/null", "a"], "--key-file: expected a file of 16 to 4096 bytes"),
        (["--key-file", "/dev/zero", "a"], "--key-file: expected a file of 16 to 4096 bytes"),
        (["--capabilities", "compute,flying", "a"], "'flying'"),
        (["--capabilities", "", "a"], "--capabilities: expected names"),
        (["--total-vfs", "8", "a"], "--total-vfs: expected 0 to 7"),
        (["--total-vfs", "-1", "a"], "--total-vfs"),
        (["--total-vfs", "two", "a"], "--total-vfs"),
        (["--vf", "--total-vfs", "2", "a"], "only a physical function has VFs"),
        (["--unknown", "a"], "--unknown"),
        (["a", "b"], "unrecognized arguments: b"),
        (["--topology", str(TOPOLOGY)], "--topology needs --node and --socket-dir too"),
        (["--node", NODE], "--node needs --topology and --socket-dir too"),
        (["--topology", str(TOPOLOGY), "--node", "nobody", "--socket-dir", "."], "no node 'nobody'"),
        (["--topology", "none.yaml", "--node", NODE, "--socket-dir", "."], "none.yaml: cannot be read"),
        (["--topology", str(TOPOLOGY), "--node", NODE, "--socket-dir", "none"], "--socket-dir: expected an existing"),
        (["--topology", str(TOPOLOGY), "--node", NODE, "--socket-dir", ".", "--vf"], "does not go with --vf"),
        (["--topology", str(TOPOLOGY), "--node", NODE, "--socket-dir", ".", "a"], "does not go with SOCKET"),
    ],
)
def test_bad_options(start: Start, folder: Path, arguments: list[str], reason: str) -> None:
    assert reason in fails(start, 2, *arguments)
    assert list(folder.iterdir()) == []


def test_help() -> None:
    argv = [sys.executable, "-m", "mock_accel_server", "--help"]
    done = subprocess.run(argv, env=ENVIRONMENT, timeout=TIMEOUT, capture_output=True, text=True, check=True)
    for word in ("SOCKET", "--uuid", "--topology", "ready", "Exit code"):
        assert word in done.stdout
