"""Robot Framework library: what the driver's pods log (dra-driver/mock_accel_dra/klog.py)."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import driver, logs
from mock_device.checks.driver.driver import Component
from mock_device.checks.driver.logs import KernelAction, LogMark
from mock_device.checks.errors import fail_if_any
from mock_device.checks.nodes import session
from mock_device.checks.waiting import until_no_complaints
from mock_device.lab.base import timeouts
from mock_device.lab.base.timeouts import Timeout


@library(scope="GLOBAL", auto_keywords=False)
class LogsLibrary:
    """Finds messages in the logs of the driver's pods, after a mark.

    Keywords wait for messages that have not been logged yet. Several messages
    must be logged in the given order.
    """

    @keyword
    def mark_log(self, component: Component, node: str | None = None) -> LogMark:
        """Return the present end of the log of ``component`` (of its pod on ``node``)."""
        api = session.current().api
        return driver.mark(api, driver.pod_of(api, component, node))

    @keyword
    def start_of_log(self, component: Component, node: str | None = None) -> LogMark:
        """Return the start of the log of ``component`` (of its pod on ``node``)."""
        return LogMark(driver.pod_of(session.current().api, component, node), 0)

    @keyword(tags=["wait"])
    def log_should_show_kernel_event(
        self, mark: LogMark, action: KernelAction, timeout: timedelta = Timeout.LOG_LINE.nominal
    ) -> None:
        """Wait until a node agent has logged a kernel event with ``action``, and then a change of its devices."""
        _find(mark, [logs.kernel_event(action), logs.DEVICES_CHANGED], timeout)

    @keyword
    def log_should_show_no_kernel_event(self, mark: LogMark) -> None:
        """Check that a node agent has logged no kernel event."""
        lines = logs.after(mark, driver.log_of(session.current().api, mark.pod))
        fail_if_any(logs.matching(lines, logs.KERNEL_EVENT), f"log of {mark.pod}: expected no kernel event, found:")
        logger.info(f"none of {len(lines)} lines")

    @keyword(tags=["wait"])
    def log_should_show_devices_of_node(
        self, mark: LogMark, count: int, timeout: timedelta = Timeout.LOG_LINE.nominal
    ) -> None:
        """Wait until a node agent has logged that its node has ``count`` devices."""
        _find(mark, [logs.devices_of_node(count)], timeout)

    @keyword(tags=["wait"])
    def log_should_show_devices_removed_and_added(
        self, mark: LogMark, timeout: timedelta = Timeout.LOG_LINE.nominal
    ) -> None:
        """Wait until a node agent has logged devices that were removed, and then devices that were added."""
        _find(mark, [logs.DEVICES_REMOVED, logs.DEVICES_ADDED], timeout)

    @keyword(tags=["wait"])
    def log_should_show_discovered_devices(
        self, mark: LogMark, count: int, timeout: timedelta = Timeout.LOG_LINE.nominal
    ) -> None:
        """Wait until the controller has logged that it discovered ``count`` devices when it started."""
        _find(mark, [logs.discovered(count)], timeout)

    @keyword(tags=["wait"])
    def log_should_show_device_count_changed_to(
        self,
        mark: LogMark,
        count: int,
        timeout: timedelta = Timeout.LOG_LINE.nominal,
        within: timedelta | None = None,
    ) -> None:
        """Wait until the controller has logged that the number of devices changed to ``count``.

        ``within`` is a limit that the test checks; unlike ``timeout`` it is not multiplied on slow machines.
        """
        _find(mark, [logs.count_changed_to(count)], timeouts.exactly(within) if within else timeout)

    @keyword(tags=["wait"])
    def log_should_show_verbosity(
        self, mark: LogMark, *levels: int, timeout: timedelta = Timeout.LOG_LINE.nominal
    ) -> None:
        """Wait until the program has logged each change of its verbosity to one of ``levels``, in that order."""
        _find(mark, [logs.verbosity(level) for level in levels], timeout)

    @keyword(tags=["wait"])
    def log_should_show_scans_at_verbosity(
        self, mark: LogMark, level: int, timeout: timedelta = Timeout.LOG_LINE.nominal
    ) -> None:
        """Wait until a node agent has logged a change of its verbosity to ``level``, and then a routine scan."""
        _find(mark, [logs.verbosity(level), logs.SCAN], timeout)


def _find(mark: LogMark, patterns: list[str], timeout: timedelta) -> None:
    api = session.current().api
    until_no_complaints(
        lambda: logs.missing(logs.after(mark, driver.log_of(api, mark.pod)), patterns), timeout, f"log of {mark.pod}"
    )
