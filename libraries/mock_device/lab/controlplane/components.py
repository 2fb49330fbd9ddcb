"""Processes of a control plane, and when they are ready."""

from __future__ import annotations

import asyncio
import http.client
import time
from dataclasses import dataclass, field

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.processes import Child
from mock_device.lab.controlplane import https
from mock_device.lab.controlplane.pki import Identity

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_POLL_SECONDS = 0.1
_OK = 200


@dataclass(frozen=True)
class Readiness:
    """A component is ready when ``url`` answers 200 to ``identity``."""

    url: str
    identity: Identity | None
    timeout: float
    """Seconds from the start of the component; long, because machines without hardware virtualisation are slow."""
    shows: str = ""
    """Text in the answer of a ready component, for one that answers 200 before it is ready."""

    def probe(self) -> str:
        """Ask once. Returns an empty string when the component is ready, else the reason why not."""
        try:
            status, body = https.request(self.url, self.identity)
        except (OSError, http.client.HTTPException) as error:
            return f"{self.url}: {error}"
        if status == _OK:
            return "" if self.shows in body else f"{self.url} does not show {self.shows} yet: {body.strip()[:300]}"
        failed = [line for line in body.splitlines() if line.startswith("[-]")]
        return f"{self.url} answered {status}: {'; '.join(failed) or body.strip()[:300]}"


@dataclass(frozen=True)
class Component:
    """A process of the control plane."""

    name: str
    argv: list[str]
    readiness: Readiness
    after: tuple[str, ...] = ()
    """Components that must be ready before this one starts."""
    env: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    """The whole environment."""
    needed_by_nodes: bool = True
    """False: nodes may boot before it is ready."""


async def wait_ready(component: Component, child: Child) -> None:
    """Wait until ``component``, which runs as ``child``, is ready.

    Raises StepError when the process has ended, or, with the last answer, when the
    component's time-out has passed.
    """
    deadline = time.monotonic() + component.readiness.timeout
    while reason := await asyncio.to_thread(component.readiness.probe):
        if child.process.returncode is not None:
            raise StepError(f"{component.name} ended with {child.process.returncode} before it was ready", child.log)
        if time.monotonic() > deadline:
            message = f"{component.name} is not ready after {component.readiness.timeout:.0f} s: {reason}"
            raise StepError(message, child.log)
        await asyncio.sleep(_POLL_SECONDS)
