"""Broken, hostile, slow and surplus clients. The fixture ``running`` fails a test whose server died."""

from __future__ import annotations

import array
import errno
import os
import random
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mock_accel_server import protocol
from mock_accel_server.connection import TimeLimits
from mock_accel_server.device import Device
from mock_accel_server.protocol import Command, RegionIndex
from running_server import PF, Connect, RunningServer, wait_until
from vfio_user_client import Client, version

DEADLINE_SECONDS = 10.0
ROUNDS = 300


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def no_leak(running: RunningServer) -> Iterator[None]:
    """Fails if the server (which runs in this process) keeps a file descriptor after its clients are gone."""
    before = open_fds()
    yield
    wait_until(lambda: open_fds() <= before)


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("ram")
    os.ftruncate(fd, 0x1000)
    yield fd
    os.close(fd)


def serves(folder: Path) -> bool:
    """Whether a new client is served, after the server noticed that the last one is gone."""
    with Client(folder / "pf.sock") as client:
        return client.read(0, 4) == b"KCOM"


def header(size: int, command: int = Command.DEVICE_RESET, flags: int = 0) -> bytes:
    return protocol.HEADER.pack(1, command, size, flags, 0)


@pytest.mark.parametrize("size", [0, 1, 15, protocol.MAX_MESSAGE_SIZE + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_invalid_size_gets_an_error_and_ends_the_connection(connect: Connect, folder: Path, size: int) -> None:
    client = connect()
    client.send_raw(header(size))
    reply = client.receive()
    assert (reply.flags, reply.error) == (protocol.TYPE_REPLY | protocol.ERROR, errno.EINVAL)
    assert client.at_end()
    assert serves(folder)


@pytest.mark.parametrize("flags", [1, 2, 15, 1 | protocol.ERROR])
def test_message_other_than_a_command_ends_the_connection(connect: Connect, folder: Path, flags: int) -> None:
    client = connect()
    client.send_raw(header(16, flags=flags))
    assert client.at_end()
    assert serves(folder)


@pytest.mark.parametrize("negotiate", [True, False])
@pytest.mark.parametrize("sent", [1, 15, 16, 20])
def test_truncated_message_frees_the_device(connect: Connect, folder: Path, sent: int, negotiate: bool) -> None:
    client = connect(negotiate=negotiate)
    client.send_raw((header(48, Command.DMA_MAP) + bytes(32))[:sent])
    client.socket.close()
    assert serves(folder)


def test_message_in_single_bytes(connect: Connect) -> None:
    client = connect()
    for byte in header(32, Command.REGION_READ) + protocol.REGION_ACCESS.pack(0, 0, 4):
        client.send_raw(bytes([byte]))
    assert client.receive().payload[16:] == b"KCOM"


def test_largest_message_is_read(connect: Connect) -> None:
    """A write of 1 MiB is parsed, and refused because it does not fit the region."""
    client = connect()
    payload = protocol.REGION_ACCESS.pack(0, 0, protocol.MAX_DATA_XFER_SIZE) + bytes(protocol.MAX_DATA_XFER_SIZE)
    client.send(Command.REGION_WRITE, payload)
    assert client.receive().error == errno.EINVAL
    assert client.status == 0


def test_slow_message_does_not_delay_others(connect: Connect) -> None:
    slow = connect()
    slow.send_raw(header(1000))
    assert connect("vf.sock").read(0, 4) == b"KCOM"


def test_client_that_does_not_read_does_not_delay_others(connect: Connect) -> None:
    rude = connect()
    rude.socket.setblocking(False)
    message = header(32, Command.REGION_READ) + protocol.REGION_ACCESS.pack(0, RegionIndex.CONFIG, 4096)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += rude.socket.send(message)
    assert connect("vf.sock").read(0, 4) == b"KCOM"
    rude.socket.settimeout(DEADLINE_SECONDS)
    for _ in range(sent // len(message)):
        assert len(rude.receive().payload) == 16 + 4096


def test_second_client_is_refused_while_the_first_is_served(connect: Connect, folder: Path) -> None:
    first = connect()
    first.set_status(1)
    for _ in range(20):
        with Client(folder / "pf.sock", negotiate=False) as second:
            assert second.at_end()
        assert first.status == 1
    assert connect("vf.sock").status == 0


def test_second_client_is_refused_before_the_first_has_negotiated(connect: Connect, folder: Path) -> None:
    first = connect(negotiate=False)
    with Client(folder / "pf.sock", negotiate=False) as second:
        assert second.at_end()
    first.call(Command.VERSION, version())
    assert first.read(0, 4) == b"KCOM"


def test_reconnect_keeps_status_and_forgets_the_rest(
    connect: Connect, folder: Path, memory: int, no_leak: None
) -> None:
    mapping = protocol.DMA_MAP.pack(32, 3, 0, 0, 0x1000)
    for _ in range(100):
        with Client(folder / "pf.sock") as client:
            client.call(Command.DMA_MAP, mapping, [memory])
            client.set_status(1)
    with Client(folder / "pf.sock") as client:
        assert client.status == 1
        client.call(Command.DMA_MAP, mapping, [memory])


def test_silent_client_is_disconnected(folder: Path) -> None:
    server = RunningServer([(folder / "short.sock", Device(PF))], TimeLimits(handshake=0.05))
    try:
        with Client(folder / "short.sock", negotiate=False) as silent:
            assert silent.at_end()
        with Client(folder / "short.sock") as client:
            time.sleep(0.1)  # longer than the handshake limit, which no longer applies
            assert client.read(0, 4) == b"KCOM"
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        (Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0, 0, 0x1000)),
        (Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0, 1, 0x1000)),
        (Command.DMA_MAP, b""),
        (Command.DEVICE_SET_IRQS, protocol.IRQ_SET.pack(20, 0x24, 3, 0, 1)),
        (Command.DEVICE_GET_INFO, protocol.DEVICE_INFO.pack(16, 0, 0, 0)),
        (Command.DMA_READ, b""),
        (Command.VERSION, version()),
        (77, b""),
    ],
)
@pytest.mark.parametrize("number", [1, 2, 16])
def test_no_file_descriptor_leaks(
    connect: Connect, folder: Path, memory: int, no_leak: None, command: int, payload: bytes, number: int
) -> None:
    for _ in range(3):
        with Client(folder / "pf.sock") as client:
            client.send(command, payload, [memory] * number)
            client.receive()
            client.send(command, payload, [memory] * number)  # without waiting for the reply


def test_mapped_file_is_kept_until_the_unmap(connect: Connect, memory: int) -> None:
    client = connect()
    before = open_fds()
    for address in (0, 0x1000):
        client.call(Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0, address, 0x1000), [memory])
        assert open_fds() == before + 1, "one for all ranges of a file"
    for address, kept in ((0, 1), (0x1000, 0)):
        client.call(Command.DMA_UNMAP, protocol.DMA_UNMAP.pack(24, 0, address, 0x1000))
        assert open_fds() == before + kept, "it is closed before the reply"


def test_file_descriptors_before_the_version(folder: Path, running: RunningServer, memory: int, no_leak: None) -> None:
    with Client(folder / "pf.sock", negotiate=False) as client:
        client.send(Command.DMA_MAP, bytes(32), [memory])
        assert client.receive().error == errno.EINVAL
        assert client.at_end()


@pytest.mark.parametrize("number", [17, 18, 100, 253])
def test_too_many_file_descriptors_end_the_connection(
    connect: Connect, folder: Path, memory: int, no_leak: None, number: int
) -> None:
    with Client(folder / "pf.sock") as client:
        client.send(Command.DMA_MAP, bytes(32), [memory] * number)
        assert client.at_end()
    assert serves(folder)


def test_file_descriptors_in_parts_of_a_message_are_counted(
    folder: Path, running: RunningServer, memory: int, no_leak: None
) -> None:
    with Client(folder / "pf.sock") as client:
        client.send_raw(header(100), [memory] * 16)
        for _ in range(4):
            try:
                client.send_raw(b"x", [memory] * 16)
            except (BrokenPipeError, ConnectionResetError):
                break
        assert client.at_end()
    assert serves(folder)


def test_client_is_turned_away_without_free_file_descriptors(connect: Connect, folder: Path) -> None:
    """The server keeps running without a busy loop, and serves again when descriptors are free."""
    first = connect()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    second = socket.socket(socket.AF_UNIX)
    second.settimeout(DEADLINE_SECONDS)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    fillers = []
    try:
        with pytest.raises(OSError):
            while True:
                fillers.append(os.dup(0))
        second.connect(str(folder / "vf.sock"))
        assert second.recv(1) == b""
        assert first.read(0, 4) == b"KCOM"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)
        second.close()
    assert connect("vf.sock").read(0, 4) == b"KCOM"


def random_message(source: random.Random, memory: int) -> tuple[bytes, list[int]]:
    """Anything from noise to a nearly valid message."""
    payload = source.randbytes(source.choice([0, 4, 8, 15, 16, 20, 24, 32, 33, 56, 200]))
    if source.random() < 0.5:
        payload = bytes(byte if source.random() < 0.2 else 0 for byte in payload)
    size = 16 + len(payload) if source.random() < 0.9 else source.choice([0, 15, 17, 64, 1 << 20, 1 << 31])
    flags = source.choice([0, 0, 0, 0, 0, protocol.NO_REPLY, source.getrandbits(32)])
    message = protocol.HEADER.pack(source.getrandbits(16), source.choice([*range(20), 65535]), size, flags, 0) + payload
    if source.random() < 0.05:
        message = source.randbytes(source.randrange(1, 100))
    return message, [memory] * source.choice([0, 0, 0, 1, 2, 16, 40])


@pytest.mark.parametrize("seed", range(4))
def test_random_messages(folder: Path, running: RunningServer, memory: int, no_leak: None, seed: int) -> None:
    """Bounded fuzzing; each seed always gives the same messages."""
    source = random.Random(seed)
    for _ in range(ROUNDS):
        with Client(folder / "pf.sock", negotiate=False) as client:
            if source.random() < 0.9:
                client.call(Command.VERSION, version())
            try:
                for _ in range(source.randrange(1, 12)):
                    message, fds = random_message(source, memory)
                    client.send_raw(message, fds)
                if source.random() < 0.5:
                    client.socket.shutdown(socket.SHUT_WR)
                    while client.socket.recv(65536):
                        pass
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server ended the connection, as it may
    assert serves(folder)


def test_ancillary_data_of_another_kind_is_ignored(connect: Connect) -> None:
    client = connect()
    credentials = array.array("i", [os.getpid(), os.getuid(), os.getgid()])
    message = header(32, Command.REGION_READ) + protocol.REGION_ACCESS.pack(0, 0, 4)
    client.socket.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
    assert client.receive().payload[16:] == b"KCOM"
