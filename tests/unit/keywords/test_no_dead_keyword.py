"""Every public keyword is used in a suite, a resource or an example, or is offered to readers in a guide."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from robot.running import ResourceFile, TestSuite
from robot.utils import normalize

from mock_device.acceptance import keyword_docs
from mock_device.lab.base.paths import PROJECT

GUIDE = PROJECT / "docs" / "write-a-scenario.md"
FOLDERS = ("suites", "resources", "docs/examples")
_OFFER = re.compile(r"^Offered for scenarios, though no suite uses them: (.*?)\n\n", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"`([^`]+)`")


def used(paths: Iterable[Path]) -> set[str]:
    """Normalized names of the keywords that Robot Framework files call, directly or by name as an argument."""
    return {_key(cell) for path in paths for cell in _cells(path)}


def _cells(path: Path) -> Iterator[str]:
    model = TestSuite.from_file_system(path) if path.suffix == ".robot" else None
    resource = model.resource if model else ResourceFile.from_file_system(path)
    roots = [model, *model.tests] if model else []
    for item in (*roots, *resource.keywords):
        yield from _steps(item)


def _steps(item: object) -> Iterator[str]:
    """Name and arguments of all steps of a suite's setup and teardown, a test, or a keyword."""
    parts = [getattr(item, "setup", None), *(getattr(item, "body", None) or ()), getattr(item, "teardown", None)]
    for step in filter(None, parts):
        if name := getattr(step, "name", None):
            yield name
        yield from (argument for argument in getattr(step, "args", ()) if isinstance(argument, str))
        yield from _steps(step)


def offered() -> set[str]:
    """Normalized names of the keywords that the guide offers for its readers' scenarios."""
    offer = _OFFER.search(GUIDE.read_text())
    assert offer, f"expected a list of offered keywords in {GUIDE}"
    return {_key(name) for name in _NAME.findall(offer[1])}


def _key(name: str) -> str:
    return str(normalize(name, ignore="_"))


@cache
def public() -> dict[str, str]:
    """Public keywords of the project as ``library: keyword``, by normalized name."""
    libraries = keyword_docs.read(keyword_docs.sources())
    return {
        _key(keyword.name): f"{library.name}: {keyword.name}"
        for library in libraries
        for keyword in keyword_docs.public(library)
    }


def test_every_public_keyword_is_used_or_offered() -> None:
    known = used(path for folder in FOLDERS for path in (PROJECT / folder).glob("*.r*o*"))
    assert [text for key, text in public().items() if key not in known | offered()] == []


def test_offered_keywords_exist_and_no_suite_uses_them() -> None:
    known = used(path for folder in FOLDERS for path in (PROJECT / folder).glob("*.r*o*"))
    assert offered() <= public().keys() - known


def test_keywords_are_found_in_all_places(tmp_path: Path) -> None:
    suite = tmp_path / "some.robot"
    suite.write_text(
        "*** Settings ***\nSuite Setup    In Suite Setup\n"
        "*** Test Cases ***\nA Test\n    [Setup]    In Setup\n    [Teardown]    Undo    In Argument    x\n"
        "    ${x}    In Test    y\nData\n    [Template]    In Template\n    z\n"
        "*** Keywords ***\nOwn\n    IF    True\n        In Branch\n    END\n    [Teardown]    In Keyword Teardown\n"
    )
    names = ["insuitesetup", "insetup", "undo", "inargument", "intest", "intemplate", "inbranch", "inkeywordteardown"]
    assert used([suite]) >= set(names)
    assert "own" not in used([suite])
