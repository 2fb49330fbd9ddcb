"""pabot as a process that ends, with all that it started, whenever its parent does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import xmlrpc.client
from collections.abc import Mapping, Sequence
from pathlib import Path

from robot.api import TestSuite

from mock_device.acceptance.suite_tags import runs_alone

# What pabot may take after Ctrl-C, which it gets from the terminal itself, to end its suites and write a report.
_INTERRUPT_SECONDS = 3.0
# In a file for --ordering: what follows begins when all before it has ended.
_WAIT = "#WAIT\n"


def order(paths: Sequence[Path]) -> str:
    """The suites of ``paths``, the one with most tests first, as a file for pabot's ``--ordering``.

    By itself pabot takes them by name, and a long one that begins last is waited for alone.
    Suites with the tag ``alone`` come last, one after the other.
    """
    root = TestSuite.from_file_system(*paths)
    suites = {test.parent for test in root.all_tests}
    found = sorted(suites, key=lambda suite: (runs_alone(suite), -len(suite.tests), suite.full_name))
    lines = "".join(f"{_WAIT if runs_alone(suite) else ''}--suite {suite.full_name}\n" for suite in found)
    return lines.removeprefix(_WAIT)


def argv(
    processes: int, resource_file: Path, order_file: Path, variables: Mapping[str, str], options: Sequence[str]
) -> list[str]:
    """pabot's command line, in a PID namespace of its own.

    pabot starts each suite in a session of its own, and does not end them when
    it is killed. The kernel does: pabot is the first process of a PID namespace
    (pid_namespaces(7)), which unshare(1) ends with itself, and setpriv(1) with
    this process.
    """
    namespace = ["unshare", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
    if os.geteuid() != 0:
        namespace += ["--user", "--map-current-user"]
    pabot = [sys.executable, "-m", "pabot.pabot", "--processes", str(processes)]
    # Port 0: a free one. The usual one may be taken by another run.
    pabot += ["--pabotlibport", "0", "--resourcefile", str(resource_file), "--ordering", str(order_file)]
    for name, value in variables.items():
        pabot += ["--variable", f"{name}:{value}"]
    return ["setpriv", "--pdeathsig", "KILL", *namespace, *pabot, *options]


async def run(command: Sequence[str], folder: Path, stop: asyncio.Event) -> int:
    """Run pabot in ``folder``, where it leaves its own files, until it ends or ``stop`` is set; its exit code.

    Must run in the main thread: the kernel ends the process with the thread that started it.
    """
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdin=asyncio.subprocess.DEVNULL)
    ended = asyncio.create_task(process.wait())
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(ended), _INTERRUPT_SECONDS)
    finally:
        stopped.cancel()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        await ended
    return ended.result()


async def release_value_set(borrower: Mapping[str, str]) -> None:
    """Release the value set of a suite whose process died: pabot itself does not notice.

    ``borrower`` has pabot's ``caller`` and ``uri`` of that suite.
    """

    def release() -> None:
        # pabot's server speaks XML-RPC (Robot Framework's remote library interface). It may be gone already.
        with contextlib.suppress(xmlrpc.client.Error, OSError), xmlrpc.client.ServerProxy(borrower["uri"]) as server:
            server.run_keyword("release_value_set", [borrower["caller"]], {})

    await asyncio.to_thread(release)
