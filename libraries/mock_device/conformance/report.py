"""A conformance report as a table, as JSON, HTML and Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from html import escape
from pathlib import Path

from mock_device.conformance.results import Conformance, Promise, State
from mock_device.lab.base.files import write_file
from mock_device.lab.base.tables import Note, Row, Table, to_json

NAME = "conformance"
"""Name of the report's files, without their endings."""
_LONGEST_REASON = 300
"""Characters of a reason in a table; the JSON file has all of it."""
_COLOURS = {
    State.PASSED: "#1a7f37",
    State.FAILED: "#cf222e",
    State.NOT_OFFERED: "#57606a",
    State.NOT_CHECKED: "#9a6700",
}
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #1f2328 }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid #d0d7de; padding: .4em .6em; text-align: left; vertical-align: top }
td:first-child { white-space: nowrap; font-weight: 600 }
small { color: #57606a }
"""


def table(found: Conformance) -> Table:
    """One row per promise, then the counts."""
    rows: list[Row] = [(str(item.state), item.title, _short(item)) for item in found.promises]
    rows += [Note(name, text) for name, text in _about(found)]
    styles = {str(State.PASSED): "green", str(State.FAILED): "red", str(State.NOT_CHECKED): "yellow"}
    return Table(("state", "promise", "reason"), rows, wraps=("promise", "reason"), styles=styles)


def write(found: Conformance, folder: Path) -> list[Path]:
    """Write the report into ``folder``: ``conformance.json``, ``.html`` and ``.md``; returns the files."""
    texts = {"json": as_json(found), "html": as_html(found), "md": as_markdown(found)}
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for ending, text in texts.items():
        path = folder / f"{NAME}.{ending}"
        write_file(path, text)
        files.append(path)
    return files


def as_json(found: Conformance) -> str:
    """The report for programs."""
    counts = {str(state): found.count(state) for state in State}
    return to_json({**asdict(found), "counts": counts}) + "\n"


def as_markdown(found: Conformance) -> str:
    """The report for a page of documentation."""
    lines = [f"# Conformance of {found.driver}", "", *(f"- {name}: {text}" for name, text in _about(found)), ""]
    lines += ["| promise | | source |", "|---|---|---|"]
    for item in found.promises:
        reason = "" if item.state is State.PASSED else f": {_short(item)}"
        cells = (f"{item.title}. {item.text}", f"**{item.state}**{reason}", item.source)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def as_html(found: Conformance) -> str:
    """The report for a browser, in one file."""
    title = escape(f"Conformance of {found.driver}")
    about = "".join(f"<li>{escape(name)}: {escape(text)}</li>" for name, text in _about(found))
    rows = "".join(_html_row(item) for item in found.promises)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n<ul>{about}</ul>\n"
        f"<table><tr><th>state</th><th>promise</th><th>reason</th><th>source</th></tr>\n{rows}</table></body></html>\n"
    )


def _html_row(item: Promise) -> str:
    cells = (
        f'<span style="color: {_COLOURS[item.state]}">{escape(item.state)}</span>',
        f"<b>{escape(item.title)}</b><br>{escape(item.text)}",
        escape(item.reason),
        f"<small>{escape(item.source)}</small>",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"


def _about(found: Conformance) -> Iterator[tuple[str, str]]:
    """Driver, cluster, time and counts, by name."""
    values = {"driver": found.driver, "Kubernetes": found.kubernetes, "cluster": found.cluster, "time": found.time}
    yield from ((name, text) for name, text in values.items() if text)
    yield "promises", ", ".join(f"{found.count(state)} {state}" for state in State)


def _short(item: Promise) -> str:
    return item.reason if len(item.reason) <= _LONGEST_REASON else f"{item.reason[:_LONGEST_REASON]}…"
