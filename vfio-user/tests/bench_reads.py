"""Measure register reads per second, with one and with a hundred devices, in alternating windows of one run.

    python vfio-user/tests/bench_reads.py [FOLDER]...

Each FOLDER is the `vfio-user` folder of another checkout, to be compared with this
one. Nothing else should run. Prints the median and the best window, and the server's
processor time per read, which depends less on other load.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE))  # run as a script: for vfio_user_client

from mock_accel_server import protocol  # noqa: E402 (needs the path above)
from mock_accel_server.protocol import Command, RegionIndex  # noqa: E402
from vfio_user_client import Client  # noqa: E402

DEVICES = (1, 100)
WINDOW_SECONDS = 0.5
_SERVE = """
import sys
from pathlib import Path
from mock_accel_server.device import Device
from mock_accel_server.registers import Identity
from mock_accel_server.server import Server
folder, number = Path(sys.argv[1]), int(sys.argv[2])
devices = [(folder / f"{i}.sock", Device(Identity(f"mock{i}", "BENCH", 1 << 30, 1))) for i in range(number)]
server = Server(devices)
print("ready", flush=True)
server.run()
"""


class Target:
    """A running server with a client of each device, of which that of the last one reads."""

    def __init__(self, source: Path, devices: int, stack: ExitStack) -> None:
        self.name = f"{source}\t{devices} devices"
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        argv = [sys.executable, "-c", _SERVE, str(folder), str(devices)]
        env = os.environ | {"PYTHONPATH": str(source.resolve())}
        server = stack.enter_context(subprocess.Popen(argv, env=env, stdout=subprocess.PIPE))
        stack.callback(server.kill)
        assert server.stdout is not None and server.stdout.readline() == b"ready\n"
        self._processor_clock = ~server.pid << 3 | 2  # clock_getcpuclockid(3) of another process
        clients = [stack.enter_context(Client(folder / f"{number}.sock")) for number in range(devices)]
        self._client = clients[-1]
        self.rates: list[float] = []
        """Reads per second in each window."""
        self.costs: list[float] = []
        """Processor time of the server per read in each window, in seconds."""

    def measure(self, seconds: float = WINDOW_SECONDS) -> None:
        """Measure one window: reads of a 32-bit register, one request at a time."""
        fixed = protocol.REGION_ACCESS.pack(0x2C, RegionIndex.BAR0, 4)
        size = protocol.HEADER.size + len(fixed)
        message = protocol.HEADER.pack(1, Command.REGION_READ, size, 0, 0) + fixed
        connection, reply_size, count = self._client.socket, size + 4, 0
        used = time.clock_gettime(self._processor_clock)
        start = time.perf_counter()
        while (took := time.perf_counter() - start) < seconds:
            for _ in range(100):
                connection.sendall(message)
                assert len(connection.recv(reply_size)) == reply_size
            count += 100
        self.rates.append(count / took)
        self.costs.append((time.clock_gettime(self._processor_clock) - used) / count)

    def __str__(self) -> str:
        rate, cost = statistics.median(self.rates), statistics.median(self.costs)
        return (
            f"{self.name}\tmedian {rate:,.0f}/s {1e6 / rate:.1f} us\tbest {max(self.rates):,.0f}/s"
            f"\tprocessor {1e6 * cost:.1f} us, least {1e6 * min(self.costs):.1f}"
        )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="*", type=Path, help="vfio-user of another checkout")
    parser.add_argument("--rounds", type=int, default=20, help="windows per server (default: 20)")
    options = parser.parse_args()
    with ExitStack() as stack:
        targets = [Target(source, number, stack) for source in [HERE, *options.folder] for number in DEVICES]
        for _ in range(options.rounds):
            for target in targets:
                target.measure()
        for target in targets:
            print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
