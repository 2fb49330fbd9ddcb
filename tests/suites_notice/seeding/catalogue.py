"""The catalogue of seeded faults, ``tests/suites_notice/faults.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from robot.api import TestSuite
from support.suite_run import Ended

from mock_device.lab.base import schema
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT

CATALOGUE = Path(__file__).parents[1] / "faults.yaml"
PARTS = ("server", "wiring", "module", "driver", "runtime", "kubernetes", "lab")
_TEXT = {"type": "string", "minLength": 1}
_SEEDS: dict[str, Any] = {
    "driver": _TEXT,
    "server": _TEXT,
    "module": {
        "type": "object",
        "additionalProperties": False,
        "required": ["file", "old", "new"],
        "properties": {"file": _TEXT, "old": _TEXT, "new": {"type": "string"}},
    },
    "nodes": {
        "type": "object",
        "additionalProperties": False,
        "required": ["do", "undo"],
        "properties": {"do": _TEXT, "undo": _TEXT},
    },
    "object": {
        "type": "object",
        "additionalProperties": False,
        "required": ["kind", "apiVersion", "name"],
        "properties": {"kind": _TEXT, "apiVersion": _TEXT, "name": _TEXT, "patch": {"type": "array"}},
    },
    "topology": _TEXT,
    "swap-slots": {"const": True},
}
_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "part", "defect", "seed", "suite", "test", "message"],
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z0-9-]+$"},
            "part": {"enum": list(PARTS)},
            "defect": _TEXT,
            "seed": {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
                "properties": _SEEDS,
            },
            "suite": _TEXT,
            "test": _TEXT,
            "message": _TEXT,
            "passes": {"type": "array", "items": _TEXT},
            "sample": {"type": "boolean"},
        },
    },
}


@dataclass(frozen=True)
class Fault:
    """A defect, how it gets into a running system, and the test that must fail because of it."""

    name: str
    part: str
    """One of PARTS."""
    defect: str
    """What is wrong, for people."""
    kind: str
    """What is changed; a method of ``Seeder``."""
    change: Any
    suite: str
    test: str
    """The test that must fail."""
    message: re.Pattern[str]
    """Found in its message: names the cause."""
    passes: tuple[str, ...]
    """Tests of the suite that run before it and must pass: what they check is intact."""
    sample: bool
    """Whether ``make test`` has it."""

    @property
    def tests(self) -> tuple[str, ...]:
        """All tests that are run."""
        return (*self.passes, self.test)


@dataclass(frozen=True)
class Verdict:
    """Which test noticed a fault."""

    fault: Fault
    caught_by: str
    """``right test``, ``wrong test`` or ``none``; ``no verdict`` if the fault could not be seeded."""
    reason: str
    """Message of the failed test, or why another verdict."""


def load(path: Path = CATALOGUE) -> list[Fault]:
    """Read the catalogue. Raises StepError with the line's place, what was expected and what was found."""
    items = yaml.safe_load(path.read_text())
    if wrong := schema.complaint(_SCHEMA, items):
        raise StepError(f"{path}: {wrong}")
    faults = [_fault(path, item) for item in items]
    names = [fault.name for fault in faults]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise StepError(f"{path}: expected each name once, found {', '.join(twice)} twice")
    return faults


def _fault(path: Path, item: Mapping[str, Any]) -> Fault:
    ((kind, change),) = item["seed"].items()
    try:
        message = re.compile(item["message"])
    except re.error as error:
        raise StepError(f"{path}: {item['name']}: message: {error}") from error
    return Fault(
        item["name"],
        item["part"],
        item["defect"],
        kind,
        change,
        item["suite"],
        item["test"],
        message,
        tuple(item.get("passes", ())),
        item.get("sample", False),
    )


def names_of_tests(suite: str) -> list[str]:
    """Names of the tests of ``suites/<suite>.robot``, in order."""
    return [test.name for test in TestSuite.from_file_system(PROJECT / f"suites/{suite}.robot").all_tests]


def judge(fault: Fault, ended: Mapping[str, Ended]) -> Verdict:
    """Judge how the tests of a system with ``fault`` ended; those that did not run are missing."""
    red = {name: test.message for name, test in ended.items() if test.status == "FAIL"}
    if not red:
        skipped = [f"{name} was skipped: {test.message}" for name, test in ended.items() if test.status == "SKIP"]
        return Verdict(fault, "none", "; ".join(skipped) or "every test passed")
    name, message = next(iter(red.items()))
    if name != fault.test:
        return Verdict(fault, "wrong test", f"{name}: {message}")
    if not fault.message.search(message):
        return Verdict(fault, "wrong test", f"the message does not name the cause: {message}")
    return Verdict(fault, "right test", message)
