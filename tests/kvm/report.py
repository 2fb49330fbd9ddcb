"""How the outer guest reports its steps: lines of JSON over its second serial port.

``{"begin": NAME}``, then ``{"end": NAME, "seconds": …, "failure": …}``; the failure of a step that passed is empty.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kvm.plan import Step

PORT = Path("/dev/ttyS1")
_FAILURE_CHARACTERS = 1000


class Report:
    """The inner side: writes to ``port``."""

    def __init__(self, port: Path = PORT) -> None:
        self._port = port

    @contextmanager
    def step(self, step: Step) -> Iterator[None]:
        """Report begin and end of ``step``, and the exception that ends it."""
        begin = time.monotonic()
        self._send(begin=step.name)
        try:
            yield
        finally:
            error = sys.exc_info()[1]
            failure = "" if error is None else str(error) or type(error).__name__
            self._send(end=step.name, seconds=time.monotonic() - begin, failure=failure[:_FAILURE_CHARACTERS])

    def _send(self, **fields: object) -> None:
        # For each line: several processes report, one after the other.
        with self._port.open("a") as port:
            port.write(f"{json.dumps(fields)}\n")


@dataclass
class Result:
    """What became of a step."""

    step: str
    what: str
    result: str
    """``passed``, ``failed`` or ``not run``."""
    seconds: float
    """Wall time that it took, inside the outer guest except for the boot."""
    reason: str = ""
    """Why it failed."""


@dataclass
class Progress:
    """The outer side: the steps so far, from the lines that ``read`` gets."""

    plan: Sequence[Step]
    results: list[Result] = field(default_factory=list)
    running: Step | None = None
    """The step that has begun and not ended."""

    def read(self, line: str) -> None:
        """Take one line of the report. Raises ValueError if it is none."""
        fields = json.loads(line)
        match fields:
            case {"begin": str(name)}:
                self.running = self._step(name)
            case {"end": str(name), "seconds": int() | float() as seconds, "failure": str(failure)}:
                self.end(self._step(name), seconds, failure)
            case _:
                raise ValueError(f"expected begin or end of a step, found {line!r}")

    def end(self, step: Step, seconds: float, failure: str) -> None:
        """``step`` has ended; ``failure`` is empty if it passed."""
        self.results.append(Result(step.name, step.what, "failed" if failure else "passed", seconds, failure))
        self.running = None

    def _step(self, name: str) -> Step:
        for step in self.plan:
            if step.name == name:
                return step
        raise ValueError(f"expected a step of {', '.join(step.name for step in self.plan)}, found {name!r}")

    @property
    def failed(self) -> bool:
        return any(result.result == "failed" for result in self.results)

    @property
    def complete(self) -> bool:
        """Whether every step of the plan has ended."""
        return len(self.results) == len(self.plan)

    def all(self) -> list[Result]:
        """A result for each step of the plan; those after a failure were not run."""
        ended = {result.step for result in self.results}
        left = (step for step in self.plan if step.name not in ended)
        return [*self.results, *(Result(step.name, step.what, "not run", 0.0) for step in left)]
