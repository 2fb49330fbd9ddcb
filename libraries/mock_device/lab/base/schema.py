"""Checks what was read from a YAML file by a JSON schema (draft-07), in words for the file's author."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from jsonschema import Draft7Validator, ValidationError
from jsonschema.exceptions import best_match

_TYPES = {"object": "a mapping", "array": "a list", "string": "text", "boolean": "true or false", "null": "nothing"}


class Violation(NamedTuple):
    """What violates a schema."""

    path: tuple[str | int, ...]
    """Keys and indices that lead to it."""
    reason: str
    """What was expected and found."""

    def __str__(self) -> str:
        where = ".".join(map(str, self.path))
        return f"{where}: {self.reason}" if where else self.reason


def violation(schema: Mapping[str, Any], document: Any) -> Violation | None:
    """The most relevant violation of ``schema`` in ``document``; None if it is valid."""
    if key := _key_that_is_no_text(document):
        return Violation((), f"expected text as key, found {key!r}; quote it")
    error = best_match(Draft7Validator(schema).iter_errors(document))
    if error is None:
        return None
    if isinstance(error.parent, ValidationError) and _constants(error.parent):
        error = error.parent
    return Violation(tuple(error.absolute_path), _explained(error))


def complaint(schema: Mapping[str, Any], document: Any) -> str:
    """``violation`` as text; empty if the document is valid."""
    return str(violation(schema, document) or "")


def _key_that_is_no_text(document: Any) -> Any:
    """The first key that is not text: YAML reads ``1:`` and ``yes:`` as other types, which JSON does not have."""
    if isinstance(document, dict):
        wrong = [key for key in document if not isinstance(key, str)]
        return str(wrong[0]) if wrong else next(filter(None, map(_key_that_is_no_text, document.values())), None)
    if isinstance(document, list):
        return next(filter(None, map(_key_that_is_no_text, document)), None)
    return None


def _explained(error: ValidationError) -> str:
    found: Any = error.instance
    wanted: Any = error.validator_value
    match error.validator:
        case "enum":
            return f"expected {_choice(wanted)}, found {found!r}"
        case "oneOf" if constants := _constants(error):
            return f"expected {_choice(constants)}, found {found!r}"
        case "const":
            return f"expected {wanted!r}, found {found!r}"
        case "type":
            names = [wanted] if isinstance(wanted, str) else wanted
            return f"expected {_choice([_TYPES.get(name, f'a {name}') for name in names])}, found {found!r}"
        case "additionalProperties" if wanted is False:
            known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
            unknown = sorted(set(found) - set(known))
            return f"unknown keys {', '.join(unknown)}; expected {', '.join(known)}"
        case "required":
            missing = [name for name in wanted if name not in found]
            return f"expected the key {_choice(missing)}"
        case "pattern":
            return f"expected text that matches {wanted}, found {found!r}"
        case "minimum" | "maximum" if isinstance(error.schema, dict) and {"minimum", "maximum"} <= error.schema.keys():
            return f"expected a number from {error.schema['minimum']} to {error.schema['maximum']}, found {found!r}"
        case "not" if wanted == {}:
            # `false` would mean the same, but jsonschema does not say where it was violated.
            return "this key is not allowed here"
        case _:
            return error.message


def _constants(error: ValidationError) -> list[str]:
    """The constants of which ``error`` wants one; empty if it wants something else."""
    if error.validator != "oneOf" or not isinstance(error.validator_value, list):
        return []
    return [str(option["const"]) for option in error.validator_value if "const" in option]


def _choice(values: list[str]) -> str:
    return " or ".join([", ".join(values[:-1]), values[-1]] if len(values) > 1 else values)
