"""Suites and options of Robot Framework on a command line of the project."""

from __future__ import annotations

import getopt
import re
from collections.abc import Sequence
from pathlib import Path

from robot.run import USAGE
from robot.utils import ArgumentParser

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT


def suites_and_options(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Split ``arguments`` into files and folders of suites (default: all suites) and options of robot.

    Raises StepError for an unknown option and for missing suites.
    """
    # No public attribute of robot's parser says which options take a value.
    parser = ArgumentParser(USAGE)
    normalized = [parser._normalize_long_option(item) for item in arguments]
    try:
        found, rest = getopt.gnu_getopt(normalized, parser._short_opts, parser._long_opts)
    except getopt.GetoptError as error:
        raise StepError(f"{error}; see: robot --help") from error
    if missing := [item for item in rest if not Path(item).exists()]:
        raise StepError(f"expected files or folders of suites, found {', '.join(missing)}")
    with_value = {f"--{name.rstrip('=')}" for name in parser._long_opts if name.endswith("=")}
    with_value |= {f"-{name}" for name in re.findall("(.):", parser._short_opts)}
    options = [part for name, value in found for part in ([name, value] if name in with_value else [name])]
    return [Path(item).absolute() for item in rest] or [PROJECT / "suites"], options
