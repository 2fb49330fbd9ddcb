"""Health of devices in words of the kernel module, and figures for metrics."""

from __future__ import annotations

import pytest
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import figures, problems
from mock_accel_dra.discovery import read_device


@pytest.mark.parametrize(
    ("word", "problem", "message"),
    [
        (None, "", ""),
        ("ok", "", ""),
        ("hung", "Hung", "a job did not end in time"),
        ("fatal", "FatalError", "reported a fatal error"),
        ("no-firmware", "NoFirmware", "has no firmware"),
        ("hot", "Hot", "above its limit"),
        ("over-current", "OverCurrent", "the kernel module reports the problem OverCurrent"),
        ("2 fans", "Unhealthy", "the kernel module reports the problem Unhealthy"),
        ("", "Unhealthy", "look at the node's dmesg"),
        ("x" * 64, "Unhealthy", "look at the node's dmesg"),
    ],
)
def test_each_word_is_a_problem_with_a_message(word: str | None, problem: str, message: str) -> None:
    assert problems.of_health(word) == problem
    assert message in problems.message(problem)


def test_health_is_read_with_the_device(sysfs: SysfsTree) -> None:
    sysfs.add("mock0", "0000:11:00.0", window=1 << 20)
    sysfs.add("mock1", "0000:12:00.0")
    sysfs.write("mock0", "health", "no-firmware")
    assert read_device(sysfs.root, "mock0").problem == "NoFirmware"
    assert read_device(sysfs.root, "mock1").problem == ""


def test_figures(sysfs: SysfsTree) -> None:
    sysfs.add("mock0", "0000:11:00.0", window=1 << 20)
    sysfs.write("mock0", "jobs", "12")
    found = figures.read(sysfs.root, "mock0")
    assert found.counters == {"jobs": 12, "jobs_failed": 0, "bytes": 0, "hangs": 0}
    assert found.celsius == {"temperature": 41.5, "temperature_limit": 95.0}


@pytest.mark.parametrize("text", ["", "many"])
def test_figures_of_a_device_that_does_not_respond(sysfs: SysfsTree, text: str) -> None:
    sysfs.add("mock0", "0000:11:00.0", window=1 << 20)
    sysfs.write("mock0", "bytes", text)
    assert figures.read(sysfs.root, "mock0") == figures.Figures({}, {})


def test_figures_of_an_older_module(sysfs: SysfsTree) -> None:
    sysfs.add("mock0", "0000:11:00.0")
    assert figures.read(sysfs.root, "mock0") == figures.Figures({}, {})
