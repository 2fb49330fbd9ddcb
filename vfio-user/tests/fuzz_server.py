"""Fuzz a server with 36 devices: random messages and attacks on most of them, while the others must answer.

    python vfio-user/tests/fuzz_server.py [--messages N] [--seed N]

Step n of a run depends only on the seed and n. Exit code 1 if the server died, a device was
lost, a message was not answered, file descriptors stayed open, or other devices had to wait.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT / "vfio-user"), str(PROJECT / "libraries")]  # run as a script

import attacks  # noqa: E402 (needs the paths above)
import yaml  # noqa: E402
from fuzz_control import random_line  # noqa: E402
from fuzz_jobs import JobFuzzer  # noqa: E402
from fuzz_messages import Message, random_message, random_version  # noqa: E402
from fuzz_peers import BUSY_SECONDS, CLOSED, RETRY_SECONDS, Files, FuzzError, Peer, Witness, check_reply  # noqa: E402
from mock_accel_server import control, control_client, protocol  # noqa: E402
from mock_accel_server.faults import Fault  # noqa: E402
from mock_accel_server.protocol import Command, RegionIndex  # noqa: E402
from server_process import ServerProcess  # noqa: E402
from vfio_user_client import Client  # noqa: E402

DEVICES = 36
_FUNCTIONS = 3
_NAME = "fuzz"
_LINGER_SECONDS = 3
_MOST_STEPS = 20  # per message: a step sends none if its device is busy
_RINGS = 2
_LINES = 5
_LOG_BYTES_A_SECOND = 10_000


@dataclass
class Report:
    """Result of a run."""

    messages: int = 0
    answered: int = 0
    refused: int = 0
    attacks: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    """Slowest answer of a device that was not attacked, in seconds."""
    witnessed: int = 0
    log_bytes: int = 0

    def __str__(self) -> str:
        return (
            f"{self.messages} messages in {self.seconds:.0f} s, {self.answered} answered, "
            f"{self.refused} of these refused; {self.attacks} attacks; other devices answered {self.witnessed} times, "
            f"in {1000 * self.slowest:.0f} ms at most; log {self.log_bytes} bytes"
        )


def write_topology(folder: Path) -> Path:
    """Write a topology with one node of ``DEVICES`` devices; returns its path."""
    slots = []
    for slot in range(DEVICES // _FUNCTIONS):
        functions: list[dict[str, object]] = [{"uuid": f"FUZZ-{slot}-PF", "memory": "16G"}]
        functions += [{"uuid": f"FUZZ-{slot}-VF{vf}", "memory": "2G", "vf": True} for vf in range(_FUNCTIONS - 1)]
        slots.append({"functions": functions})
    numa = {"node": 0, "memory": "1G", "cpus": 1, "bus": 0x10, "slots": slots}
    document = {"name": _NAME, "nodes": [{"name": _NAME, "address": "192.168.122.211", "numa": [numa]}]}
    path = folder / "fuzz.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


class Run:
    """One run; ``step`` is the number of the current step."""

    def __init__(self, seed: int, messages: int) -> None:
        self._seed = seed
        self._messages = messages
        self._stack = ExitStack()
        self.step = 0
        self.report = Report()
        self._attacks: dict[int, Callable[[Peer, Client], None]] = {
            7: self._full_eventfd,
            11: self._own_socket,
            507: self._full_eventfd,
            511: self._own_socket,
            203: self._jobs,
            703: self._jobs,
            303: self._control,
            803: self._control,
            600: self._replies_not_read,
            1100: self._half_message,
            2600: self._lingering_socket,
        }
        """By step, modulo 10,000, or 1,000 for those below 1,000. Some occupy their device for some seconds."""

    def run(self, folder: Path) -> Report:
        """Start a server in ``folder``, send the messages, and check the server's state. Raises FuzzError."""
        start = time.monotonic()
        with self._stack:
            server = ServerProcess(folder, write_topology(folder), _NAME)
            self._stack.callback(server.close)
            before = server.open_fds()
            paths = sorted(path for path in folder.glob("*.sock") if path.name != control.NAME)
            if len(paths) != DEVICES:
                raise FuzzError(f"expected {DEVICES} sockets, found {len(paths)}")
            self._files = Files()
            self._stack.callback(self._files.close)
            witness = Witness(paths[0], paths[1], server.starved_seconds)
            witness.start()
            self._stack.callback(witness.end)
            peers = [Peer(path) for path in paths[2:]]
            for peer in peers:
                self._stack.callback(peer.close)
            self._send_messages(peers, witness)
            self._wait_for_all(peers)
            for peer in peers:
                peer.close()
            witness.end()
            if witness.failure:
                raise FuzzError(witness.failure)
            _wait(lambda: server.open_fds() <= before, f"more than {before} file descriptors stay open")
            self.report.slowest, self.report.witnessed = witness.slowest, witness.answers
        self.report.seconds = time.monotonic() - start
        self.report.log_bytes = len(log := server.log.read_text())
        if "Traceback" in log or self.report.log_bytes > _LOG_BYTES_A_SECOND * (self.report.seconds + 10):
            raise FuzzError(f"a log of {len(log)} bytes: {log[-2000:]}")
        return self.report

    def _send_messages(self, peers: list[Peer], witness: Witness) -> None:
        while self.report.messages < self._messages:
            if witness.failure:
                raise FuzzError(witness.failure)
            if self.step > self._messages * _MOST_STEPS:
                raise FuzzError("most devices accept no clients")
            self.step += 1
            source = random.Random(f"{self._seed}/{self.step}")
            attack = self._attacks.get(self.step % 10_000) or self._attacks.get(self.step % 1000)
            first = source.randrange(len(peers))
            for peer in [*peers[first:], *peers[:first]] if attack else [peers[first]]:
                if client := peer.connected():
                    if attack:
                        attack(peer, client)
                        self.report.attacks += 1
                        self.report.messages += 1
                    else:
                        self._talk(source, peer, client)
                    break

    def _talk(self, source: random.Random, peer: Peer, client: Client) -> None:
        kind = source.random()
        if kind < 0.02:
            peer.close()
            self._version(source, peer)
        elif kind < 0.06:
            self._burst(source, peer, client)
        else:
            message = random_message(source)
            self._send(source, client, message)
            if message.answered:
                self._check(client, message)
            if not message.whole or kind > 0.99:
                peer.close()

    def _send(self, source: random.Random, client: Client, message: Message) -> None:
        self.report.messages += 1
        try:
            client.send_raw(message.data, self._files.pick(source, message.fds, client.socket.fileno()))
        except CLOSED as error:
            if message.whole:
                raise FuzzError(f"the server ended the connection before {message.command} was sent") from error

    def _check(self, client: Client, message: Message) -> None:
        self.report.answered += 1
        if check_reply(client, message.message_id, message.command):
            self.report.refused += 1

    def _burst(self, source: random.Random, peer: Peer, client: Client) -> None:
        """Send several messages, and read the replies afterwards or never."""
        messages = [message for message in (random_message(source) for _ in range(10)) if message.whole]
        for message in messages:
            self._send(source, client, message)
        if source.random() < 0.5:
            peer.close()
            return
        for message in messages:
            if message.answered:
                self._check(client, message)

    def _version(self, source: random.Random, peer: Peer) -> None:
        """Send a random first message on a separate connection, which may be answered or ended."""
        self.report.messages += 1
        with Client(peer.path, negotiate=False) as client:
            command = Command.VERSION if source.random() < 0.9 else source.randrange(20)
            with suppress(*CLOSED):  # also while the server still serves the last connection
                client.send(command, random_version(source), self._files.pick(source, source.choice([0, 0, 1]), 0))
                client.receive()
                self.report.answered += 1

    def _full_eventfd(self, peer: Peer, client: Client) -> None:
        event = attacks.trigger_full_eventfd(client)
        try:
            self._expect(client.receive().error, 0)
        finally:
            os.close(event)

    def _own_socket(self, peer: Peer, client: Client) -> None:
        client.call(Command.DMA_UNMAP, protocol.DMA_UNMAP.pack(24, protocol.DMA_UNMAP_ALL, 0, 0))
        client.send(Command.DMA_MAP, attacks.ONE_PAGE, [client.socket.fileno()])
        self._expect(client.receive().error, errno.EINVAL)
        peer.close()

    def _jobs(self, peer: Peer, client: Client) -> None:
        """Random rings; now and then the client leaves while jobs run."""
        source = random.Random(f"{self._seed}/{self.step}/jobs")
        jobs = JobFuzzer(client, source)
        try:
            for _ in range(_RINGS):
                jobs.step()
        finally:
            jobs.close()
        peer.close()

    def _control(self, peer: Peer, client: Client) -> None:
        """Random faults on the device, which then must be as before."""
        source = random.Random(f"{self._seed}/{self.step}/control")
        path, name = peer.path.parent / control.NAME, peer.path.stem
        with socket.socket(socket.AF_UNIX) as requests:
            requests.settimeout(BUSY_SECONDS)
            requests.connect(str(path))
            with suppress(*CLOSED):
                for _ in range(_LINES):
                    requests.sendall(random_line(source, name))
        peer.close()
        control_client.inject(path, name, Fault.CLEAR)
        _wait(peer.path.exists, f"{peer.path.name}: does not return")

    def _half_message(self, peer: Peer, client: Client) -> None:
        client.send_raw(attacks.half_message(), [client.socket.fileno()])
        peer.close()

    def _lingering_socket(self, peer: Peer, client: Client) -> None:
        lingering = self._stack.enter_context(attacks.lingering_socket(_LINGER_SECONDS))
        client.send(Command.DMA_MAP, attacks.ONE_PAGE, [lingering.fileno()])
        lingering.close()
        peer.close()

    def _replies_not_read(self, peer: Peer, client: Client) -> None:
        client.socket.setblocking(False)
        access = protocol.REGION_ACCESS.pack(0, RegionIndex.CONFIG, 4096)
        message = protocol.HEADER.pack(1, Command.REGION_READ, protocol.HEADER.size + len(access), 0, 0) + access
        with suppress(BlockingIOError):
            while True:
                socket.send_fds(client.socket, [message], [client.socket.fileno()])
        peer.close()

    def _expect(self, found: int, expected: int) -> None:
        if found != expected:
            raise FuzzError(f"expected error {expected}, found {found}")

    def _wait_for_all(self, peers: list[Peer]) -> None:
        """Wait until every device serves a client again with the right content. Raises FuzzError."""
        for peer in peers:
            peer.close()
            _wait(lambda peer=peer: peer.connected() is not None, f"{peer.path.name}: busy")  # type: ignore[misc]
            client = peer.connected()
            if client is None or client.read(0, 4) != b"KCOM":
                raise FuzzError(f"{peer.path.name}: has changed")


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise FuzzError(f"after {BUSY_SECONDS:.0f} s: {what}")
        time.sleep(RETRY_SECONDS / 10)


def main() -> int:
    """Run once and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000, help="how many to send (default: 1000000)")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbits(32), help="seed of a run to repeat (default: random)"
    )
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    run = Run(options.seed, options.messages)
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        try:
            print(run.run(Path(folder)))
        except (AssertionError, OSError, EOFError) as error:
            print(f"failed at step {run.step}, {run.report.messages} messages: {error}", file=sys.stderr)
            print(f"to repeat this run: make fuzz ARGS='--seed {options.seed}'", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
