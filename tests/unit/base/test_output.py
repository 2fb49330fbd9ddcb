"""Commands whose reader exits early."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mock_device.lab.base.output import tolerate_closed_output

TIMEOUT_SECONDS = 30
LONG = """
import sys
from mock_device.lab.base.output import tolerate_closed_output

def command():
    for number in range(20_000):
        print("line", number)
    return 3

sys.exit(tolerate_closed_output(command))
"""
BROKEN = """
import os
from mock_device.lab.base.output import tolerate_closed_output

def command():
    reader, writer = os.pipe()
    os.close(reader)
    os.write(writer, b"x")

tolerate_closed_output(command)
"""


def test_early_exit_of_the_reader_is_no_error() -> None:
    command = subprocess.Popen([sys.executable, "-c", LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout is not None
    assert command.stderr is not None
    assert command.stdout.readline() == b"line 0\n"
    command.stdout.close()
    assert command.stderr.read() == b""
    command.stderr.close()
    assert command.wait(TIMEOUT_SECONDS) == 0


def test_exit_code_of_the_command_is_returned() -> None:
    run = subprocess.run([sys.executable, "-c", LONG], capture_output=True, timeout=TIMEOUT_SECONDS, check=False)
    assert (run.returncode, run.stdout.count(b"\n")) == (3, 20_000)


def test_another_broken_pipe_is_an_error() -> None:
    run = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, timeout=TIMEOUT_SECONDS, check=False)
    assert run.returncode == 1
    assert b"BrokenPipeError" in run.stderr


def test_error_of_the_command_is_not_hidden() -> None:
    def command() -> int:
        raise OSError(os.strerror(5))

    with pytest.raises(OSError, match="Input/output error"):
        tolerate_closed_output(command)
