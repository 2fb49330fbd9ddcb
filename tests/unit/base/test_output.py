"""Commands whose output is read only in part."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mock_device.lab.base.output import while_it_is_read

TIMEOUT_SECONDS = 30
LONG = """
import sys
from mock_device.lab.base.output import while_it_is_read

def command():
    for number in range(20_000):
        print("line", number)
    return 3

sys.exit(while_it_is_read(command))
"""
BROKEN = """
import os
from mock_device.lab.base.output import while_it_is_read

def command():
    reader, writer = os.pipe()
    os.close(reader)
    os.write(writer, b"x")

while_it_is_read(command)
"""


def test_reader_that_leaves_early_is_no_error() -> None:
    command = subprocess.Popen([sys.executable, "-c", LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout is not None
    assert command.stderr is not None
    assert command.stdout.readline() == b"line 0\n"
    command.stdout.close()
    assert command.stderr.read() == b""
    command.stderr.close()
    assert command.wait(TIMEOUT_SECONDS) == 0


def test_exit_code_is_the_command_s() -> None:
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
        while_it_is_read(command)
