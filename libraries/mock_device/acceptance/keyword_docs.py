"""Makes the pages in ``docs/keywords`` about all keywords, from what Robot Framework's libdoc reads.

Markdown instead of libdoc's own HTML: it is readable in a repository and in a diff, and holds no date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from robot.errors import DataError
from robot.libdoc import LibraryDocumentation
from robot.running import ResourceFile

from mock_device.commands import options
from mock_device.lab.base import command_line
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.paths import PROJECT

FOLDER = PROJECT / "docs" / "keywords"
INDEX = "index.md"
_CODE_OR_NAME = re.compile(r"``.+?``|`([^`]+)`", re.DOTALL)
_LIBDOC_HAS_NONE = ("Documentation for library ``", "Documentation for resource file ``")
_NOT_IN_ANCHOR = re.compile(r"[^\w\- ]")

LibraryDoc = Any
KeywordDoc = Any


def sources() -> list[Path]:
    """The project's keyword classes, then its resource files."""
    return [*sorted((PROJECT / "libraries").glob("*Library.py")), *sorted((PROJECT / "resources").glob("*.resource"))]


def read(paths: Sequence[Path]) -> list[LibraryDoc]:
    """Libdoc's model of each file. Raises StepError for a file that cannot be imported."""
    try:
        return [LibraryDocumentation(str(path)) for path in paths]
    except DataError as error:
        raise StepError(f"libdoc cannot read a library: {error}") from error


def public(library: LibraryDoc) -> list[KeywordDoc]:
    """Keywords without the tag ``robot:private``, sorted by name."""
    return [keyword for keyword in library.keywords if not keyword.private]


def undocumented(libraries: Sequence[LibraryDoc]) -> list[str]:
    """Libraries, and public keywords as ``library: keyword``, without documentation."""
    found = []
    for library in libraries:
        if library.doc.startswith(_LIBDOC_HAS_NONE):
            found.append(library.name)
        found += [f"{library.name}: {keyword.name}" for keyword in public(library) if not keyword.doc.strip()]
    return found


def pages(libraries: Sequence[LibraryDoc]) -> dict[str, str]:
    """Markdown by file name: a page for each library, and an index of all keywords."""
    places: dict[str, str] = {}
    for library in libraries:
        places = {**_places(library), **places}
    found = {page_name(library): _page(library, places) for library in libraries}
    return {INDEX: _index(libraries, places), **found}


def page_name(library: LibraryDoc) -> str:
    """File name of the page about ``library``."""
    return f"{library.name}.md"


def _anchor(heading: str) -> str:
    return _NOT_IN_ANCHOR.sub("", heading.lower()).replace(" ", "-")


def _linked(text: str, places: Mapping[str, str], page: str) -> str:
    """Libdoc's text as Markdown: keywords in backticks are links, ``double backticks`` are code in both."""

    def link(match: re.Match[str]) -> str:
        name = " ".join((match[1] or "").split())
        place = places.get(name, "")
        return f"[{name}]({place.removeprefix(page)})" if place else match[0]

    return _CODE_OR_NAME.sub(link, text.strip())


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", r"\|")


def _arguments(keyword: KeywordDoc) -> str:
    """Its arguments with types and defaults, as libdoc shows them."""
    return ", ".join(str(argument) for argument in keyword.args)


def _source(library: LibraryDoc) -> str:
    return str(Path(library.source).relative_to(PROJECT))


def _page(library: LibraryDoc, places: Mapping[str, str]) -> str:
    page = page_name(library)
    # A library's own keyword goes before one of the same name elsewhere.
    return "\n".join(_lines_of_page(library, {**places, **_places(library)}, page)) + "\n"


def _places(library: LibraryDoc) -> dict[str, str]:
    """Page and anchor of each of its keywords."""
    return {keyword.name: f"{page_name(library)}#{_anchor(keyword.name)}" for keyword in public(library)}


def _lines_of_page(library: LibraryDoc, places: Mapping[str, str], page: str) -> Iterator[str]:
    yield from (f"# {library.name}", "", _linked(library.doc, places, page), "")
    yield from (f"In the settings of a suite: {' or '.join(_imports(library))}", "")
    for keyword in public(library):
        yield from (f"## {keyword.name}", "")
        if arguments := _arguments(keyword):
            yield from (f"Arguments: `{arguments}`", "")
        yield from (_linked(keyword.doc, places, page), "")
        if keyword.tags:
            yield from (f"Tags: {', '.join(keyword.tags)}", "")
    # Libdoc keeps types in a set, whose order differs between runs.
    if enums := sorted((item for item in library.type_docs if item.members), key=lambda item: item.name):
        yield from ("## Values of arguments", "", "| type | what | values |", "|---|---|---|")
        for item in enums:
            values = ", ".join(f"`{member.name}`" for member in item.members)
            yield f"| `{item.name}` | {_cell(_linked(item.doc, places, page))} | {values} |"
        yield ""
    yield f"Made by `make docs` from [{_source(library)}](../../{_source(library)}); do not edit."


def _imports(library: LibraryDoc) -> list[str]:
    """Lines of a suite's settings that import ``library``; for a class, the resources that import it."""
    source = Path(library.source)
    if library.type == "RESOURCE":
        return [f"`Resource    ../{_source(library)}`"]
    resources = [path for path in sources() if path.suffix == ".resource" and source.name in _imported(path)]
    return [f"`Resource    ../{path.relative_to(PROJECT)}`" for path in resources] or [
        f"`Library    ../{_source(library)}`"
    ]


def _imported(resource: Path) -> set[str]:
    return {Path(item.name).name for item in ResourceFile.from_file_system(resource).imports}


def _index(libraries: Sequence[LibraryDoc], places: Mapping[str, str]) -> str:
    lines = ["# Keywords", "", "What suites in `suites/` are written with. `make docs` makes these pages.", ""]
    lines += ["| library or resource | what it is for | keywords |", "|---|---|---|"]
    for library in libraries:
        summary = _cell(_linked(library.doc.partition("\n\n")[0], places, ""))
        lines.append(f"| [{library.name}]({page_name(library)}) | {summary} | {len(public(library))} |")
    lines += ["", "| keyword | what it does |", "|---|---|"]
    rows = [(keyword, library) for library in libraries for keyword in public(library)]
    for keyword, library in sorted(rows, key=lambda row: (row[0].name.lower(), row[1].name)):
        summary = _cell(_linked(keyword.short_doc, places, ""))
        lines.append(f"| [{keyword.name}]({_places(library)[keyword.name]}) | {summary} |")
    return "\n".join(lines) + "\n"


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write these pages into ``folder``, and remove all others there."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.md"):
        if stale.name not in texts:
            stale.unlink()
    for name, text in texts.items():
        write_file(folder / name, text)


@click.command("docs", context_settings=command_line.SETTINGS)
@options.outputdir(FOLDER)
def docs(outputdir: Path) -> None:
    """Write pages about all keywords; nothing is written when a keyword has no documentation."""
    libraries = read(sources())
    if lacking := undocumented(libraries):
        raise StepError(f"no documentation of {'; '.join(lacking)}: say what it does in a docstring")
    write(outputdir, pages(libraries))
    count = sum(len(public(library)) for library in libraries)
    print(f"{outputdir}\t{len(libraries)} libraries\t{count} keywords")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages; exit code 1, and nothing written, when a keyword has no documentation."""
    return command_line.run(docs, argv)


if __name__ == "__main__":
    sys.exit(main())
