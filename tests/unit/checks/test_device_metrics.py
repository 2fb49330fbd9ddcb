"""Metrics of single devices, written as the node agent does."""

from __future__ import annotations

from mock_device.checks.driver import device_metrics

TEXT = """\
# HELP mock_accel_device_hangs_total Jobs of a device that did not end in time
# TYPE mock_accel_device_hangs_total counter
mock_accel_device_hangs_total{device="mock0"} 2.0
mock_accel_device_hangs_total{device="mock1"} 0.0
# HELP mock_accel_device_temperature_celsius Temperature of a device
# TYPE mock_accel_device_temperature_celsius gauge
mock_accel_device_temperature_celsius{device="mock0"} 96.0
# HELP mock_accel_device_unhealthy Devices with a problem
# TYPE mock_accel_device_unhealthy gauge
mock_accel_device_unhealthy{device="mock0",problem="Hot"} 1.0
# HELP mock_accel_device_resets_total Resets of devices by the driver
# TYPE mock_accel_device_resets_total counter
mock_accel_device_resets_total{device="mock0",result="ok"} 3.0
mock_accel_device_resets_total{device="mock0",result="error"} 1.0
"""


def test_values_of_a_device() -> None:
    assert device_metrics.value(TEXT, device_metrics.HUNG, "mock0") == 2
    assert device_metrics.value(TEXT, device_metrics.HUNG, "mock7") == 0
    assert device_metrics.value(TEXT, device_metrics.RESETS, "mock0", result="ok") == 3
    assert device_metrics.value_complaints(TEXT, device_metrics.TEMPERATURE, "mock0", 96) == []
    assert device_metrics.value_complaints(TEXT, device_metrics.TEMPERATURE, "mock0", 45) == [
        "mock_accel_device_temperature_celsius of mock0: expected 45, found 96"
    ]


def test_problem_of_a_device() -> None:
    assert device_metrics.problem_complaints(TEXT, "mock0", "Hot") == []
    assert device_metrics.problem_complaints(TEXT, "mock1", "") == []
    assert device_metrics.problem_complaints(TEXT, "mock0", "") == [
        "mock_accel_device_unhealthy of mock0: expected no problem, found Hot"
    ]
    assert device_metrics.problem_complaints(TEXT, "mock1", "Hung") == [
        "mock_accel_device_unhealthy of mock1: expected Hung, found no problem"
    ]
