"""Apply a claim's configuration to a device, through its attributes in sysfs.

The module resets the attributes to their defaults when the device is freed (status 0), so nothing undoes them here.
"""

from __future__ import annotations

from pathlib import Path

from mock_accel_dra import discovery, klog
from mock_accel_dra.configuration import Configuration
from mock_accel_dra.discovery import Device, DeviceError, DeviceSettings
from mock_accel_dra.quantities import quantity

_FIELDS = {"mode": "mode", "job_limit": "maxJobs", "window_limit": "windowSize"}
"""Attribute in sysfs, and the parameter that configures it."""


def wanted(configuration: Configuration) -> dict[str, str]:
    """Attributes in sysfs that ``configuration`` sets, with their values."""
    found = {
        "mode": configuration.mode.lower(),
        "job_limit": configuration.max_jobs,
        "window_limit": configuration.window_size,
    }
    return {name: str(item) for name, item in found.items() if item}


def differences(settings: DeviceSettings, configuration: Configuration) -> dict[str, str]:
    """Attributes in sysfs that must be written because ``settings`` are not as ``configuration`` wants them."""
    found = {"mode": settings.mode, "job_limit": settings.job_limit, "window_limit": settings.window_limit}
    return {name: item for name, item in wanted(configuration).items() if str(found[name]) != item}


def complaint(device: Device, configuration: Configuration) -> str:
    """Why ``device`` cannot be configured so; empty if it can."""
    there = {
        "mode": device.settings.mode is not None,
        "job_limit": device.settings.job_limit is not None,
        "window_limit": device.settings.window_limit is not None,
    }
    missing = [name for name in wanted(configuration) if not there[name]]
    if missing:
        fields = ", ".join(_FIELDS[name] for name in missing)
        return (
            f"parameters.{fields}: expected attribute {', '.join(missing)} of device {device.name}, found none; "
            "the kernel module of this node is too old for it"
        )
    size, window = configuration.window_size, device.window_size
    if size is not None and window is not None and size > window:
        return (
            f"parameters.windowSize: expected at most {quantity(window)}, the window of device {device.name}, "
            f"found {quantity(size)}"
        )
    return ""


def apply(sysfs: Path, device: Device, configuration: Configuration) -> None:
    """Write the attributes that differ. Raises OSError, DeviceError if one does not keep its value."""
    changes = differences(device.settings, configuration)
    for name, item in changes.items():
        try:
            discovery.set_attribute(sysfs, device.name, name, item)
        except OSError as error:
            message = f"{error.strerror}: attribute {name} of device {device.name} does not accept {item}"
            raise OSError(error.errno, message) from error
    if not changes:
        return
    left = differences(discovery.read_settings(sysfs, device.name), configuration)
    if left:
        raise DeviceError(f"device {device.name}: expected {_shown(left)} after writing it, found another value")
    klog.info(klog.OPERATION, "Configured device", device=device.name, settings=_shown(changes))


def _shown(attributes: dict[str, str]) -> str:
    return ", ".join(f"{name} {item}" for name, item in attributes.items())
