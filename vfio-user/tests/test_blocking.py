"""A client's files never block the server, and a device is released when its client dies."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from attacks import ONE_PAGE, TRIGGER_BY_EVENTFD, half_message, lingering_socket, trigger_full_eventfd
from mock_accel_server import protocol
from mock_accel_server.connection import TimeLimits
from mock_accel_server.device import Device
from mock_accel_server.protocol import Command, RegionIndex
from running_server import PF, RunningServer, wait_until
from server_process import ServerProcess
from vfio_user_client import Client

ANSWER_SECONDS = 1.0
LINGER_SECONDS = 5


@pytest.fixture
def server(folder: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(folder)
    yield server
    server.close()


@pytest.fixture
def attacker(folder: Path, server: ServerProcess) -> Iterator[Client]:
    with Client(folder / "mock0.sock") as client:
        yield client


@pytest.fixture
def other_device_answers(folder: Path, server: ServerProcess) -> Iterator[Callable[[], None]]:
    """Function that asserts that an existing and a new client of other devices are answered within a second."""
    with Client(folder / "mock1.sock") as client:
        client.socket.settimeout(ANSWER_SECONDS)

        def answers() -> None:
            assert client.read(0, 4) == b"KCOM"
            with Client(folder / "mock2.sock") as another:
                assert another.read(0, 4) == b"KCOM"

        yield answers


def test_trigger_of_a_full_blocking_eventfd(attacker: Client, other_device_answers: Callable[[], None]) -> None:
    event = trigger_full_eventfd(attacker)
    try:
        other_device_answers()
        assert attacker.receive().error == 0
        assert attacker.read(0, 4) == b"KCOM"
    finally:
        os.close(event)


def test_flags_of_a_clients_eventfd_are_not_changed(attacker: Client) -> None:
    event = os.eventfd(0)
    try:
        attacker.call(Command.DEVICE_SET_IRQS, TRIGGER_BY_EVENTFD, [event])
        assert os.get_blocking(event)
    finally:
        os.close(event)


@pytest.mark.parametrize("command", [Command.DMA_MAP, Command.DEVICE_SET_IRQS, Command.DEVICE_RESET])
def test_closing_a_lingering_socket(
    attacker: Client, server: ServerProcess, other_device_answers: Callable[[], None], command: Command
) -> None:
    """For any message: the server holds the last file descriptor, and its close waits for the peer to read."""
    before = server.open_fds()
    with lingering_socket(LINGER_SECONDS) as lingering:
        with server.stopped():
            attacker.send(command, {Command.DMA_MAP: ONE_PAGE}.get(command, b""), [lingering.fileno()])
            lingering.close()
        other_device_answers()
        assert attacker.receive().error == errno.EINVAL
    wait_until(lambda: server.open_fds() <= before)


def test_lingering_socket_among_descriptors_that_were_not_received(
    attacker: Client, folder: Path, server: ServerProcess, other_device_answers: Callable[[], None]
) -> None:
    """It is closed together with its connection, or because it does not fit into the ancillary buffer."""
    with lingering_socket(LINGER_SECONDS) as lingering:
        many = [lingering.fileno()] * protocol.SCM_MAX_FDS
        with Client(folder / "mock3.sock") as truncated:
            with server.stopped():
                attacker.send_raw(bytes(protocol.HEADER.size))  # ends the connection
                attacker.send_raw(b"x", many)
                truncated.send_raw(half_message(), many)
                lingering.close()
            other_device_answers()


def test_device_serves_its_next_client_while_a_close_is_blocked(folder: Path, server: ServerProcess) -> None:
    with lingering_socket(LINGER_SECONDS) as lingering:
        with Client(folder / "mock0.sock") as attacker:
            with server.stopped():
                attacker.send(Command.DMA_MAP, ONE_PAGE, [lingering.fileno()])
                lingering.close()
            attacker.receive()
        assert serves(folder / "mock0.sock")


def test_device_survives_many_blocked_closes(folder: Path, server: ServerProcess) -> None:
    """More clients block a close than a device may have running close jobs."""
    path = folder / "mock0.sock"
    with ExitStack() as stack:
        for _ in range(8):
            lingering = stack.enter_context(lingering_socket(1000))
            wait_until(lambda: serves(path))
            with Client(path) as attacker:
                attacker.send_raw(half_message(), [lingering.fileno()] * 16)
                lingering.close()
                attacker.send_raw(ONE_PAGE[-1:])
        wait_until(lambda: serves(path))


def serves(path: Path) -> bool:
    """Whether a new client is served instead of refused as a second one."""
    try:
        with Client(path) as client:
            client.socket.settimeout(ANSWER_SECONDS)
            return client.read(0, 4) == b"KCOM"
    except (EOFError, ConnectionError):
        return False


def test_client_that_dies_after_it_mapped_its_own_socket(folder: Path, server: ServerProcess) -> None:
    """The server must not keep the client's end of the connection open."""
    with Client(folder / "mock0.sock") as attacker:
        attacker.send(Command.DMA_MAP, ONE_PAGE, [attacker.socket.fileno()])
        assert attacker.receive().error == errno.EINVAL
    assert serves(folder / "mock0.sock")


def test_large_messages_of_many_clients(folder: Path, server: ServerProcess) -> None:
    """One of the largest takes a tenth of a second: a device must not wait for those of all other devices."""
    write = protocol.SINGLE_WRITE.pack(0x40, RegionIndex.CONFIG, 8, bytes(8))
    number = 4000  # fits into a socket's buffer
    payload = protocol.WRITE_COUNT.pack(number) + write * number
    names = sorted(path.name for path in folder.glob("mock*.sock"))
    with ExitStack() as stack:
        witness, *busy = [stack.enter_context(Client(folder / name)) for name in names]
        assert len(busy) == 9
        start = server.processor_seconds()
        busy[0].call(Command.REGION_WRITE_MULTI, payload)
        one = server.processor_seconds() - start
        with server.stopped():
            for client in busy:
                client.send(Command.REGION_WRITE_MULTI, payload)
            witness.send(Command.REGION_READ, protocol.REGION_ACCESS.pack(0, 0, 4))
            start = server.processor_seconds()
        assert witness.receive().payload[16:] == b"KCOM"
        assert server.processor_seconds() - start < 5 * one, "the witness waited for most of them"
        for client in busy:
            assert client.receive().payload == protocol.WRITE_COUNT.pack(number)


@pytest.fixture
def impatient(folder: Path) -> Iterator[Path]:
    """The socket of a server that waits half a second for the rest of a message."""
    path = folder / "impatient.sock"
    server = RunningServer([(path, Device(PF))], TimeLimits(message=0.5))
    yield path
    server.stop()


@pytest.mark.parametrize("missing", [1, 32, 40])
def test_half_a_message_with_the_clients_own_socket(impatient: Path, missing: int) -> None:
    with Client(impatient) as attacker:
        attacker.send_raw(half_message(missing=missing), [attacker.socket.fileno()])
    wait_until(lambda: serves(impatient))


def test_own_socket_behind_replies_that_are_not_read(impatient: Path) -> None:
    """The socket stays in the queue of the connection that it keeps open."""
    with Client(impatient) as attacker:
        attacker.socket.setblocking(False)
        access = protocol.REGION_ACCESS.pack(0, RegionIndex.CONFIG, 4096)
        message = protocol.HEADER.pack(1, Command.REGION_READ, protocol.HEADER.size + len(access), 0, 0) + access
        with pytest.raises(BlockingIOError):
            while True:
                socket.send_fds(attacker.socket, [message], [attacker.socket.fileno()])
    wait_until(lambda: serves(impatient))


def test_time_limit_applies_to_messages_and_not_to_silence(impatient: Path) -> None:
    with Client(impatient) as client, Client(impatient.with_name("impatient.sock"), negotiate=False) as second:
        client.send_raw(half_message())
        client.send_raw(ONE_PAGE[-1:])
        assert client.receive().error == 0
        assert second.at_end()
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:  # longer than the time limit, busy and idle
            assert client.read(0, 4) == b"KCOM"
            time.sleep(0.3)
