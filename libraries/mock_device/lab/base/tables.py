"""Tables for people and scripts, and JSON.

On a terminal a table is laid out by rich; in a pipe, a file or a log it is tab-separated lines with headings.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_GAP = 2
"""Blanks between two columns on a terminal."""
_NARROWEST = 20
"""Minimal characters of a column that wraps."""

T = TypeVar("T")


@dataclass(frozen=True)
class Note:
    """A named remark or sum among the rows; a terminal shows it below them."""

    name: str
    text: str


Row = tuple[str, ...] | Note


@dataclass(frozen=True)
class Table:
    """Cells without tabs and line breaks, below headings; a row may have more or fewer cells than headings."""

    headings: tuple[str, ...]
    """Empty for a table that has notes only."""
    rows: Sequence[Row]
    right: Collection[str] = ()
    """Headings of columns that a terminal shows right-aligned: numbers."""
    wraps: Collection[str] = ()
    """Headings of columns of prose, which a narrow terminal wraps. Other cells are not wrapped, so that they can be
    copied."""
    styles: Mapping[str, str] = field(default_factory=dict)
    """rich's style of a cell, by its text up to a colon."""
    empty: str = ""
    """Printed instead of a table without rows; if empty, the headings are printed."""

    def as_text(self) -> str:
        """Tab-separated lines, the headings first."""
        if self.empty and not self.rows:
            return self.empty
        return "\n".join("\t".join(cells) for cells in self._lines())

    def _lines(self) -> Iterator[tuple[str, ...]]:
        if self.headings:
            yield self.headings
        for row in self.rows:
            yield (row.name, row.text) if isinstance(row, Note) else row

    @property
    def cells(self) -> list[tuple[str, ...]]:
        """The rows without the notes."""
        return [row for row in self.rows if not isinstance(row, Note)]

    @property
    def notes(self) -> list[Note]:
        return [row for row in self.rows if isinstance(row, Note)]

    def _widths(self) -> list[int]:
        """Characters of each column's longest line."""
        from rich.cells import cell_len

        lines = [self.headings, *self.cells]
        columns = range(max(map(len, lines)))
        return [
            max(cell_len(part) for line in lines if column < len(line) for part in line[column].split("\n"))
            for column in columns
        ]

    def width(self) -> int:
        """Characters that a terminal needs so that only columns of prose wrap."""
        widths = self._widths()
        for column, heading in enumerate(self.headings):
            if heading in self.wraps:
                widths[column] = min(widths[column], _NARROWEST)
        return sum(widths) + _GAP * (len(widths) - 1)

    def on_terminal(self, width: int, caption: str = "") -> RichTable:
        """Headings and rows, laid out for a terminal that is ``width`` characters wide; nothing is cut off."""
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            box=None,
            padding=(0, _GAP, 0, 0),
            pad_edge=False,
            show_header=bool(self.headings),
            caption=caption or None,
            caption_justify="left",
        )
        whole = self.width() <= width
        for column, characters in enumerate(self._widths()):
            heading = self.headings[column] if column < len(self.headings) else ""
            table.add_column(
                Text(heading),
                justify="right" if heading in self.right else "left",
                overflow="fold",
                width=characters if whole and heading not in self.wraps else None,
            )
        for row in self.cells:
            table.add_row(*(Text(cell, style=self.styles.get(cell.partition(":")[0], "")) for cell in row))
        return table


def text(*tables: Table, between: str = "\n") -> str:
    """All tables as tab-separated lines, with ``between`` from one to the next."""
    return between.join(table.as_text() for table in tables)


def for_people() -> bool:
    """Whether standard output is a terminal that can lay out tables."""
    return sys.stdout.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def print_tables(*tables: Table, between: str = "\n") -> None:
    """Print tables for a terminal or as text, with ``between`` from one text to the next."""
    if not for_people():
        print(text(*tables, between=between))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console()
    terminal = console.width
    for number, table in enumerate(tables):
        if number and table.headings:
            console.print()
        if table.empty and not table.rows:
            print(table.empty)
        elif table.headings or table.cells:
            # The terminal itself wraps longer lines, so that long values can be copied.
            console.width = max(terminal, table.width())
            console.print(table.on_terminal(console.width))
        names = max((len(note.name) for note in table.notes), default=0)
        for note in table.notes:
            line = Text.assemble((note.name.ljust(names + _GAP), "bold"), note.text)
            console.print(line, soft_wrap=True, highlight=False)


def show(value: T, tables: Callable[[T], Table | Sequence[Table]], *, as_json: bool) -> None:
    """Print ``value`` as JSON, or as the tables that ``tables`` returns for it."""
    if as_json:
        print(to_json(value))
    else:
        made = tables(value)
        print_tables(*([made] if isinstance(made, Table) else made))


def to_json(value: object, *, one_line: bool = False) -> str:
    """Format ``value`` as JSON: a dataclass by its ``as_dict()`` or fields, an enum by its value, a path as text."""
    return json.dumps(value, indent=None if one_line else 1, default=_plain)


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        as_dict: Callable[[], Any] | None = getattr(value, "as_dict", None)
        return as_dict() if as_dict else asdict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON: {value!r}")
