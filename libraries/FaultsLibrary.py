"""Robot Framework library: faults on demand of devices, and where they can be seen."""

from __future__ import annotations

import secrets
from datetime import timedelta

from mock_accel_server.faults import Fault
from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import device_metrics
from mock_device.checks.nodes import device_nodes, session
from mock_device.checks.nodes.sysfs import CLASS_FOLDER
from mock_device.checks.waiting import until_no_complaints
from mock_device.lab.base.timeouts import Timeout
from mock_device.tools import faults
from mock_device.tools.faults import DeviceState
from mock_device.topology import DeviceId


@library(scope="GLOBAL", auto_keywords=False)
class FaultsLibrary:
    """Causes faults as ``lab fault`` does, and reads what node, module and node agent show of them."""

    def __init__(self) -> None:
        self._faulty: set[DeviceId] = set()

    @keyword
    def cause_fault(
        self,
        node: str,
        device: str,
        fault: Fault,
        milliseconds: int | None = None,
        celsius: float | None = None,
        off: bool = False,
    ) -> DeviceState:
        """Cause ``fault`` of ``device`` (name in sysfs), and return what its server says after it.

        ``milliseconds`` is for SLOW, ``celsius`` for TEMPERATURE, ``off`` ends WRONG_ID. `End All Faults` undoes it.
        """
        self._faulty.add(DeviceId(node, device))
        arguments = faults.arguments_of(fault, milliseconds=milliseconds, celsius=celsius, off=off)
        return _logged(faults.inject(session.current(), node, device, fault, arguments))

    @keyword
    def end_faults(self, node: str, device: str) -> None:
        """End all faults of ``device``. After DIE its slot must be unplugged and plugged."""
        _logged(faults.clear(session.current(), node, device))
        self._faulty.discard(DeviceId(node, device))

    @keyword
    def end_all_faults(self) -> None:
        """End the faults that `Cause Fault` has caused."""
        for key in sorted(self._faulty):
            self.end_faults(key.node, key.name)

    @keyword(tags=["wait"])
    def server_should_show_faults(
        self, node: str, device: str, *expected: str, timeout: timedelta = Timeout.NODE_STATE.nominal
    ) -> None:
        """Wait until the device server has exactly these faults on, as ``lab fault NODE DEVICE --show`` names them.

        A job that hangs is the fault ``hanging``.
        """
        current = session.current()
        until_no_complaints(
            lambda: faults.complaints(_logged(faults.show(current, node, device)), expected), timeout, "device server"
        )

    @keyword(tags=["wait"])
    def device_attribute_should_be(
        self, node: str, device: str, name: str, value: str, timeout: timedelta = Timeout.NODE_STATE.nominal
    ) -> None:
        """Wait until the attribute ``name`` of ``device`` in sysfs is ``value``."""
        current = session.current()
        until_no_complaints(
            lambda: device_nodes.attribute_complaints(current, node, device, name, value), timeout, "sysfs"
        )

    @keyword
    def reset_device_by_its_attribute(self, node: str, device: str) -> None:
        """Request a reset by the attribute ``reset``, as an administrator does, without waiting for its end."""
        session.current().on_node(node, f"echo 1 >{CLASS_FOLDER}/{device}/reset")

    @keyword(tags=["wait"])
    def node_agent_should_report_problem(
        self, node: str, device: str, problem: str, timeout: timedelta = Timeout.TAINTED.nominal
    ) -> None:
        """Wait until the metrics of the node agent name ``problem`` for ``device``; empty for a healthy device."""
        api = session.current().api
        until_no_complaints(
            lambda: device_metrics.problem_complaints(device_metrics.read(api, node), device, problem),
            timeout,
            f"metrics of the node agent of {node}",
        )

    @keyword(tags=["wait"])
    def node_agent_should_report_temperature(
        self, node: str, device: str, celsius: float, timeout: timedelta = Timeout.COUNTED.nominal
    ) -> None:
        """Wait until the metrics of the node agent have this temperature of ``device``."""
        self._wait_for_value(node, device, device_metrics.TEMPERATURE, celsius, timeout)

    @keyword
    def get_number_of_hung_jobs(self, node: str, device: str) -> int:
        """Number of jobs of ``device`` that did not end in time, by the metrics of the node agent."""
        return int(device_metrics.value(device_metrics.read(session.current().api, node), device_metrics.HUNG, device))

    @keyword
    def get_number_of_successful_resets(self, node: str, device: str) -> int:
        """Number of resets by the driver after which ``device`` was healthy, by the metrics of the node agent."""
        text = device_metrics.read(session.current().api, node)
        return int(device_metrics.value(text, device_metrics.RESETS, device, result="ok"))

    @keyword(tags=["wait"])
    def number_of_hung_jobs_should_be(
        self, node: str, device: str, count: int, timeout: timedelta = Timeout.TAINTED.nominal
    ) -> None:
        """Wait until the metrics of the node agent count this many jobs of ``device`` that did not end in time."""
        self._wait_for_value(node, device, device_metrics.HUNG, count, timeout)

    @keyword(tags=["wait"])
    def number_of_successful_resets_should_be(
        self, node: str, device: str, count: int, timeout: timedelta = Timeout.TAINTED.nominal
    ) -> None:
        """Wait until the metrics of the node agent count this many resets of ``device`` that have helped."""
        self._wait_for_value(node, device, device_metrics.RESETS, count, timeout, result="ok")

    @keyword
    def mark_kernel_log(self, node: str) -> str:
        """Write a mark to the kernel log of ``node``, and return it."""
        mark = f"mock-device-suite-{secrets.token_hex(4)}"
        device_nodes.mark_kernel_log(session.current(), node, mark)
        return mark

    @keyword(tags=["wait"])
    def kernel_log_should_show(
        self, node: str, mark: str, text: str, timeout: timedelta = Timeout.NODE_STATE.nominal
    ) -> None:
        """Wait until a line after ``mark`` in the kernel log of ``node`` contains ``text``."""
        current = session.current()
        until_no_complaints(
            lambda: device_nodes.kernel_log_complaints(current, node, mark, text), timeout, "kernel log"
        )

    def _wait_for_value(
        self, node: str, device: str, name: str, expected: float, timeout: timedelta, **labels: str
    ) -> None:
        api = session.current().api
        until_no_complaints(
            lambda: device_metrics.value_complaints(device_metrics.read(api, node), name, device, expected, **labels),
            timeout,
            f"metrics of the node agent of {node}",
        )


def _logged(state: DeviceState) -> DeviceState:
    logger.info(faults.table([state]).as_text())
    return state
