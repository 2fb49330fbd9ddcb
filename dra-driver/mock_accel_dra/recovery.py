"""Recover devices by a reset: a device that hangs or had a fatal error is reset once.

The reset waits for some seconds, so that taint, health and events are seen and users can look at the device. If the
device still has the problem afterwards, an administrator must act; it is reset again only after it was healthy.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from mock_accel_dra import discovery, klog, problems
from mock_accel_dra.discovery import Device, DeviceError
from mock_accel_dra.identity import Identity, of
from mock_accel_dra.state import State

_MOST_RESETS, _PERIOD_SECONDS = 5, 600.0
"""Resets of one device per period, for one that gets a problem again and again."""
_LIMIT_SECONDS, _LOOK_SECONDS = 15.0, 1.0
"""The module resets a device in the background: how long that may take, and how often to look meanwhile."""
_NEVER = float("inf")


class Observer(Protocol):
    """Receives the result of each reset."""

    def was_reset(self, device: Device, error: str) -> None:
        """``device``, as it was before, was reset; ``error`` says why that failed, empty if it did not."""


class Recovery:
    """Resets devices. Not thread-safe."""

    def __init__(
        self,
        *,
        sysfs: Path,
        state: State,
        observer: Observer,
        delay: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``delay``: seconds from the first sight of a problem until the reset; infinite for no resets."""
        self._sysfs = sysfs
        self._state = state
        self._observer = observer
        self._delay = delay
        self._clock = clock
        self._waiting: dict[Identity, float] = {}
        """When each device with a problem is to be reset."""
        self._running: dict[Identity, tuple[Device, float]] = {}
        """Devices as they were before their reset, and when it must have ended."""
        self._tried: set[Identity] = set()
        """Devices that were reset and not healthy since."""
        self._resets: dict[Identity, deque[float]] = {}

    @property
    def due(self) -> float:
        """Time by the clock at which ``look`` has work; infinite if no device waits for a reset or its result."""
        return min(self._clock() + _LOOK_SECONDS if self._running else _NEVER, *self._waiting.values(), _NEVER)

    def look(self, devices: Sequence[Device]) -> None:
        """Reset the devices that are due, and report the results of earlier resets.

        ``devices`` is the result of a scan. Raises OSError if the state cannot be locked.
        """
        found = {of(device): device for device in devices}
        self._report(found)
        self._note(found)
        for identity in [identity for identity, when in self._waiting.items() if when <= self._clock()]:
            del self._waiting[identity]
            self._reset(found[identity])

    def _report(self, found: dict[Identity, Device]) -> None:
        for identity, (before, until) in list(self._running.items()):
            problem = found[identity].problem if identity in found else problems.UNPLUGGED
            if problem in problems.AFTER_A_RESET and self._clock() < until:
                continue
            del self._running[identity]
            self._ended(before, problems.message(problem) if problem in problems.AFTER_A_RESET else "")

    def _note(self, found: dict[Identity, Device]) -> None:
        """Update who waits for a reset."""
        sick = {identity for identity, device in found.items() if device.problem in problems.RECOVERABLE}
        unhealthy = {identity for identity, device in found.items() if device.problem in problems.AFTER_A_RESET}
        self._tried &= unhealthy
        self._waiting = {identity: when for identity, when in self._waiting.items() if identity in sick}
        for identity in sick - self._tried - self._waiting.keys():
            if self._may_reset(identity):
                self._waiting[identity] = self._clock() + self._delay
            else:
                self._tried.add(identity)
                klog.warning(
                    "Device gets problems again and again, not reset",
                    device=identity,
                    resets=_MOST_RESETS,
                    seconds=_PERIOD_SECONDS,
                )

    def _may_reset(self, identity: Identity) -> bool:
        times = self._resets.setdefault(identity, deque(maxlen=_MOST_RESETS))
        return len(times) < _MOST_RESETS or self._clock() - times[0] > _PERIOD_SECONDS

    def _reset(self, device: Device) -> None:
        identity = of(device)
        with self._state.locked():  # a reset clears registers that prepare has just written and reads back
            try:
                now = discovery.read_device(self._sysfs, device.name)
                if of(now) != identity or now.problem not in problems.RECOVERABLE:
                    return
                self._tried.add(identity)
                self._resets[identity].append(self._clock())
                klog.warning("Resetting device", device=device.name, problem=now.problem)
                discovery.set_attribute(self._sysfs, device.name, "reset", "1")
            except (OSError, DeviceError) as failure:
                self._ended(device, str(failure))
                return
        self._running[identity] = device, self._clock() + _LIMIT_SECONDS

    def _ended(self, before: Device, error: str) -> None:
        if error:
            klog.error("Device is not recovered by a reset", device=before.name, problem=before.problem, err=error)
        else:
            klog.info(klog.STATE, "Device is recovered by a reset", device=before.name, problem=before.problem)
        self._observer.was_reset(before, error)
