"""Documentation pages: links, anchors and named files exist, and an index lists all pages."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from subprocess import run

import pytest

from mock_device.lab.base.paths import PROJECT

DOCS = PROJECT / "docs"
PARTS = [
    PROJECT / part / "README.md"
    for part in ("charts/mock-device", "dra-driver", "embedded-k8s", "kernel-driver", "vfio-user")
]
PAGES = [
    *sorted(PROJECT.glob("*.md")),
    *sorted(DOCS.glob("*.md")),
    *(path for folder in ("decisions", "how-to") for path in sorted((DOCS / folder).glob("*.md"))),
    *PARTS,
]
# The changelog names removed files; components name files relative to their own folders.
OF_TODAY = [page for page in PAGES if page not in (PROJECT / "CHANGELOG.md", *PARTS)]
FOLDERS = "charts|docs|libraries|resources|suites|tests|variables|dra-driver|kernel-driver|vfio-user|embedded-k8s"
MADE_BY_READERS = {"suites/my-first-scenario.robot", "suites/my-driver.robot", "variables/topologies/small.yaml"}
_LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)")
_PLACEHOLDER = re.compile(r"\b(NAME|ROOM|LAYER)\b")
_FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(PROJECT)) for page in pages]


def prose(page: Path) -> str:
    """A page without its listings, because comments in them look like headings."""
    return _FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub generates for the headings of ``page``."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """Links of ``page`` to files or headings that do not exist."""
    found = []
    for target, anchor in _LINK.findall(prose(page)):
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            found.append(f"{target}#{anchor}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_and_anchors_exist(page: Path) -> None:
    assert broken(page) == []


def test_broken_links_are_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Where is …?\n[a](#where-is-) [b](#nowhere) [c](gone.md) [d](page.md#where-is-)\n```\n# no heading\n```\n"
    )
    assert anchors(page) == {"where-is-"}
    assert broken(page) == ["#nowhere", "gone.md#"]


@pytest.mark.parametrize("page", OF_TODAY, ids=names(OF_TODAY))
def test_files_in_backticks_exist(page: Path) -> None:
    """Paths from the project's folder; placeholders in capitals stand for the reader's own names."""
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", page.read_text())
    missing = [name for name in named if not (PROJECT / name).exists() and not _PLACEHOLDER.search(name)]
    assert set(missing) <= MADE_BY_READERS


def test_index_lists_every_page() -> None:
    index = DOCS / "README.md"
    linked = {(DOCS / target).resolve() for target, _ in _LINK.findall(index.read_text()) if target}
    pages = {page for page in PAGES if page.parent != DOCS / "decisions"} - {index, PROJECT / "README.md"}
    assert names(sorted(pages - linked)) == []


def test_reference_has_every_command_of_lab() -> None:
    argv = [sys.executable, "-m", "mock_device.commands.cli", "--help"]
    help_text = run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
    commands = set(re.findall(r"^ {2,4}([a-z][a-z-]+)(?: {2,}.*)?$", help_text, re.MULTILINE))
    assert {"up", "diagnose", "load-image"} <= commands
    page = (DOCS / "commands.md").read_text()
    assert sorted(command for command in commands if not re.search(rf"`(lab )?{command}[` ]", page)) == []


def test_reference_has_every_target_of_make() -> None:
    lines = re.findall(r"^([a-z -]+):.*##", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    targets = {target for line in lines for target in line.split()} - {"help"}
    assert {"numa", "undeploy", "down"} <= targets
    page = (DOCS / "commands.md").read_text()
    named = {target for words in re.findall(r"`make ([a-z -]+)`", page) for target in words.split()}
    assert sorted(targets - named) == []


def test_readme_is_short() -> None:
    assert len((PROJECT / "README.md").read_text().splitlines()) < 120
