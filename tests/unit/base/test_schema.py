"""Violations of a JSON schema, in words."""

from __future__ import annotations

from typing import Any

import pytest

from mock_device.lab.base.schema import complaint

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["kind"],
    "properties": {
        "kind": {"enum": ["one", "two"]},
        "name": {"type": ["string", "null"], "pattern": "^[a-z]+$"},
        "sizes": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "two": {"type": "object"},
        "fixed": {"const": 7},
        "words": {"type": "array", "items": {"oneOf": [{"const": "yes"}, {"const": "no"}]}},
    },
    "if": {"properties": {"kind": {"const": "one"}}},
    "then": {"properties": {"two": {"not": {}}}},
}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"kind": "one", "name": "a", "sizes": [1]}, ""),
        (None, "expected a mapping, found None"),
        ({}, "expected the key kind"),
        ({"kind": "three"}, "kind: expected one or two, found 'three'"),
        ({"kind": "one", "nam": 1}, "unknown keys nam; expected kind, name, sizes, two, fixed, words"),
        ({"kind": "one", "name": 5}, "name: expected text or nothing, found 5"),
        ({"kind": "one", "name": "A"}, "name: expected text that matches ^[a-z]+$, found 'A'"),
        ({"kind": "one", "sizes": [1, 0]}, "sizes.1: 0 is less than the minimum of 1"),
        ({"kind": "one", "two": {}}, "two: this key is not allowed here"),
        ({"kind": "two", "words": ["no", "never"]}, "words.1: expected yes or no, found 'never'"),
        ({"kind": "two", "fixed": 8}, "fixed: expected 7, found 8"),
        ({"kind": "two", "two": {"a": [{True: 1}]}}, "expected text as key, found 'True'; quote it"),
    ],
)
def test_violation_says_where_and_what_was_expected(document: Any, expected: str) -> None:
    assert complaint(SCHEMA, document) == expected
