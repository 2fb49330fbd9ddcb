"""Faults on demand of a device: ``vfio-user/README.md``, section "Faults on demand"."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MOST_MILLISECONDS = 600_000
"""Of SLOW, for each job."""
LEAST_CELSIUS, MOST_CELSIUS = -273, 1000
"""Of TEMPERATURE."""


class Fault(Enum):
    """Names of the faults in requests; the device itself implements all but DIE."""

    HANG_NEXT_JOB = "hang-next-job"
    WRONG_RESULT = "wrong-result"
    SLOW = "slow"
    AER_CORRECTABLE = "aer-correctable"
    AER_FATAL = "aer-fatal"
    ERR_INTERRUPT = "err-interrupt"
    WRONG_ID = "wrong-id"
    TEMPERATURE = "temperature"
    DIE = "die"
    CLEAR = "clear"


@dataclass
class JobFaults:
    """Faults that change how jobs end. Needs the device's lock."""

    hang_next: bool = False
    hanging: bool = False
    """A job hangs until the ring stops, or the faults are cleared."""
    wrong_next: bool = False
    slow_milliseconds: int = 0

    def take_hang(self) -> bool:
        """Whether the job that starts hangs."""
        self.hanging, self.hang_next = self.hang_next, False
        return self.hanging

    def take_wrong(self) -> bool:
        """Whether the job that starts has a wrong result."""
        taken, self.wrong_next = self.wrong_next, False
        return taken

    def clear(self) -> None:
        """End all of them."""
        self.hang_next = self.hanging = self.wrong_next = False
        self.slow_milliseconds = 0
