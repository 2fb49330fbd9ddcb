"""Typed access to the fields of a topology file; every error names file and line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from mock_device.topology import schema, yaml_lines
from mock_device.topology.size import parse_size
from mock_device.topology.yaml_lines import Fields


class TopologyError(ValueError):
    """A topology file that cannot be used: ``FILE:LINE: reason``."""


@dataclass(frozen=True)
class Reader:
    """Reads one file. All methods raise TopologyError; ``what`` names the part of the topology in its message."""

    path: Path
    """The file's name in messages."""
    external: bool = False
    """Whether the file describes nodes of a cluster that exists."""

    def fail(self, line: int, reason: str) -> NoReturn:
        raise TopologyError(f"{self.path}:{line}: {reason}")

    def parse(self, text: str) -> object:
        """The YAML document in ``text``."""
        try:
            return yaml_lines.parse(text)
        except RecursionError:
            self.fail(1, "not YAML: nested too deeply")
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            self.fail(mark.line + 1 if mark else 1, f"not YAML: {getattr(error, 'problem', None) or error}")

    def fields(self, value: object, line: int, what: str, kind: str) -> Fields:
        """``value``, a mapping with the keys that the schema has for ``kind``, one of its definitions.

        An external topology has definitions for most kinds, such as ``external-node``.
        """
        if not isinstance(value, Fields):
            self.fail(line, f"{what}: expected a mapping, found {value!r}")
        allowed = schema.mapping(kind, external=self.external)
        value.properties = allowed["properties"]
        if unknown := sorted(str(key) for key in set(value) - set(value.properties)):
            names = ", ".join(sorted(value.properties))
            self.fail(value.lines[unknown[0]], f"{what}: unknown key {unknown[0]!r}; allowed are {names}")
        if missing := sorted(set(allowed["required"]) - set(value)):
            self.fail(value.line, f"{what}: key {missing[0]!r} is missing")
        return value

    def items(self, fields: Fields, key: str, what: str, plural: str = "") -> list[Any]:
        """A list that is not empty; with ``plural``, the name of its items, it must also keep the schema's maximum."""
        value = fields.get(key)
        if not isinstance(value, list) or not value:
            self.fail(fields.lines.get(key, fields.line), f"{what}: {key} must be a list that is not empty")
        if plural and len(value) > (most := fields.properties[key]["maxItems"]):
            self.fail(fields.lines[key], f"{what}: at most {most} {plural}, found {len(value)}")
        return value

    def text(self, fields: Fields, key: str, what: str) -> str:
        value = fields[key]
        if not isinstance(value, str) or not value:
            self.fail(fields.lines[key], f"{what}: {key} must be text, found {value!r}")
        return value

    def matching(self, fields: Fields, key: str, what: str, reason: str) -> str:
        """Text that matches the schema's pattern; else fails with ``reason``, in which ``{}`` is the text."""
        value = self.text(fields, key, what)
        form = fields.properties[key]
        if not re.fullmatch(form["pattern"], value) or len(value) > form.get("maxLength", len(value)):
            self.fail(fields.lines[key], reason.format(repr(value)))
        return value

    def number(
        self, fields: Fields, key: str, what: str, *, default: int | None = None, high: int | None = None
    ) -> int:
        """A number within the schema's bounds, or up to ``high``."""
        low, high = fields.properties[key]["minimum"], fields.properties[key]["maximum"] if high is None else high
        value = fields.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            line = fields.lines.get(key, fields.line)
            self.fail(line, f"{what}: {key} must be a number from {low} to {high}, found {value!r}")
        return value

    def size(self, fields: Fields, key: str, what: str) -> int:
        """Bytes."""
        try:
            return parse_size(str(fields[key]))
        except ValueError as error:
            self.fail(fields.lines[key], f"{what}: {key}: {error}")

    def once(self, seen: dict[str, int], value: str, line: int, what: str) -> None:
        """Note in ``seen`` that ``value`` is used in ``line``; it must be the first time."""
        if value in seen:
            self.fail(line, f"{what} {value!r} is already used in line {seen[value]}")
        seen[value] = line
