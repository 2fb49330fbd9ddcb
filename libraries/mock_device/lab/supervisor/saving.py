"""Saves a running cluster for its supervisor, and sets the clocks of restored guests."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import psutil

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.processes import Children
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.guest.monitor import Monitor
from mock_device.lab.supervisor.place import Place

_POLL_SECONDS = 0.05
_CLOCK_ERROR_SECONDS = 0.5


async def save(
    children: Children,
    place: Place,
    monitors: Mapping[str, Monitor],
    data: Path,
    folder: Path,
    addresses: Collection[str],
) -> None:
    """Stop the control plane at ``place`` and all guests, and write them to ``folder``.

    What runs on this machine stops first: the guests see their connections end, and
    connect again as soon as they are restored. Otherwise they would wait for
    answers on connections that no longer exist. Raises MonitorError, OSError.
    """
    await place.end()
    await _connections_closed(addresses)
    await asyncio.gather(*(monitor.save(folder / f"{node}.ram") for node, monitor in monitors.items()))
    for node, monitor in monitors.items():
        await monitor.quit()
        await children.end(f"qemu-{node}")
        shutil.move(data / f"{node}.qcow2", folder / f"{node}.qcow2")
    await asyncio.to_thread(place.save, folder)


async def _connections_closed(addresses: Collection[str]) -> None:
    """Wait until no TCP connection to ``addresses`` is left, for Timeout.CONNECTIONS_CLOSED at most."""
    deadline = time.monotonic() + Timeout.CONNECTIONS_CLOSED.seconds
    while time.monotonic() < deadline:
        connections = psutil.net_connections("tcp")
        live = [
            item for item in connections if item.raddr and item.raddr.ip in addresses and item.status != "TIME_WAIT"
        ]
        if not live:
            return
        await asyncio.sleep(_POLL_SECONDS)


async def set_clock(port: Path) -> None:
    """Set the clock of a guest, which listens on the serial port ``port`` (a Unix socket).

    Tries again until the guest confirms within 0.5 s; its clock is then slow by less
    than that. Raises StepError after Timeout.CLOCK, and when the guest answers anything else.
    """
    reader, writer = await asyncio.open_unix_connection(str(port))
    answer, took = b"", Timeout.CLOCK.seconds
    try:
        async with asyncio.timeout(Timeout.CLOCK.seconds):
            while took > _CLOCK_ERROR_SECONDS:
                begin = time.monotonic()
                writer.write(f"{time.time():.3f}\n".encode())
                await writer.drain()
                answer = await reader.readline()
                if answer.strip() != b"set":
                    break
                took = time.monotonic() - begin
    except TimeoutError:
        pass
    finally:
        writer.close()
    if took > _CLOCK_ERROR_SECONDS:
        found = f"the last try took {took:.1f} s" if answer.strip() == b"set" else f"it answered {answer!r}"
        raise StepError(f"{port.parent.name} has not set its clock in {Timeout.CLOCK.seconds:.0f} s: {found}")
