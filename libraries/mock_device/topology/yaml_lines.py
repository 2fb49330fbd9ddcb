"""YAML mappings and lists with the line of each key and item."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import yaml


class Fields(dict[Hashable, Any]):
    """A YAML mapping; its keys are text."""

    line: int
    """Line of the mapping, which counts from 1."""
    lines: dict[str, int]
    """Line of each key."""
    properties: Mapping[str, Any]
    """What the JSON schema allows for each key; set by ``Reader.fields``."""


class Items(list[Any]):
    """A YAML list."""

    lines: list[int]
    """Line of each item, which counts from 1."""


class _Loader(yaml.SafeLoader):
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            # Such as a date with a month 13, or a number of more digits than Python reads.
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Fields:
        fields = Fields()
        fields.line = node.start_mark.line + 1
        fields.lines = {}
        for key_node, value_node in node.value:
            key = str(self.construct_object(key_node, deep=True))
            if key in fields:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key!r}", problem_mark=key_node.start_mark)
            fields.lines[key] = key_node.start_mark.line + 1
            fields[key] = self.construct_object(value_node, deep=True)
        return fields

    def construct_items(self, node: yaml.SequenceNode) -> Items:
        items = Items(self.construct_object(item, deep=True) for item in node.value)
        items.lines = [item.start_mark.line + 1 for item in node.value]
        return items


def _construct(loader: _Loader, node: yaml.MappingNode) -> Fields:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG, _Loader.construct_items)


def line_of(document: object, path: Sequence[str | int]) -> int:
    """Line of what the keys and indices in ``path`` lead to in a parsed document; of the deepest that has one."""
    line = document.line if isinstance(document, Fields) else 1
    for step in path:
        lines = dict(enumerate(document.lines)) if isinstance(document, Items) else getattr(document, "lines", {})
        if step not in lines:
            break
        line, document = lines[step], document[step]  # type: ignore[index]
    return line


def parse(text: str) -> object:
    """The document in ``text``: mappings are Fields, lists are Items. Raises yaml.YAMLError and RecursionError."""
    return yaml.load(text, _Loader)
