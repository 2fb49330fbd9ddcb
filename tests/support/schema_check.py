"""Checks YAML files with the JSON schemas of ``variables``."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

MODELINE = "# yaml-language-server: $schema="


@cache
def load_schema(path: Path) -> dict[str, Any]:
    """The schema in ``path``. Raises jsonschema.SchemaError if it violates draft-07."""
    schema: dict[str, Any] = json.loads(path.read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    return schema


def objections(schema: Path, text: str) -> list[str]:
    """Violations of ``schema`` in the YAML document ``text``."""
    # Keys are strings in JSON, and for editors.
    document = json.loads(json.dumps(yaml.safe_load(text)))
    return [
        f"{error.json_path}: {error.message}"
        for error in jsonschema.Draft7Validator(load_schema(schema)).iter_errors(document)
    ]


def declared_schema(path: Path) -> Path:
    """The schema that the first line of a YAML file names."""
    first = path.read_text().partition("\n")[0]
    assert first.startswith(MODELINE), f"{path}:1: expected {MODELINE}PATH, found {first!r}"
    return (path.parent / first.removeprefix(MODELINE)).resolve()
