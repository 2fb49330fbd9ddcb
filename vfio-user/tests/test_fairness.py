"""A client cannot slow the device of another one by more than its share, however many devices there are."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from bench_reads import HERE, Target
from flooder import flooding
from mock_accel_server.server import SWITCH_SECONDS
from server_process import ServerProcess
from vfio_user_client import Client

READS = 60
PAUSE_SECONDS = 0.005
WINDOWS = 30
WINDOW_SECONDS = 0.1


@pytest.fixture
def server(folder: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(folder)
    yield server
    server.close()


def share(server: ServerProcess, witness: Client) -> float:
    """Median time between a request and its reply, in seconds, without that for which threads had no processor.

    Not the processor time of the server: its clock has the time of a thread that runs only up to the last tick of the
    kernel, every 4 ms with ``CONFIG_HZ=250``. On idle cores the rest, used before a request, seems to be used after it.
    """
    waited = []
    for _ in range(READS):
        time.sleep(PAUSE_SECONDS)  # reads in a row would all fall into a pause of the flood
        starved, start = server.starved_seconds(), time.perf_counter()
        assert witness.read(0, 4) == b"KCOM"
        end = time.perf_counter()
        waited.append(max(0.0, end - start - (server.starved_seconds() - starved)))
    return statistics.median(waited)


@pytest.mark.parametrize("kind", ["reads", "writes"])
@pytest.mark.parametrize("flooders", [1, 4])
def test_flood_of_other_devices(folder: Path, server: ServerProcess, kind: str, flooders: int) -> None:
    """Each flooded device gets its turn at Python's global lock, perhaps twice, but not for a whole message."""
    with Client(folder / "mock0.sock") as witness, ExitStack() as stack:
        for number in range(1, 1 + flooders):
            stack.enter_context(flooding(folder / f"mock{number}.sock", kind))
        assert share(server, witness) < 2 * (flooders + 1) * SWITCH_SECONDS


def test_cost_of_a_read_with_a_hundred_connected_devices() -> None:
    """Processor time in short windows that alternate, so that both have the same other load beside them."""
    with ExitStack() as stack:
        one, hundred = (Target(HERE, number, stack) for number in (1, 100))
        for _ in range(WINDOWS):
            one.measure(WINDOW_SECONDS)
            hundred.measure(WINDOW_SECONDS)
        ratios = [many / single for many, single in zip(hundred.costs, one.costs, strict=True)]
        assert statistics.median(ratios) < 1.25
