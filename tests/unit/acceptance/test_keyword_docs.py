"""Keyword documentation: all public keywords are documented, and the committed pages are up to date."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from textwrap import dedent

import pytest

from mock_device.acceptance import keyword_docs
from mock_device.acceptance.keyword_docs import FOLDER, LibraryDoc
from mock_device.lab.base.errors import StepError

LIBRARY = '''\
    """A module."""
    from enum import Enum
    from robot.api.deco import keyword, library

    class Colour(Enum):
        """What it is painted with | or not."""
        RED = 1
        BLUE = 2

    @library(auto_keywords=False)
    class PaintLibrary:
        """Paints."""

        @keyword(name="Paint A PF", tags=["slow"])
        def paint(self, what: str, colour: Colour | None = None, coats: int = 2) -> None:
            """Paint ``what`` in ``colour``; `Wash Off` takes it back.

            `make acceptance` is no keyword.
            """

        @keyword
        def wash_off(self) -> None:
            {doc}

        @keyword(tags=["robot:private"])
        def mix(self) -> None:
            pass
'''
RESOURCE = """\
    *** Settings ***
    Documentation    Rooms to paint.

    *** Keywords ***
    Paint A Room
        [Documentation]    Uses `Paint A PF` for ``a | b``.
        No Operation
    Close The Door
        No Operation
"""


@cache
def project() -> list[LibraryDoc]:
    return keyword_docs.read(keyword_docs.sources())


def library(folder: Path, name: str, doc: str) -> LibraryDoc:
    # Robot Framework keeps an imported module: another name for each.
    path = folder / f"{name}.py"
    path.write_text(dedent(LIBRARY).replace("{doc}", doc).replace("PaintLibrary", name))
    return keyword_docs.read([path])[0]


def test_all_public_keywords_of_the_project_are_documented() -> None:
    assert keyword_docs.undocumented(project()) == []


def test_committed_pages_are_up_to_date(tmp_path: Path) -> None:
    keyword_docs.write(tmp_path, keyword_docs.pages(project()))
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert made == committed, "docs/keywords is not up to date; run: make docs"


def test_every_library_and_resource_has_a_page_and_every_link_works() -> None:
    found = keyword_docs.pages(project())
    assert {"index.md", "ClaimsLibrary.md", "claims.md"} <= found.keys()
    assert len(found) == len(keyword_docs.sources()) + 1
    headings = {
        f"{name}#{keyword_docs._anchor(line.removeprefix('## '))}"
        for name, text in found.items()
        for line in text.splitlines()
        if line.startswith("## ")
    }
    for name, text in found.items():
        for link in re.findall(r"\]\(([^)]*#[^)]+)\)", text):
            assert (link if not link.startswith("#") else name + link) in headings, f"{name}: {link}"


def test_keyword_without_documentation_is_named(tmp_path: Path) -> None:
    bad = library(tmp_path, "BareLibrary", "pass")
    resource = tmp_path / "rooms.resource"
    resource.write_text(dedent(RESOURCE))
    assert keyword_docs.undocumented([bad, *keyword_docs.read([resource])]) == [
        "BareLibrary: Wash Off",
        "rooms: Close The Door",
    ]


def test_library_without_documentation_is_named(tmp_path: Path) -> None:
    resource = tmp_path / "bare.resource"
    resource.write_text("*** Keywords ***\nX\n    [Documentation]    Does.\n    No Operation\n")
    assert keyword_docs.undocumented(keyword_docs.read([resource])) == ["bare"]


def test_page_has_arguments_links_tags_and_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyword_docs, "PROJECT", tmp_path)
    resource = tmp_path / "rooms.resource"
    resource.write_text(dedent(RESOURCE))
    paints = library(tmp_path, "PaintLibrary", '"""Undo it."""')
    found = keyword_docs.pages([paints, *keyword_docs.read([resource])])
    page = found["PaintLibrary.md"]
    assert "## Paint A PF\n\nArguments: `what: str, colour: Colour | None = None, coats: int = 2`\n" in page
    assert "Paint ``what`` in ``colour``; [Wash Off](#wash-off) takes it back.\n\n`make acceptance` is no" in page
    assert "Tags: slow\n" in page
    assert "| `Colour` | What it is painted with \\| or not. | `RED`, `BLUE` |" in page
    assert "Mix" not in page
    assert "Uses [Paint A PF](PaintLibrary.md#paint-a-pf) for ``a | b``." in found["rooms.md"]
    assert (
        "| [Paint A Room](rooms.md#paint-a-room) | Uses [Paint A PF](PaintLibrary.md#paint-a-pf) for ``a \\| b``. |"
        in (found["index.md"])
    )


def test_pages_of_removed_libraries_are_removed(tmp_path: Path) -> None:
    (tmp_path / "GoneLibrary.md").write_text("old")
    keyword_docs.write(tmp_path, {"index.md": "new"})
    assert [path.name for path in tmp_path.iterdir()] == ["index.md"]


def test_library_that_cannot_be_imported_is_a_failed_step(tmp_path: Path) -> None:
    (tmp_path / "BrokenLibrary.py").write_text("import there_is_no_such_module\n")
    with pytest.raises(StepError, match="there_is_no_such_module"):
        keyword_docs.read([tmp_path / "BrokenLibrary.py"])


def test_types_are_sorted_by_name() -> None:
    for library in project():
        types = [item.name for item in library.type_docs if item.members]
        lines = keyword_docs.pages([library])[keyword_docs.page_name(library)].splitlines()
        shown = [line.split("`")[1] for line in lines if line.startswith("| `")]
        assert shown == sorted(types)
