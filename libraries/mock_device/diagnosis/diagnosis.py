"""``lab diagnose``: checks the way from the device server to the container, up to the first broken step.

The steps belong to three issues: devices are not discovered, allocation fails,
CDI is not applied. Causes come before effects: the first broken step is the one
to fix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mock_device.checks.nodes.session import Session
from mock_device.diagnosis import allocation_steps, cdi_steps, discovery_steps
from mock_device.diagnosis.live_snapshot import LiveSnapshot
from mock_device.diagnosis.snapshot import Snapshot, check_pod
from mock_device.diagnosis.steps import Step, of_cluster, one_line, take
from mock_device.lab.base.defaults import DEFAULT_NAME
from mock_device.lab.base.tables import Note, Table

STEPS: tuple[Step, ...] = (*discovery_steps.STEPS, *allocation_steps.STEPS, *cdi_steps.STEPS)
OK, BROKEN, NOT_REACHED = "ok", "BROKEN", "not reached"


@dataclass(frozen=True)
class StepResult:
    """The result of one step."""

    issue: str
    step: str
    result: str
    """``ok``, ``BROKEN`` or ``not reached``."""
    evidence: str = ""
    """One line."""
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """The results of all steps, and the remedy for the broken one."""

    steps: tuple[StepResult, ...]
    remedy: str = ""
    """A command; empty when nothing is broken."""

    @property
    def broken(self) -> StepResult | None:
        """The first broken step."""
        return next((step for step in self.steps if step.result == BROKEN), None)

    @property
    def healthy(self) -> bool:
        return self.broken is None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        broken = self.broken.step if self.broken else None
        return {"healthy": self.healthy, "broken": broken, **asdict(self)}


def walk(snapshot: Snapshot, steps: Sequence[Step] = STEPS) -> Diagnosis:
    """Check the steps until one is broken."""
    results: list[StepResult] = []
    remedy = ""
    for step in of_cluster(steps, snapshot):
        if remedy:
            results.append(StepResult(step.issue.value, step.name, NOT_REACHED))
            continue
        finding = take(step, snapshot)
        remedy = finding.remedy
        result = BROKEN if remedy else OK
        details = (*finding.complaints, *finding.notes())
        results.append(StepResult(step.issue.value, step.name, result, one_line(finding.evidence), details))
    return Diagnosis(tuple(results), remedy)


def diagnose(session: Session, pod: str | None = None) -> Diagnosis:
    """Diagnose the session's cluster in its current state.

    With ``pod`` (``namespace/name``) only its claims are checked; CheckError
    if there is no such pod.
    """
    snapshot = LiveSnapshot(session, pod)
    if pod:
        check_pod(snapshot)
    found = walk(snapshot)
    if found.remedy and session.cluster.name != DEFAULT_NAME:
        return Diagnosis(found.steps, f"export LAB_CLUSTER={session.cluster.name}; {found.remedy}")
    return found


def differences(found: Diagnosis, step: str, evidence: str, remedy: str) -> list[str]:
    """How a diagnosis differs from the expected broken ``step``, and texts in its ``evidence`` and ``remedy``."""
    if found.broken is None:
        return [f"expected {step!r} to be broken, found nothing broken"]
    pairs = [
        ("step", step, found.broken.step),
        ("evidence", evidence, found.broken.evidence),
        ("remedy", remedy, found.remedy),
    ]
    return [f"expected {what} {wanted!r}, found {text!r}" for what, wanted, text in pairs if wanted not in text]


def table(diagnosis: Diagnosis, *, details: bool = False) -> Table:
    """One row per step, with its ``details`` below; then the broken step and its remedy, or that nothing is broken."""
    rows: list[tuple[str, ...] | Note] = []
    for step in diagnosis.steps:
        rows.append((step.issue, step.step, step.result, step.evidence or "-"))
        if details:
            rows += [("", "", "", line) for line in step.details]
    if diagnosis.broken:
        rows.append(Note("broken", f"{diagnosis.broken.step}: {diagnosis.broken.evidence}"))
        rows.append(Note("remedy", diagnosis.remedy))
    else:
        rows.append(Note("healthy", "nothing is broken"))
    styles = {OK: "green", BROKEN: "bold red", NOT_REACHED: "dim"}
    return Table(("issue", "step", "result", "evidence"), rows, wraps=("evidence",), styles=styles)


def names(steps: Iterable[Step] = STEPS) -> list[str]:
    """Names of the steps, in order."""
    return [step.name for step in steps]
