"""Run commands and wait until they end."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from mock_device.lab.base.errors import StepError


def search_path() -> str:
    """PATH for the commands that are run, with the folders of nft and mke2fs, which an ordinary user's PATH lacks."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def run(
    argv: Sequence[str | Path],
    *,
    log: Path | None = None,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: Path | None = None,
) -> bytes:
    """Run a command until it ends and return its standard output.

    If a ``log`` is given, standard error goes there as it arrives, standard
    output when the command has ended. ``timeout`` is wall time in seconds; when
    it expires, and on any exception here (also Ctrl-C), the command and its
    children are killed. ``env`` is added to the environment; the command reads
    the file ``stdin``. Raises StepError with the end of the output if the
    command cannot be run, fails or takes too long.
    """
    command = [str(part) for part in argv]
    with (
        tempfile.TemporaryFile() if log is None else log.open("ab+") as errors,
        (stdin or Path(os.devnull)).open("rb") as source,
    ):
        errors.write(f"$ {' '.join(command)}\n".encode(errors="replace"))
        errors.flush()
        begin = errors.tell()
        try:
            child = subprocess.Popen(
                command,
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PATH": search_path(), **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise StepError(f"cannot run {command[0]}: {error}", log) from error
        try:
            out, _ = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise StepError(f"{command[0]} did not end within {timeout:.0f} s", log) from error
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        errors.seek(begin)
        tail = errors.read()[-2000:] or out[-2000:]
        if log is not None:
            errors.write(out)
    if child.returncode:
        lines = tail.decode(errors="replace").strip().splitlines()[-5:]
        raise StepError(f"{' '.join(command[:6])} ended with {child.returncode}: " + "\n  ".join(lines), log)
    return out


def interrupt(child: subprocess.Popen[bytes], timeout: float) -> None:
    """Send SIGINT to a process that still runs, as Ctrl-C does; kill it if it still runs ``timeout`` seconds later."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
    try:
        child.wait(timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
