"""The stream of messages: several in one receive, descriptors between them, and clients that follow each other."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import ONE_PAGE, TRIGGER_BY_EVENTFD, TRIGGER_NOW
from mock_accel_server import protocol
from mock_accel_server.connection import TimeLimits
from mock_accel_server.device import Device
from mock_accel_server.protocol import Command, RegionIndex
from mock_accel_server.server import Server
from running_server import PF, VF, Connect, RunningServer
from server_process import ServerProcess
from vfio_user_client import Client

READ = protocol.REGION_ACCESS.pack(0, RegionIndex.BAR0, 4)
DEADLINE_SECONDS = 10.0


class StuckDevice(Device):
    """Its reads do not return until ``released`` is set."""

    def __init__(self) -> None:
        super().__init__(VF)
        self.released = threading.Event()
        self.reached = threading.Event()

    def read(self, index: int, offset: int, count: int) -> bytes:
        self.reached.set()
        assert self.released.wait(DEADLINE_SECONDS)
        return super().read(index, offset, count)


@pytest.fixture
def stuck() -> Iterator[StuckDevice]:
    device = StuckDevice()
    yield device
    device.released.set()


@pytest.fixture
def both(folder: Path, stuck: StuckDevice) -> Iterator[RunningServer]:
    """A server of ``stuck`` at ``folder/stuck.sock`` and a device at ``folder/pf.sock``."""
    server = RunningServer(
        [(folder / "stuck.sock", stuck), (folder / "pf.sock", Device(PF))], TimeLimits(handshake=0.5)
    )
    yield server
    stuck.released.set()
    if server.alive:
        server.stop()


def test_descriptors_behind_short_messages(folder: Path) -> None:
    """One receive takes them together: they belong to the message with which they were sent."""
    server = ServerProcess(folder)
    event, memory = os.eventfd(0, os.EFD_NONBLOCK), os.memfd_create("ram")
    os.ftruncate(memory, protocol.PAGE_SIZE)
    try:
        with Client(folder / "mock0.sock") as client:
            with server.stopped():
                client.send(Command.DEVICE_RESET)
                client.send(Command.DMA_MAP, ONE_PAGE, [memory])
                client.send(Command.REGION_READ, READ)
                client.send(Command.DEVICE_SET_IRQS, TRIGGER_BY_EVENTFD, [event])
                client.send(Command.DEVICE_SET_IRQS, TRIGGER_NOW)
                client.send(Command.DEVICE_RESET)
                client.send(Command.DEVICE_RESET)
                client.send(Command.REGION_READ, READ)
            assert [client.receive().error for _ in range(8)] == [0] * 8
        assert os.eventfd_read(event) == 1
    finally:
        os.close(event)
        os.close(memory)
        server.close()


def test_released_files_and_the_descriptors_of_the_next_message(folder: Path) -> None:
    """An unmap releases a file, while the next message with its own file has begun to arrive."""
    server = ServerProcess(folder)
    memory = os.memfd_create("ram")
    os.ftruncate(memory, protocol.PAGE_SIZE)
    unmap = protocol.DMA_UNMAP.pack(protocol.DMA_UNMAP.size, 0, 0, protocol.PAGE_SIZE)
    try:
        with Client(folder / "mock0.sock") as client:
            client.call(Command.DMA_MAP, ONE_PAGE, [memory])
            before = server.open_fds()
            for _ in range(3):
                with server.stopped():
                    client.send(Command.DMA_UNMAP, unmap)
                    client.send(Command.DMA_MAP, ONE_PAGE, [memory])
                assert [client.receive().error for _ in range(2)] == [0, 0]
                assert server.open_fds() == before
    finally:
        os.close(memory)
        server.close()


def test_many_messages_in_one_piece(connect: Connect) -> None:
    """Of every size, so that receives end anywhere within a message."""
    client = connect()
    payloads = [(Command.DEVICE_RESET, b"")] * 3 + [(Command.REGION_READ, READ)] * 5
    payloads += [(Command.REGION_WRITE, protocol.REGION_ACCESS.pack(0x30, 0, size) + bytes(size)) for size in range(9)]
    pieces = b""
    commands: list[int] = []
    for _ in range(20):
        for command, payload in payloads:
            size = protocol.HEADER.size + len(payload)
            pieces += protocol.HEADER.pack(len(commands), command, size, 0, 0) + payload
            commands.append(command)
    client.send_raw(pieces)
    replies = [client.receive() for _ in commands]
    assert [(reply.message_id, reply.command, reply.error) for reply in replies] == [
        (number, command, 0) for number, command in enumerate(commands)
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 4, 8, 9, 4096])
def test_reads_of_any_size(connect: Connect, count: int) -> None:
    client = connect()
    whole = client.read(0, 4096)
    for _ in range(2):
        assert client.read(0, count) == whole[:count]


def test_refused_read_among_others(connect: Connect) -> None:
    client = connect()
    fields = [(0, RegionIndex.BAR0), (4094, RegionIndex.BAR0), (0, 5), (4, RegionIndex.BAR0)]
    for offset, region in fields:
        client.send(Command.REGION_READ, protocol.REGION_ACCESS.pack(offset, region, 4))
    assert [bool(client.receive().error) for _ in fields] == [False, True, True, False]


def test_device_that_is_stuck_delays_no_other(folder: Path, stuck: StuckDevice, both: RunningServer) -> None:
    with Client(folder / "stuck.sock") as client, Client(folder / "pf.sock") as other:
        client.send(Command.REGION_READ, READ)
        assert stuck.reached.wait(DEADLINE_SECONDS)
        for _ in range(100):
            assert other.read(0, 4) == b"KCOM"
        stuck.released.set()
        assert client.receive().payload[16:] == b"KCOM"


def test_next_client_waits_for_the_messages_of_the_last_one(
    folder: Path, stuck: StuckDevice, both: RunningServer
) -> None:
    with Client(folder / "stuck.sock") as first:
        first.send(Command.REGION_READ, READ)
        first.send(Command.REGION_WRITE, protocol.REGION_ACCESS.pack(0x2C, 0, 4) + b"\1\0\0\0", flags=protocol.NO_REPLY)
        assert stuck.reached.wait(DEADLINE_SECONDS)
    second = Client(folder / "stuck.sock", negotiate=False)
    with second, Client(folder / "stuck.sock", negotiate=False):  # a third one stays in the backlog
        threading.Timer(0.1, stuck.released.set).start()
        second.negotiate()
        assert second.read(0, 4) == b"KCOM"


def test_next_client_is_refused_if_the_messages_of_the_last_one_take_too_long(
    folder: Path, stuck: StuckDevice, both: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(folder / "stuck.sock") as first:
        first.send(Command.REGION_READ, READ)
        assert stuck.reached.wait(DEADLINE_SECONDS)
    with Client(folder / "stuck.sock", negotiate=False) as second:
        assert second.at_end()
    assert "a client refused: the last one's messages are not finished" in caplog.text
    stuck.released.set()
    with Client(folder / "stuck.sock") as third:
        assert third.read(0, 4) == b"KCOM"


def test_server_ends_while_a_device_is_stuck(folder: Path, stuck: StuckDevice, both: RunningServer) -> None:
    with Client(folder / "stuck.sock") as client, Client(folder / "pf.sock") as other:
        client.send(Command.REGION_READ, READ)
        assert stuck.reached.wait(DEADLINE_SECONDS)
        start = time.monotonic()
        both.stop()
        assert time.monotonic() - start < 5.0
        assert other.at_end()
    assert not list(folder.glob("*.sock"))


def test_client_is_turned_away_if_no_thread_can_start(
    connect: Connect, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = connect()

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with Client(folder / "vf.sock", negotiate=False) as second:
            assert second.at_end()
    assert "a client was turned away: can't start new thread" in caplog.text
    assert first.read(0, 4) == b"KCOM"
    assert connect("vf.sock").read(0, 4) == b"KCOM"


def test_dead_device_has_no_socket_until_it_is_revived(connect: Connect, folder: Path, running: RunningServer) -> None:
    first, other = connect(), connect("vf.sock")
    first.set_status(1)
    for _ in range(2):
        running.server.die(PF.name)
        assert first.at_end()
        with pytest.raises(FileNotFoundError):
            Client(folder / "pf.sock")
        assert other.read(0, 4) == b"KCOM"
    for _ in range(2):
        running.server.revive(PF.name)
        assert connect("pf.sock").status == 1
        running.server.revive(PF.name)
        running.server.die(PF.name)
        running.server.revive(PF.name)


def test_only_known_devices_die(running: RunningServer) -> None:
    with pytest.raises(KeyError, match="mock9"):
        running.server.die("mock9")


def test_death_needs_a_running_loop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mock_accel_server.server._LOOP_SECONDS", 0.05)
    server = Server([(folder / "pf.sock", Device(PF))])
    try:
        with pytest.raises(TimeoutError, match="it does not run"):
            server.die(PF.name)
    finally:
        server.close()


def test_replies_to_reads_that_are_not_read_in_time(folder: Path) -> None:
    """The server waits for space in the client's socket, with a time limit."""
    server = RunningServer([(folder / "pf.sock", Device(PF))], TimeLimits(message=0.2))
    message = protocol.HEADER.pack(1, Command.REGION_READ, protocol.HEADER.size + len(READ), 0, 0) + READ
    try:
        with Client(folder / "pf.sock") as client, pytest.raises(BrokenPipeError):
            while True:
                client.send_raw(message)
        with Client(folder / "pf.sock") as client:
            assert client.read(0, 4) == b"KCOM"
    finally:
        server.stop()


def test_error_in_the_server_ends_one_connection(
    connect: Connect, running: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a defect, so its traceback goes to the log; the device serves its next client."""
    errors: queue.SimpleQueue[threading.ExceptHookArgs] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", errors.put)
    first, other = connect(), connect("vf.sock")
    with monkeypatch.context() as patch:
        patch.setattr(running.devices[0], "write", lambda *_: 1 // 0)
        first.send(Command.REGION_WRITE, protocol.REGION_ACCESS.pack(0x2C, 0, 4) + bytes(4))
        assert first.at_end()
    assert errors.get(timeout=DEADLINE_SECONDS).exc_type is ZeroDivisionError
    assert connect().read(0, 4) == other.read(0, 4) == b"KCOM"
