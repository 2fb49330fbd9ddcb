"""Figures of devices for metrics, read from sysfs at each scrape: counters and temperature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mock_accel_dra import klog
from mock_accel_dra.discovery import class_folder

COUNTERS = ("jobs", "jobs_failed", "bytes", "hangs")
"""Attributes that only grow while the module is loaded."""
_TEMPERATURES = {"temp1_input": "temperature", "temp1_max": "temperature_limit"}
"""Attributes in thousandths of a degree Celsius, as in Documentation/hwmon/sysfs-interface.rst of the kernel."""


@dataclass(frozen=True)
class Figures:
    """Figures of one device; those that its kernel module does not have are missing."""

    counters: Mapping[str, int]
    celsius: Mapping[str, float]
    """``temperature`` and ``temperature_limit``."""


def read(sysfs: Path, name: str) -> Figures:
    """Figures of device ``name``; empty ones if it does not respond."""
    folder = class_folder(sysfs) / name
    try:
        counters = {item: int(text) for item in COUNTERS if (text := _text(folder / item)) is not None}
        return Figures(counters, _celsius(folder))
    except (OSError, ValueError) as error:
        klog.info(klog.OPERATION, "Figures cannot be read", device=name, err=error)
        return Figures({}, {})


def _celsius(folder: Path) -> dict[str, float]:
    """Temperatures, which the module shows in the device's folder: the nodes' kernel has no hwmon."""
    found = {what: _text(folder / attribute) for attribute, what in _TEMPERATURES.items()}
    return {what: int(text) / 1000 for what, text in found.items() if text is not None}


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
