"""The cluster's container registry, a process on the bridge address."""

from __future__ import annotations

import asyncio
import time
from http.client import HTTPException
from pathlib import Path

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.processes import Children
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.controlplane import https
from mock_device.lab.controlplane.addresses import HOST_ADDRESS, REGISTRY_NAME, REGISTRY_PORT

NAME = "registry"
_OK = 200
_POLL_SECONDS = 0.05


def argv(program: Path, folder: Path, *, internet: bool) -> list[str]:
    """Command line of the registry, which keeps layers in ``folder``."""
    names = ",".join((REGISTRY_NAME, HOST_ADDRESS, "localhost", "127.0.0.1"))
    command = [str(program), f"--address={HOST_ADDRESS}:{REGISTRY_PORT}", f"--folder={folder}", f"--names={names}"]
    return [*command, "--internet"] if internet else command


def _problem() -> str:
    """Why the registry is not ready; empty if it is."""
    try:
        status, _ = https.request(f"http://{HOST_ADDRESS}:{REGISTRY_PORT}/v2/")
    except (OSError, HTTPException) as error:
        return str(error)
    return "" if status == _OK else f"it answered {status}"


async def start(children: Children, program: Path, data: Path, *, internet: bool) -> None:
    """Start the registry and wait until it answers. Raises StepError."""
    child = await children.start(NAME, argv(program, data / "registry", internet=internet), cwd=data)
    deadline = time.monotonic() + Timeout.REGISTRY.seconds
    while problem := await asyncio.to_thread(_problem):
        if child.process.returncode is not None:
            raise StepError(f"{NAME} ended with {child.process.returncode} before it was ready", child.log)
        if time.monotonic() > deadline:
            raise StepError(f"{NAME} is not ready after {Timeout.REGISTRY.seconds:.0f} s: {problem}", child.log)
        await asyncio.sleep(_POLL_SECONDS)
