"""docs/architecture.md names every package, its links exist, decision records are listed, no file is too long."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from subprocess import run

import pytest

from mock_device.lab.base.paths import PROJECT

DOCS = PROJECT / "docs"
PAGE = DOCS / "architecture.md"
PACKAGE = "libraries/mock_device"
RECORDS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
LINES = 350
"""Most lines of a file, except the kernel module's in C."""
ELSEWHERE = {".ci"}
"""Top folders that are not part of the architecture."""


def tracked(*patterns: str) -> list[Path]:
    """Files of the repository, as relative paths."""
    listed = run(["git", "ls-files", "-z", *patterns], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in listed.split("\0") if name]


def linked(page: Path) -> set[Path]:
    """Targets of the links of ``page``, relative to the repository."""
    return {(page.parent / link).resolve().relative_to(PROJECT) for link in LINK.findall(page.read_text())}


def rooms() -> set[Path]:
    """Folders of the package that have modules."""
    return {path.parent for path in tracked(f"{PACKAGE}/*.py")} - {Path(PACKAGE)}


def test_every_file_and_folder_that_the_page_links_exists() -> None:
    found = linked(PAGE)
    assert len(found) > 50
    assert sorted(path for path in found if not (PROJECT / path).exists()) == []


def test_every_top_folder_is_linked() -> None:
    top = {Path(path.parts[0]) for path in tracked() if len(path.parts) > 1 and path.parts[0] not in ELSEWHERE}
    assert {Path("suites"), Path("vfio-user"), Path(".github")} <= top
    assert sorted(top - linked(PAGE)) == []


def test_every_room_is_linked() -> None:
    assert Path(PACKAGE, "lab", "base") in rooms()
    assert sorted(rooms() - linked(PAGE)) == []


def test_picture_of_the_rooms_has_the_order_that_imports_keep() -> None:
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["name"] == "Rooms import one way")
    wanted = [room.removeprefix("mock_device.").replace(".", "/") for layer in layers for room in layer.split(" | ")]
    pictures = re.findall(r"^```\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    picture = next(text for text in pictures if "lab/cluster" in text)
    shown = re.sub(r"\(.*?\)|│.*", "", picture).split()
    assert [word for word in shown if word in wanted] == wanted


def test_functions_that_the_page_names_are_in_the_files_beside_them() -> None:
    for name, link in (
        ("numa_options", "lab/guest/guest.py"),
        ("with_nodes", "lab/cluster/golden.py"),
        ("with_driver", "lab/cluster/golden.py"),
        ("cached", "lab/build/store.py"),
        ("steps", "lab/supervisor/cluster_processes.py"),
    ):
        assert f"`{name}`" in PAGE.read_text()
        assert f"def {name}(" in (PROJECT / PACKAGE / link).read_text()


def test_every_decision_is_in_the_index() -> None:
    assert {path.relative_to(PROJECT) for path in RECORDS} <= linked(DOCS / "decisions" / "README.md")


@pytest.mark.parametrize("record", RECORDS, ids=[path.stem for path in RECORDS])
def test_decision_has_number_context_decision_and_consequences(record: Path) -> None:
    text = record.read_text()
    assert text.startswith(f"# {record.name[:4]} ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[:3] == ["Context", "Decision", "Consequences"]


def test_no_file_is_too_long() -> None:
    files = tracked("*.py", "*.go", "*.sh", "*.robot", "*.resource")
    assert len(files) > 100
    lengths = {str(file): len((PROJECT / file).read_bytes().splitlines()) for file in files}
    assert {file: lines for file, lines in lengths.items() if lines > LINES} == {}
