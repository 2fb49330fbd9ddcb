"""A client that sends requests without end, and reads the replies: python flooder.py SOCKET reads|writes

``reads`` are of one register, ``writes`` are the most expensive message: WRITE_MULTI of as many writes as fit.
Prints a line when its requests fill the socket for the first time.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "vfio-user"))  # run as a script

from mock_accel_server import protocol  # noqa: E402 (needs the path above)
from mock_accel_server.protocol import Command, RegionIndex  # noqa: E402
from vfio_user_client import Client  # noqa: E402

WRITES = (protocol.MAX_DATA_XFER_SIZE - protocol.WRITE_COUNT.size) // protocol.SINGLE_WRITE.size
_WINDOW_SECONDS = 10.0
_CHUNK = 1 << 16


def message(command: int, payload: bytes) -> bytes:
    return protocol.HEADER.pack(1, command, protocol.HEADER.size + len(payload), 0, 0) + payload


REQUESTS = {
    "reads": message(Command.REGION_READ, protocol.REGION_ACCESS.pack(0, RegionIndex.BAR0, 4)) * 2048,
    "writes": message(
        Command.REGION_WRITE_MULTI,
        protocol.WRITE_COUNT.pack(WRITES) + protocol.SINGLE_WRITE.pack(0x40, RegionIndex.CONFIG, 8, bytes(8)) * WRITES,
    ),
}


@contextmanager
def flooding(path: Path, kind: str) -> Iterator[None]:
    """Flood a device from another process."""
    flooder = Popen([sys.executable, __file__, str(path), kind], stdout=PIPE)
    try:
        assert flooder.stdout is not None and flooder.stdout.readline() == b"full\n"
        yield
        assert flooder.poll() is None, "the flood has ended"
    finally:
        flooder.kill()
        flooder.communicate()


def main(path: str, kind: str) -> None:
    """Send and read until the process is killed."""
    requests = REQUESTS[kind]
    with Client(Path(path)) as client:
        connection = client.socket
        connection.setblocking(False)
        ready = select.poll()
        ready.register(connection, select.POLLIN | select.POLLOUT)
        unsent, full = requests, False
        while True:
            for _, events in ready.poll(1000 * _WINDOW_SECONDS):
                if events & select.POLLIN:
                    assert connection.recv(_CHUNK), "the server has ended the connection"
                if events & select.POLLOUT:
                    unsent = unsent[connection.send(unsent) :] or requests
                elif not full:
                    full = True
                    os.write(1, b"full\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
