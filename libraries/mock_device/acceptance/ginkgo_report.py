"""Reads the JSON report of a ginkgo suite (ginkgo 2, ``types.Report`` and ``types.SpecReport`` in types/types.go)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mock_device.lab.base.errors import StepError

_TEST = "It"
_NANOSECONDS = 1e9
_GATE = "FeatureGate:"
_PULL = re.compile(r"(?:Failed to pull image|Back-off pulling image|pulling image) \\?\"([^\"\\]+)")
_FAILED = {"failed", "panicked", "interrupted", "timedout", "aborted"}


class State(StrEnum):
    """How a test ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """The test itself has decided so while it ran; ``message`` says why."""
    NOT_RUN = "not run"
    """It was not selected, or is marked as pending."""


@dataclass(frozen=True)
class Test:
    """A test of the suite."""

    __test__ = False  # not a class of tests, for pytest

    name: str
    """Full: the texts of its containers and its own."""
    state: State
    seconds: float
    message: str = ""
    """Of the failures, or of the skip."""
    labels: tuple[str, ...] = ()
    missing_images: tuple[str, ...] = ()
    """Images that, by the events in the output, could not be pulled."""

    @property
    def gates(self) -> frozenset[str]:
        """Feature gates that it needs."""
        return frozenset(label.removeprefix(_GATE) for label in self.labels if label.startswith(_GATE))


@dataclass(frozen=True)
class Report:
    """A run of a suite."""

    tests: tuple[Test, ...]
    seconds: float
    problems: tuple[str, ...] = field(default=())
    """Why the run is incomplete, beyond failed tests: set-up or clean-up of the suite failed, or the time was over."""


def read(path: Path) -> Report:
    """Read the report of one suite. Raises StepError with what was expected and found."""
    try:
        suites = json.loads(path.read_bytes())
        (suite,) = suites
        nodes = suite["SpecReports"] or []
        tests = tuple(_test(node) for node in nodes if node["LeafNodeType"] == _TEST)
        reasons = tuple(" ".join(reason.split()) for reason in suite["SpecialSuiteFailureReasons"] or [])
        broken = tuple(
            f"{node['LeafNodeType']}: {_message(node)}"
            for node in nodes
            if node["LeafNodeType"] != _TEST and node["State"] in _FAILED
        )
        return Report(tests, suite["RunTime"] / _NANOSECONDS, reasons + broken)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise StepError(f"{path}: expected a JSON report of ginkgo with one suite: {error!r}") from error


def _test(node: Mapping[str, Any]) -> Test:
    texts = [*(node["ContainerHierarchyTexts"] or []), node["LeafNodeText"]]
    containers = node["ContainerHierarchyLabels"] or []
    labels = [label for group in containers for label in group or []] + (node["LeafNodeLabels"] or [])
    state = _state(node)
    images = _PULL.findall(node.get("CapturedGinkgoWriterOutput") or "") if state is State.FAILED else []
    return Test(
        name=" ".join(text for text in texts if text),
        state=state,
        seconds=node["RunTime"] / _NANOSECONDS,
        message=_message(node),
        labels=tuple(dict.fromkeys(labels)),
        missing_images=tuple(sorted(set(images))),
    )


def _state(node: Mapping[str, Any]) -> State:
    state = node["State"]
    if state in _FAILED:
        return State.FAILED
    if state == "passed":
        return State.PASSED
    if state == "skipped" and _message(node):
        return State.SKIPPED
    if state in ("skipped", "pending"):
        return State.NOT_RUN
    raise ValueError(f"unknown state {state!r}")


def _message(node: Mapping[str, Any]) -> str:
    """Messages of the failure and of those that followed it, for example in the clean-up."""
    failures = [node.get("Failure") or {}]
    failures += [item["Failure"] for item in node.get("AdditionalFailures") or []]
    parts = []
    for failure in failures:
        parts += [failure.get("Message") or "", failure.get("ForwardedPanic") or ""]
        if following := failure.get("AdditionalFailure"):
            parts.append(following["Failure"].get("Message") or "")
    return "\n".join(dict.fromkeys(part for part in parts if part))
