"""JSON schemas of the files in ``variables``, by which editors complete and check them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.schema_check import declared_schema, load_schema, objections

from mock_device.lab.base.paths import PROJECT

VARIABLES = PROJECT / "variables"
FILES = [*sorted(VARIABLES.rglob("*.yaml")), *sorted((PROJECT / "tests/support/data/topologies").glob("*.yaml"))]
SCHEMAS = sorted(VARIABLES.glob("*.schema.json"))


def name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_file_is_valid_by_the_schema_that_its_first_line_names(path: Path) -> None:
    schema = declared_schema(path)
    assert schema in SCHEMAS
    assert objections(schema, path.read_text()) == []


def test_every_schema_is_used() -> None:
    assert sorted({declared_schema(path) for path in FILES}) == SCHEMAS


def described(node: object) -> Iterator[tuple[str, Any]]:
    """All keys of all mappings in a schema, with their definitions."""
    if isinstance(node, dict):
        yield from node.get("properties", {}).items()
        for value in node.values():
            yield from described(value)


@pytest.mark.parametrize("path", SCHEMAS, ids=name)
def test_editors_can_explain_every_key(path: Path) -> None:
    found = dict(described(load_schema(path)))
    assert found
    assert [key for key, value in found.items() if not value.get("description")] == []
