"""What a node agent's metrics say about single devices: counters, temperature, problems."""

from __future__ import annotations

from kubernetes.client import ApiClient

from mock_device.checks.driver import driver, metrics
from mock_device.checks.driver.driver import Component

PREFIX = "mock_accel_device_"
_UNHEALTHY = f"{PREFIX}unhealthy"
TEMPERATURE = "temperature_celsius"
HUNG = "hangs_total"
RESETS = "resets_total"


def read(api: ApiClient, node: str) -> str:
    """Metrics of the node agent of ``node``. Raises CheckError."""
    return metrics.read(api, driver.pod_of(api, Component.NODE_AGENT, node))


def value(text: str, name: str, device: str, **labels: str) -> float:
    """Value of ``mock_accel_device_NAME`` of ``device``; 0 if the agent has no such sample."""
    wanted = {"device": device, **labels}
    found = metrics.samples(text, PREFIX + name)
    return float(sum(item.value for item in found if wanted.items() <= item.labels.items()))


def problem_complaints(text: str, device: str, problem: str) -> list[str]:
    """Whether the metrics name another problem of ``device`` than ``problem``, which is empty for a healthy one."""
    found = [
        sample.labels["problem"]
        for sample in metrics.samples(text, _UNHEALTHY)
        if sample.labels["device"] == device and sample.value
    ]
    if found == ([problem] if problem else []):
        return []
    return [f"{_UNHEALTHY} of {device}: expected {problem or 'no problem'}, found {', '.join(found) or 'no problem'}"]


def value_complaints(text: str, name: str, device: str, expected: float, **labels: str) -> list[str]:
    """Whether a device's metric has another value than ``expected``."""
    found = value(text, name, device, **labels)
    return [] if found == expected else [f"{PREFIX}{name} of {device}: expected {expected:g}, found {found:g}"]
