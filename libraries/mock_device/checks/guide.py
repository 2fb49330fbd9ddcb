"""Reads the listings of ``docs/guide-commands.md`` and runs them as a reader would."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mock_device.checks.errors import CheckError
from mock_device.lab.base import commands, timeouts
from mock_device.lab.base.commands import search_path
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT

PAGE = PROJECT / "docs" / "guide-commands.md"
_HEADING = re.compile(r"^## (?P<heading>.+)$")
_FENCE = "```"
_KINDS = {"```sh": False, "```console": True}


@dataclass(frozen=True)
class Listing:
    """Shell commands of the page."""

    heading: str
    """Heading of its section."""
    old: bool
    """Whether it shows an obsolete form that no longer works."""
    text: str


def listings(page: str) -> list[Listing]:
    """Listings of a Markdown page, in order. Raises ValueError if a section has two listings of one kind."""
    found: list[Listing] = []
    heading, kind, lines = "", None, list[str]()
    for line in page.splitlines():
        if kind is not None:
            if line == _FENCE:
                found.append(Listing(heading, _KINDS[kind], "\n".join(lines) + "\n"))
                kind = None
            else:
                lines.append(line)
        elif line in _KINDS:
            kind, lines = line, []
        elif match := _HEADING.match(line):
            heading = match["heading"]
    places = [(item.heading, item.old) for item in found]
    if twice := sorted({place for place in places if places.count(place) > 1}):
        raise ValueError(f"expected one listing of a kind in each section, found more in {twice[0][0]!r}")
    return found


def listing(heading: str, *, old: bool = False) -> Listing:
    """The listing in the section ``heading``. Raises CheckError with all sections if there is none."""
    found = [item for item in listings(PAGE.read_text()) if item.old == old]
    for item in found:
        if item.heading == heading:
            return item
    known = ", ".join(repr(item.heading) for item in found)
    raise CheckError(f"{PAGE.name} has no {'old ' if old else ''}listing in section {heading!r}; available: {known}")


def run(item: Listing, cluster: str, names: Mapping[str, str], timeout: timedelta) -> str:
    """Run a listing on ``cluster`` and return its output, including errors; it stops at the first failing command.

    ``names`` maps names on the page to the cluster's names. Raises CheckError
    with the end of the output if the listing fails or takes longer than
    ``timeout``.
    """
    text = item.text
    for name, replacement in names.items():
        text = text.replace(name, replacement)
    path = f"{Path(sys.executable).parent}:{search_path()}"
    environment = {"PATH": path, "LAB_CLUSTER": cluster, "LISTING": text}
    # Not an argument: error messages contain the arguments.
    argv = ["bash", "-e", "-o", "pipefail", "-c", 'exec 2>&1; eval "$LISTING"']
    try:
        output = commands.run(argv, timeout=timeouts.seconds(timeout), env=environment, cwd=PROJECT)
    except StepError as error:
        raise CheckError(f"listing {item.heading!r}: {error}") from error
    return output.decode(errors="replace")
