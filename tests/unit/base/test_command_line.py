"""Exit codes, errors and completion of a program that is a click command."""

from __future__ import annotations

import click
import pytest

from mock_device.lab.base import command_line
from mock_device.lab.base.errors import StepError
from mock_device.topology import TopologyError


class OtherError(Exception):
    """An error of a single program."""


RAISED: dict[str, BaseException] = {
    "step": StepError("no disk"),
    "topology": TopologyError("t.yaml:3: no nodes"),
    "other": OtherError("odd"),
    "interrupt": KeyboardInterrupt(),
}


@click.command("program", context_settings=command_line.SETTINGS)
@click.option("--code", type=int)
@click.option("--fails", type=click.Choice(list(RAISED)))
def program(code: int | None, fails: str | None) -> int | None:
    """Do something."""
    if fails:
        raise RAISED[fails]
    return code


@click.group("programs")
def programs() -> None:
    """Do several things."""


programs.add_command(program)


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ([], 0, ""),
        (["--code", "7"], 7, ""),
        (["--fails", "step"], 1, "program: no disk\n"),
        (["--fails", "topology"], 1, "program: t.yaml:3: no nodes\n"),
        (["--fails", "other"], 1, "program: odd\n"),
        (["--fails", "interrupt"], 130, "program: stopped\n"),
        (["--code"], 2, "program: Option '--code' requires an argument; see: program --help\n"),
        (["--fails"], 2, "program: Option '--fails' requires an argument; see: program --help\n"),
        (["more"], 2, "program: Got unexpected extra argument (more); see: program --help\n"),
    ],
)
def test_exit_code_and_error(argv: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(program, argv, failures=(OtherError,), interrupted="stopped") == code
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", said)


def test_unknown_failures_are_not_hidden() -> None:
    with pytest.raises(OtherError):
        command_line.run(program, ["--fails", "other"])


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(program, [option]) == 0
    assert capsys.readouterr().out.startswith("Usage: program [OPTIONS]\n\n  Do something.\n")


def test_group_without_a_command_is_bad_usage_with_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(programs, []) == 2
    assert "Do several things." in capsys.readouterr().err


def test_completion(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_PROGRAM_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "program --fails st")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert command_line.run(program, []) == 0
    assert capsys.readouterr().out == "plain,step\n"
    monkeypatch.setenv("_PROGRAM_COMPLETE", "zsh_source")
    assert command_line.run(program, []) == 0
    assert capsys.readouterr().out.startswith("#compdef program")
