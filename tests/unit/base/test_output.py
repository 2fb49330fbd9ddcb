"""Commands whose reader exits early."""

from __future__ import annotations

import os
import socket
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
import socket
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


def run_and_stop_reading(code: str, *, both: bool, unbuffered: str, characters: int) -> tuple[int, bytes]:
    """Exit code and rest of standard error of a program whose reader exits after ``characters``."""
    reader, writer = os.pipe()
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=writer,
        stderr=writer if both else subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writer)
    if characters:
        os.read(reader, characters)
    os.close(reader)
    errors = program.communicate(timeout=TIMEOUT_SECONDS)[1]
    return program.returncode, errors or b""


@pytest.mark.parametrize("both", [False, True], ids=["output", "output-and-errors"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("characters", [0, 1, 5000])
def test_program_ends_quietly_whenever_its_reader_exits(both: bool, unbuffered: str, characters: int) -> None:
    assert run_and_stop_reading(LONG, both=both, unbuffered=unbuffered, characters=characters) == (0, b"")


def test_reader_at_the_other_end_of_a_socket_may_exit() -> None:
    ours, its = socket.socketpair()
    program = subprocess.Popen([sys.executable, "-c", LONG], stdout=its.fileno(), stderr=subprocess.PIPE)
    its.close()
    assert ours.recv(1)
    ours.close()
    _, errors = program.communicate(timeout=TIMEOUT_SECONDS)
    assert (program.returncode, errors) == (0, b"")


def test_output_may_be_closed_from_the_start() -> None:
    script = 'exec "$0" -c "$1" >&- 2>&-'
    program = subprocess.run(["sh", "-c", script, sys.executable, LONG], timeout=TIMEOUT_SECONDS, check=False)
    assert program.returncode == 3


PROGRESS = """
import sys
from mock_device.lab.base import progress

for number in range(5):
    progress.say(f"step {number}")
sys.stdin.read()
progress.say("after the reader has exited")
print("result")
"""


def test_work_goes_on_without_a_reader_of_its_progress() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stderr
        assert program.stderr.readline() == b"step 0\n"
        program.stderr.close()
        program.stderr = None
        output, _ = program.communicate(timeout=TIMEOUT_SECONDS)
    assert output == b"result\n"
