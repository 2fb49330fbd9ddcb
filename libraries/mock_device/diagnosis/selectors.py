"""CEL selectors, as far as they can be evaluated without a CEL evaluator: comparisons joined by ``&&``.

Other parts of an expression are kept as text and not evaluated. So the devices
that meet the understood parts include all devices that the scheduler finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mock_device.checks.objects.slices import PublishedDevice, Value
from mock_device.driver import current

_LITERAL = r"""("[^"\\]*"|'[^'\\]*'|-?\d+|true|false)"""
_DRIVER = re.compile(rf"device\.driver\s*==\s*{_LITERAL}")
_ATTRIBUTE = re.compile(
    rf"""device\.attributes\[["']([^"'\\]+)["']\](?:\.(\w+)|\[["']([^"'\\]+)["']\])\s*==\s*{_LITERAL}"""
)
_TOKEN = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|&&|\|\||[?()\[\]{}]|.""", re.DOTALL)
_OPENING, _CLOSING = "([{", ")]}"


@dataclass(frozen=True)
class Selectors:
    """All selectors of a DeviceClass or of a request."""

    expressions: tuple[str, ...] = ()
    """CEL, each on one line."""
    driver: str | None = None
    """The only driver whose devices can meet them; None if the expressions do not restrict it."""
    attributes: tuple[tuple[str, Value], ...] = ()
    """Required values of attributes, by qualified name."""
    rest: tuple[str, ...] = ()
    """Parts that are not evaluated."""

    def __bool__(self) -> bool:
        return bool(self.expressions)

    def __str__(self) -> str:
        return " and ".join(self.expressions)

    def may_select(self, device: PublishedDevice) -> bool:
        """Whether ``device`` (of this project's driver) meets all understood parts."""
        return self.driver in (None, current.driver().name) and all(
            (found := device.attribute(name)) == value and isinstance(found, bool) == isinstance(value, bool)
            for name, value in self.attributes
        )


def parse(expressions: Iterable[str]) -> Selectors:
    """Parse selectors that must all be met."""
    lines = tuple(" ".join(expression.split()) for expression in expressions)
    driver: str | None = None
    attributes: list[tuple[str, Value]] = []
    rest: list[str] = []
    for part in (part for line in lines for part in _conjuncts(line)):
        if match := _DRIVER.fullmatch(part):
            driver = str(_value(match[1]))
        elif match := _ATTRIBUTE.fullmatch(part):
            attributes.append((f"{match[1]}/{match[2] or match[3]}", _value(match[4])))
        elif part != "true":
            rest.append(part)
    return Selectors(lines, driver, tuple(attributes), tuple(rest))


def of_class(device_class: Mapping[str, Any]) -> Selectors:
    """Selectors of a DeviceClass (API's JSON)."""
    entries = (device_class.get("spec") or {}).get("selectors") or []
    return parse(entry["cel"]["expression"] for entry in entries if "cel" in entry)


def _conjuncts(expression: str) -> Iterator[str]:
    """Parts joined by && at the outermost level; the whole expression if an operator binds more weakly."""
    parts, depth = [""], 0
    for token in _TOKEN.findall(expression):
        if depth == 0 and token in ("||", "?"):
            yield expression
            return
        if depth == 0 and token == "&&":
            parts.append("")
            continue
        depth += (token in _OPENING) - (token in _CLOSING)
        parts[-1] += token
    for part in map(str.strip, parts):
        if len(parts) > 1 or _is_in_parentheses(part):
            yield from _conjuncts(part[1:-1].strip() if _is_in_parentheses(part) else part)
        else:
            yield part


def _is_in_parentheses(text: str) -> bool:
    """Whether the first and last characters are a matching pair of parentheses."""
    depth = 0
    tokens = _TOKEN.findall(text)
    for number, token in enumerate(tokens):
        depth += (token == "(") - (token == ")")
        if depth == 0:
            return number == len(tokens) - 1 and token == ")"
    return False


def _value(literal: str) -> Value:
    if literal[0] in "\"'":
        return literal[1:-1]
    return literal == "true" if literal in ("true", "false") else int(literal)
