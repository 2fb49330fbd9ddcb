"""Attributes and nodes of single devices, and the kernel's log, from recorded output."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import device_nodes


class Node:
    """A session whose nodes answer ``output`` to every command."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.commands: list[str] = []

    def on_node(self, _: str, command: str) -> str:
        self.commands.append(command)
        return self.output


def node(output: str) -> Any:
    return Node(output)


def test_attribute() -> None:
    session = node("hot\n")
    assert device_nodes.attribute_complaints(session, "n", "mock0", "health", "hot") == []
    assert session.commands == ["cat /sys/class/mock-accel/mock0/health 2>&1 || true"]
    assert device_nodes.attribute_complaints(session, "n", "mock0", "health", "ok") == [
        "n mock0: expected health ok, found hot"
    ]


def test_numbers() -> None:
    assert device_nodes.numbers(node("240:3\n"), "n", "mock0") == (240, 3)
    with pytest.raises(CheckError, match="n mock0: expected major:minor in attribute dev, found .cat: can't open"):
        device_nodes.numbers(node("cat: can't open"), "n", "mock0")


def test_refused_device() -> None:
    refused = "made\nsh: can't open /tmp/node: Operation not permitted\n"
    assert device_nodes.open_complaints(refused) == []
    for output in ("made\nopened\n", "mknod: /tmp/node: Operation not permitted\n", "made\nsh: No such device\n"):
        (complaint,) = device_nodes.open_complaints(output)
        assert complaint.startswith("expected 'Operation not permitted' when the container opens the node that it made")


def test_open_probe_tells_each_step(tmp_path: Path) -> None:
    program = tmp_path / "mknod"
    program.write_text('#!/bin/sh\n[ "$2 $3 $4" = "c 240 3" ] && : >"$1"\n')
    program.chmod(0o755)
    command = ["sh", "-c", device_nodes.open_probe(240, 3, str(tmp_path))]
    done = subprocess.run(
        command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "made\nopened\n"


LOG = """\
[    9.1] mock_accel 0000:11:00.0: corrected an error
[   10.1] mark-1
[   10.2] mock_accel 0000:11:00.0: stopped: error 6
"""


def test_kernel_log_after_a_mark() -> None:
    session = node(LOG)
    assert device_nodes.kernel_log_complaints(session, "n", "mark-1", "stopped: error") == []
    assert device_nodes.kernel_log_complaints(session, "n", "mark-1", "corrected") == [
        "n: expected 'corrected' in the kernel log after mark-1, "
        "found [   10.2] mock_accel 0000:11:00.0: stopped: error 6"
    ]
    assert device_nodes.kernel_log_complaints(session, "n", "mark-2", "corrected")[0].endswith("found no line")
    device_nodes.mark_kernel_log(session, "n", "mark-3")
    assert session.commands[-1] == "echo mark-3 >/dev/kmsg"
