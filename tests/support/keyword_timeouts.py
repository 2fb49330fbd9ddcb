"""Compares the time-out argument of each step of a test with the time-out of the test.

Suites are read with Robot Framework's own model. User keywords are resolved in the suite's resources, library keywords
by the signatures that Robot Framework reads. The test's time-out does not stop a teardown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from robot.running import ResourceFile, TestLibrary, TestSuite
from robot.utils import normalize, timestr_to_secs

TIMEOUT = "timeout"
LIMITS = (TIMEOUT, "within")
"""Arguments that bound how long a keyword waits."""
_RUN_KEYWORD = "runkeyword"
_LIST = re.compile(r"@\{([^{}]+)\}")
_VARIABLE = re.compile(r"[$@&]\{([^{}]+)\}")

Item = Any
"""An object of Robot Framework's running model, which has no types."""


@dataclass
class Scope:
    """Keywords and variables of a suite, from its file, resources and libraries."""

    keywords: dict[str, Item] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def add(self, resource: Item, folder: Path) -> None:
        """Add what ``resource``, a file in ``folder``, defines and imports; existing definitions are kept."""
        for keyword in resource.keywords:
            self.keywords.setdefault(_key(keyword.name), keyword)
        for variable in resource.variables:
            self.variables.setdefault(_key(variable.name[2:-1]), " ".join(variable.value))
        for item in resource.imports:
            path = (folder / item.name).resolve()
            if item.type == "RESOURCE":
                self.add(ResourceFile.from_file_system(path), path.parent)
            elif item.type == "LIBRARY":
                self._add_library(str(path) if path.is_file() else item.name)

    def _add_library(self, name: str) -> None:
        for keyword in TestLibrary.from_name(name).keywords:
            self.keywords.setdefault(_key(keyword.name), keyword)


@dataclass(frozen=True)
class _Step:
    """A keyword call that another keyword runs by name."""

    name: str
    args: Sequence[str]
    type: str = "KEYWORD"


def complaints(suite: Path) -> list[str]:
    """Steps of the tests in ``suite`` whose time-out is too long, so that the test would end without the step's reason.

    Raises ValueError for an unknown keyword, and for a time-out that is only
    known at run time.
    """
    model = TestSuite.from_file_system(suite)
    scope = Scope()
    scope.add(model.resource, suite.parent)
    scope._add_library("BuiltIn")
    found = [
        text
        for step in (model.setup, model.teardown)
        for text in _look(step, scope, scope.variables, math.inf, f"{suite.name}: {model.name}", ())
    ]
    for test in model.tests:
        where = f"{suite.name}: {test.name}"
        limit = _seconds(test.timeout, scope.variables, where) if test.timeout else math.inf
        if limit == math.inf:
            found.append(f"{where}: has no time-out; give the suite a Test Timeout")
        for step in (test.setup, *test.body):
            found += _look(step, scope, scope.variables, limit, where, ())
        found += _look(test.teardown, scope, scope.variables, math.inf, where, ())
    return list(dict.fromkeys(found))


def _look(
    step: Item, scope: Scope, variables: Mapping[str, Any], limit: float, where: str, path: Sequence[str]
) -> Iterator[str]:
    """Complaints about ``step`` of a test or keyword whose time-out is ``limit`` seconds."""
    if not step:
        return
    if getattr(step, "type", "") not in ("KEYWORD", "SETUP", "TEARDOWN"):
        for inner in getattr(step, "body", None) or ():
            yield from _look(inner, scope, variables, limit, where, path)
        return
    if (keyword := scope.keywords.get(_key(step.name))) is None:
        raise ValueError(f"{where}: there is no keyword {step.name!r}")
    path = (*path, step.name)
    if _key(step.name) == _RUN_KEYWORD:
        name, *arguments = _expanded(step.args, variables)
        yield from _look(_Step(name, arguments), scope, variables, limit, where, path)
        return
    given = _bound(keyword.args, step.args)
    for argument in () if hasattr(keyword, "body") else LIMITS:
        seconds = _seconds(given.get(argument), variables, " → ".join((where, *path)))
        if seconds and seconds >= limit:
            yield f"{where}: {' → '.join(path)} waits {seconds:g} s, the test ends after {limit:g} s"
    if hasattr(keyword, "body"):
        inside: dict[str, Any] = dict(scope.variables)
        for name, value in given.items():
            inside[name] = list(_expanded(value, variables)) if isinstance(value, list) else _replaced(value, variables)
        if keyword.timeout:
            limit = min(limit, _seconds(keyword.timeout, inside, " → ".join((where, *path))))
        for inner in (keyword.setup, *keyword.body, keyword.teardown):
            yield from _look(inner, scope, inside, limit, where, path)


def _bound(specification: Item, arguments: Sequence[str]) -> dict[str, Any]:
    """Argument values of a call by name, including defaults."""
    names = [*specification.positional, *specification.named_only]
    values: dict[str, Any] = dict(specification.defaults)
    if specification.var_positional:
        values[specification.var_positional] = []
    position = 0
    for argument in arguments:
        name, separator, value = str(argument).partition("=")
        if separator and (name in names or (specification.var_named and name == TIMEOUT)):
            values[name] = value
        elif position < len(specification.positional):
            values[specification.positional[position]] = argument
            position += 1
        elif specification.var_positional:
            values[specification.var_positional].append(argument)
    return values


def _expanded(arguments: Sequence[Any], variables: Mapping[str, Any]) -> Iterator[str]:
    """Arguments of a call with known variables replaced; a list variable is expanded."""
    for argument in arguments:
        found = _LIST.fullmatch(str(argument))
        items = variables.get(_key(found[1])) if found else None
        if isinstance(items, list):
            yield from items
        else:
            yield _replaced(argument, variables)


def _seconds(value: Any, variables: Mapping[str, Any], where: str) -> float:
    if value is None:
        return 0.0
    if isinstance(value, timedelta):
        return value.total_seconds()
    text = _replaced(str(value), variables)
    try:
        return float(timestr_to_secs(text))
    except ValueError as error:
        raise ValueError(f"{where}: expected a time that is known before a run, found {value}") from error


def _replaced(value: Any, variables: Mapping[str, Any]) -> str:
    """Replace the known variables in ``value``."""
    return _VARIABLE.sub(lambda match: str(variables.get(_key(match[1]), match[0])), str(value))


def _key(name: str) -> str:
    return str(normalize(name, ignore="_"))
