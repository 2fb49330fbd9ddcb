"""Failures of Kubernetes' own tests that are understood: ``variables/failures/kubernetes-e2e.yaml``."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from mock_device.acceptance.ginkgo_report import State, Test
from mock_device.lab.base import schema
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT

KUBERNETES_E2E = PROJECT / "variables" / "failures" / "kubernetes-e2e.yaml"
SCHEMA = PROJECT / "variables" / "failures.schema.json"


class Verdict(Enum):
    """What a result means, worst first."""

    UNKNOWN = "unknown failure"
    OURS = "fails: ours"
    UPSTREAM = "fails: upstream"
    MISSING_IMAGE = "fails: missing image"
    FIXED = "passes now"
    """It is listed as a failure."""
    PASSED = "passed"
    SKIPPED = "skipped"
    NOT_RUN = "not run"


_CAUSES = {"ours": Verdict.OURS, "upstream": Verdict.UPSTREAM, "missing-image": Verdict.MISSING_IMAGE}


@dataclass(frozen=True)
class Known:
    """A failure that is understood."""

    test: str
    message: re.Pattern[str]
    verdict: Verdict
    reason: str
    reference: str


@dataclass(frozen=True)
class KnownFailures:
    """The list, and the version of Kubernetes whose tests made it."""

    kubernetes: str
    failures: tuple[Known, ...]


@dataclass(frozen=True)
class Judged:
    """A test with the meaning of its result."""

    test: str
    verdict: Verdict
    seconds: float
    reason: str = ""
    """Of a failure, a skip, or why it did not run."""
    reference: str = ""


def load(path: Path) -> KnownFailures:
    """Read a list of known failures. Raises StepError with file and reason."""
    try:
        fields: Any = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise StepError(f"{path}: cannot be read: {error}") from error
    if wrong := schema.complaint(json.loads(SCHEMA.read_text()), fields):
        raise StepError(f"{path}: {wrong}")
    return KnownFailures(fields["kubernetes"], tuple(_known(path, entry) for entry in fields["failures"]))


def _known(path: Path, entry: dict[str, str]) -> Known:
    try:
        message = re.compile(entry["message"])
    except re.error as error:
        raise StepError(f"{path}: {entry['test']}: message: expected a regular expression: {error}") from error
    return Known(entry["test"], message, _CAUSES[entry["cause"]], entry["reason"], entry["reference"])


def unknown_tests(known: KnownFailures, names: Collection[str]) -> list[str]:
    """Tests of the list that the suite does not have, by the ``names`` of its tests."""
    return sorted({item.test for item in known.failures} - set(names))


def judge(tests: Sequence[Test], known: KnownFailures, gates_on: Collection[str]) -> list[Judged]:
    """The meaning of each result, worst first, then by name. ``gates_on`` are the feature gates that are on."""
    judged = [_judge(test, [item for item in known.failures if item.test == test.name], gates_on) for test in tests]
    order = list(Verdict)
    return sorted(judged, key=lambda item: (order.index(item.verdict), item.test))


def _judge(test: Test, known: Sequence[Known], gates_on: Collection[str]) -> Judged:
    match test.state:
        case State.FAILED:
            for item in known:
                if item.message.search(test.message):
                    return Judged(test.name, item.verdict, test.seconds, item.reason, item.reference)
            return Judged(test.name, Verdict.UNKNOWN, test.seconds, _of_unknown(test, known))
        case State.PASSED if known:
            reason = f"is listed as a failure ({known[0].reason}); remove it from the list if it passes again"
            return Judged(test.name, Verdict.FIXED, test.seconds, reason, known[0].reference)
        case State.PASSED:
            return Judged(test.name, Verdict.PASSED, test.seconds)
        case State.SKIPPED:
            return Judged(test.name, Verdict.SKIPPED, test.seconds, one_line(test.message))
        case State.NOT_RUN:
            off = sorted(test.gates - set(gates_on))
            reason = f"feature gate {', '.join(off)} is off" if off else "not selected"
            return Judged(test.name, Verdict.NOT_RUN, test.seconds, reason)


def _of_unknown(test: Test, known: Sequence[Known]) -> str:
    parts = [one_line(test.message) or "no message"]
    if test.missing_images:
        parts.append(f"no node has the image {', '.join(test.missing_images)}")
    if known:
        parts.append("it is listed with another message")
    return "; ".join(parts)


def one_line(message: str, characters: int = 300) -> str:
    """``message`` without line breaks and tabs, cut off after so many characters."""
    text = " ".join(message.split())
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
