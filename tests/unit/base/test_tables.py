"""Tables on a terminal and in a pipe, and JSON."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from support import PYTHONPATH

from mock_device.lab.base import tables
from mock_device.lab.base.tables import Note, Table

UUID = "6c0a3c1e-8f6e-4a53-9d0b-f6f0c1a2b3c4"
PROSE = "the device is not bound to the driver and the node agent has not published it"
TABLE = Table(
    ("device", "uuid", "memory", "evidence"),
    [("mock0", UUID, "16384 MiB", PROSE), ("mock1", UUID, "8 MiB", "-"), Note("total", "2 devices, [all] free")],
    right=("memory",),
    wraps=("evidence",),
    styles={"mock0": "red"},
)
TEXT = f"""\
device\tuuid\tmemory\tevidence
mock0\t{UUID}\t16384 MiB\t{PROSE}
mock1\t{UUID}\t8 MiB\t-
total\t2 devices, [all] free"""
TIMEOUT = 60
PRINTS = "import sys; from unit.base import test_tables as t; from mock_device.lab.base import tables\n"
ESCAPE = re.compile(r"\x1b\[[\d;]*m")


def test_text_is_tab_separated_with_notes_in_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert TABLE.as_text() == TEXT
    tables.print_tables(TABLE, Table((), [Note("report", "/r")]))
    assert capsys.readouterr().out == f"{TEXT}\nreport\t/r\n"
    assert tables.text(Table(("a",), []), Table(("b", "c"), [("1", "2", "3")]), between="\n\n") == "a\n\nb\tc\n1\t2\t3"
    assert Table(("a",), [], empty="none; make one").as_text() == "none; make one"


def on_terminal(columns: int, code: str = "tables.print_tables(t.TABLE)", **environment: str) -> str:
    """Output of ``code`` on a terminal with ``columns`` columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 40, columns, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    argv = [sys.executable, "-c", PRINTS + code]
    terminal = {**clean, "PYTHONPATH": PYTHONPATH, "TERM": "xterm", **environment}
    with subprocess.Popen(argv, stdout=slave, env=terminal) as process:
        os.close(slave)
        seen = b""
        try:
            while part := os.read(master, 65536):
                seen += part
        except OSError:  # the terminal's other end is closed
            pass
        finally:
            os.close(master)
        assert process.wait(TIMEOUT) == 0
    return seen.decode().replace("\r\n", "\n")


def test_terminal_gets_aligned_columns_and_notes_below() -> None:
    seen = on_terminal(160)
    assert "\x1b[31mmock0" in seen
    lines = [line.rstrip() for line in ESCAPE.sub("", seen).splitlines()]
    assert lines == [
        "device  uuid                                     memory  evidence",
        f"mock0   {UUID}  16384 MiB  {PROSE}",
        f"mock1   {UUID}      8 MiB  -",
        "total  2 devices, [all] free",
    ]


@pytest.mark.parametrize("columns", [20, 60, 80])
def test_narrow_terminal_wraps_prose_but_no_value(columns: int) -> None:
    lines = ESCAPE.sub("", on_terminal(columns)).splitlines()
    assert sum(UUID in line for line in lines) == 2
    assert sum("16384 MiB" in line for line in lines) == 1
    words = " ".join(line[len(f"mock0   {UUID}  16384 MiB  ") :].strip() for line in lines[1:])
    assert PROSE in words


def test_table_that_must_fit_folds_values() -> None:
    from rich.console import Console

    console = Console(width=30, force_terminal=False)
    with console.capture() as capture:
        console.print(TABLE.on_terminal(30))
    assert all(len(line) <= 30 for line in capture.get().splitlines())
    assert "…" not in capture.get()


def test_no_color_and_dumb_terminals() -> None:
    assert "\x1b[31m" not in on_terminal(160, NO_COLOR="1")
    assert on_terminal(160, TERM="dumb") == f"{TEXT}\n"


class Color(Enum):
    RED = "red"


@dataclass(frozen=True)
class Plain:
    color: Color
    path: Path


@dataclass(frozen=True)
class Described:
    part: Plain

    def as_dict(self) -> dict[str, Any]:
        return {"of": self.part, "more": 1}


def test_json_of_dataclasses() -> None:
    value = [Described(Plain(Color.RED, Path("/p")))]
    expected = [{"of": {"color": "red", "path": "/p"}, "more": 1}]
    assert json.loads(tables.to_json(value)) == expected
    assert tables.to_json(value, one_line=True) == json.dumps(expected)
    assert tables.to_json(expected) == json.dumps(expected, indent=1)
    with pytest.raises(TypeError, match="object has no form in JSON"):
        tables.to_json(object())


def test_value_is_shown_as_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    def table(rows: list[str]) -> Table:
        return Table(("name",), [(row,) for row in rows])

    tables.show(["a"], table, as_json=False)
    tables.show(["a"], lambda rows: [table(rows), table([])], as_json=False)
    tables.show(["a"], table, as_json=True)
    assert capsys.readouterr().out == 'name\na\nname\na\nname\n[\n "a"\n]\n'
