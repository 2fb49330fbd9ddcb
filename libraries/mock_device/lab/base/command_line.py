"""Runs a click command as a program: its exit code, its errors on standard error, its shell completion."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click
from click.exceptions import Exit, NoArgsIsHelpError
from click.shell_completion import shell_complete

from mock_device.lab.base import timeouts
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.output import tolerate_closed_output
from mock_device.topology import TopologyError

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Context settings of every command line."""
FAILED = 1
INTERRUPTED = 130
"""Exit code after Ctrl-C, as in a shell: 128 + SIGINT."""


def run(
    command: click.Command,
    argv: Sequence[str] | None = None,
    *,
    failures: tuple[type[Exception], ...] = (),
    interrupted: str = "interrupted",
) -> int:
    """Run ``command`` with ``argv`` (default: this process's arguments) and return its exit code.

    The code is what the command returns (0 for None), 1 for StepError (also
    for a wrong LAB_TIMEOUT_FACTOR), TopologyError and ``failures``, 2 for bad usage, 130 after Ctrl-C. Errors are
    written to standard error as ``NAME: message``; ``interrupted`` is the message
    after Ctrl-C. It is no error if the reader of standard output exits.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return tolerate_closed_output(lambda: _run(command, words, (StepError, TopologyError, *failures), interrupted))


def _run(command: click.Command, argv: list[str], failures: tuple[type[Exception], ...], interrupted: str) -> int:
    name = command.name or "command"
    variable = f"_{name.upper().replace('-', '_')}_COMPLETE"
    if instruction := os.environ.get(variable):
        return shell_complete(command, {}, name, variable, instruction)
    try:
        # Not command.main(), which handles Ctrl-C and broken pipes itself.
        with command.make_context(name, argv) as context:
            timeouts.factor()  # a wrong one fails here, not in the middle of the work
            return command.invoke(context) or 0
    except Exit as end:
        return end.exit_code
    except NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        used = error.ctx if isinstance(error, click.UsageError) else None
        path = used.command_path if used else name
        message = " ".join(error.format_message().split()).rstrip(".")
        print(f"{name}: {message}; see: {path} --help", file=sys.stderr)
        return error.exit_code
    except failures as error:
        print(f"{name}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"{name}: {interrupted}", file=sys.stderr)
        return INTERRUPTED
