"""The official JSON schema of CDI files (Container Device Interface, schema/schema.json)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from referencing import Registry, Resource

from mock_device.checks.nodes.cdi import CdiFile

FOLDER = Path(__file__).with_name("data") / "cdi-schema"
# The schema's dialect, which its files do not declare.
_DIALECT = "http://json-schema.org/draft-07/schema#"


def complaints(files: Iterable[CdiFile]) -> list[str]:
    """Violations of the schema in ``files``, one message each."""
    result = []
    for file in files:
        where = f"{file.node}: {file.path}"
        try:
            content = json.loads(file.text)
        except json.JSONDecodeError as error:
            result.append(f"{where}: expected JSON, found {file.text[:200]!r} ({error})")
            continue
        errors = sorted(_validator().iter_errors(content), key=lambda error: error.json_path)
        result += [f"{where}: {error.json_path}: {error.message}" for error in errors]
    return result


@cache
def _validator() -> jsonschema.Draft7Validator:
    contents = {path.name: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
    registry: Registry[Any] = Registry()
    for name, content in contents.items():
        content.setdefault("$schema", _DIALECT)
        registry = registry.with_resource(name, Resource.from_contents(content))
    return jsonschema.Draft7Validator(contents["schema.json"], registry=registry)
