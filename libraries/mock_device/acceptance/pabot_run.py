"""Runs pabot so that it ends together with its parent, and all its children with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import xmlrpc.client
from collections.abc import Mapping, Sequence
from pathlib import Path

from robot.api import TestSuite

from mock_device.acceptance.suite_tags import runs_alone, runs_long
from mock_device.lab.base import timeouts
from mock_device.lab.base.timeouts import Timeout

# In a file for --ordering: lines after it start when everything before it has ended.
_WAIT = "#WAIT\n"


def order(paths: Sequence[Path], seed: int | None = None) -> str:
    """The suites of ``paths`` as a file for pabot's ``--ordering``: first those with the tag ``long``, then by size.

    pabot's own order is by name: a long suite may start last and then run alone.
    Suites with the tag ``alone`` come last, one after the other. With ``seed`` the others are in random order.
    """
    root = TestSuite.from_file_system(*paths)
    suites = {test.parent for test in root.all_tests}
    found = sorted(
        suites, key=lambda suite: (runs_alone(suite), not runs_long(suite), -len(suite.tests), suite.full_name)
    )
    if seed is not None:
        random.Random(seed).shuffle(found)
        found.sort(key=runs_alone)
    lines = "".join(f"{_WAIT if runs_alone(suite) else ''}--suite {suite.full_name}\n" for suite in found)
    return lines.removeprefix(_WAIT)


def argv(
    processes: int, resource_file: Path, order_file: Path, variables: Mapping[str, str], options: Sequence[str]
) -> list[str]:
    """The command line that runs pabot in a new PID namespace.

    pabot starts each suite in a separate session and does not end them when it
    is killed. So pabot runs as the first process of a PID namespace, whose
    processes the kernel kills with it (pid_namespaces(7)). unshare(1) kills pabot
    when it ends itself, and setpriv(1) ends unshare(1) with this process.
    """
    namespace = ["unshare", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
    if os.geteuid() != 0:
        namespace += ["--user", "--map-current-user"]
    pabot = [sys.executable, "-m", "pabot.pabot", "--processes", str(processes)]
    # Port 0 picks a free port: another run may use the default one.
    pabot += ["--pabotlibport", "0", "--resourcefile", str(resource_file), "--ordering", str(order_file)]
    for name, value in variables.items():
        pabot += ["--variable", f"{name}:{value}"]
    return ["setpriv", "--pdeathsig", "KILL", *namespace, *pabot, *options]


async def run(command: Sequence[str], folder: Path, stop: asyncio.Event) -> int:
    """Run pabot in ``folder``, where it writes its files, until it ends or ``stop`` is set. Returns its exit code.

    Must run in the main thread: the kernel kills the process when the thread that started it ends.
    """
    # Suites know the profile only when they have a cluster, but wait for one before.
    environment = {**os.environ, **timeouts.environment()}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdin=asyncio.subprocess.DEVNULL, env=environment
    )
    ended = asyncio.create_task(process.wait())
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(ended), Timeout.INTERRUPTED_PABOT.seconds)
    finally:
        stopped.cancel()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        await ended
    return ended.result()


async def release_value_set(borrower: Mapping[str, str]) -> None:
    """Release the value set of a suite whose process died, which pabot does not notice.

    ``borrower`` has pabot's ``caller`` and ``uri`` of that suite.
    """

    def release() -> None:
        # pabot's server speaks XML-RPC (Robot Framework's remote library interface). It may have ended already.
        with contextlib.suppress(xmlrpc.client.Error, OSError), xmlrpc.client.ServerProxy(borrower["uri"]) as server:
            server.run_keyword("release_value_set", [borrower["caller"]], {})

    await asyncio.to_thread(release)
