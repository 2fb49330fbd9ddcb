"""Reads JSON files into dataclasses; a file of another shape is rejected with what was expected and found."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")
_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
_SHOWN_CHARACTERS = 40


def read_typed(kind: type[T], path: Path) -> T:
    """Read the JSON file ``path`` as ``parse_typed`` does. Raises OSError, too."""
    return parse_typed(kind, path.read_bytes())


def parse_typed(kind: type[T], text: bytes) -> T:
    """Read JSON as an instance of the dataclass ``kind``.

    Fields may be strings, integers, floats, booleans, lists, dicts with string keys,
    dataclasses of these, and any of them or None. Raises ValueError with one line that says
    what was expected and found.
    """
    if not text.strip():
        raise ValueError("expected JSON, found an empty file")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON: {error}") from error
    result: T = _typed(kind, content, "")
    return result


def _typed(kind: Any, value: Any, where: str) -> Any:
    """Return ``value`` as ``kind``; ``where`` is its place in the file, such as ``.image.disk``."""
    if get_origin(kind) is UnionType:
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
        return None if value is None else _typed(kind, value, where)
    if dataclasses.is_dataclass(kind):
        _check(dict, value, where)
        hints = get_type_hints(kind)
        if missing := hints.keys() - value.keys():
            raise ValueError(f"expected {', '.join(f'{where}.{name}' for name in sorted(missing))}, found no such key")
        if unknown := value.keys() - hints.keys():
            raise ValueError(f"found unknown keys {', '.join(f'{where}.{name}' for name in sorted(unknown))}")
        return kind(**{name: _typed(hint, value[name], f"{where}.{name}") for name, hint in hints.items()})  # type: ignore[operator]
    plain = get_origin(kind) or kind
    _check(plain, value, where)
    if plain is list:
        (item,) = get_args(kind)
        return [_typed(item, one, f"{where}[{number}]") for number, one in enumerate(value)]
    if plain is dict:
        _, item = get_args(kind)
        return {name: _typed(item, one, f"{where}.{name}") for name, one in value.items()}
    return value


def _check(kind: type, value: Any, where: str) -> None:
    # Not isinstance: in Python, True is an int.
    if type(value) is not kind:
        found = _KINDS[type(value)] if isinstance(value, dict | list) else json.dumps(value)[:_SHOWN_CHARACTERS]
        raise ValueError(f"expected {_KINDS[kind]} at {where or 'the top'}, found {found}")
