"""Robot Framework library: the tools of ``lab`` (docs/tools.md), compared with the cluster."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import logs
from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import CheckError, fail_if_any, refusal
from mock_device.checks.nodes import session
from mock_device.checks.objects import kube
from mock_device.checks.objects.claims import AllocatedDevice
from mock_device.checks.waiting import until_no_complaints
from mock_device.diagnosis import diagnosis
from mock_device.diagnosis.diagnosis import Diagnosis
from mock_device.lab.base.timeouts import Timeout
from mock_device.tools import cdi, devices, slices, verbosity
from mock_device.tools import logs as log_tool
from mock_device.tools.cdi import Change
from mock_device.tools.logs import Selection, Severity


@library(scope="GLOBAL", auto_keywords=False)
class ToolsLibrary:
    """Runs the tools on the suite's cluster. The log has their output."""

    def __init__(self) -> None:
        self._changes: list[Change] = []
        self._watch: subprocess.Popen[str] | None = None

    @keyword
    def device_status_should_show_all_devices(self) -> None:
        """Check that `lab devices` lists every PF and every enabled VF with all values of the topology."""
        current = session.current()
        rows = devices.read(current)
        logger.info(devices.table(rows).as_text())
        fail_if_any(devices.complaints(current.topology, rows))

    @keyword
    def device_status_should_be(self, node: str, device: str, status: str) -> None:
        """Check that `lab devices NODE DEVICE` shows ``status``, ``free`` or ``allocated``."""
        (row,) = devices.read(session.current(), node, device)
        logger.info(devices.table([row]).as_text())
        if row.status != status:
            raise CheckError(f"{node} {device}: expected status {status}, found {row.status}")

    @keyword
    def device_status_should_refuse(self, node: str, device: str) -> str:
        """Check that `lab devices` does not know ``device``, and return its message."""
        return refusal(f"lab devices {node} {device}", lambda: devices.read(session.current(), node, device), device)

    @keyword
    def slices_table_should_show(self, pod: str, allocated: list[AllocatedDevice]) -> None:
        """Check that `lab slices` lists every PF once, and ``pod`` at exactly its ``allocated`` devices."""
        current = session.current()
        rows = slices.read(current)
        logger.info(slices.table(rows).as_text())
        fail_if_any(slices.complaints(current.topology, rows, pod, [device.id for device in allocated]))

    @keyword(name="CDI List Should Show")
    def cdi_list_should_show(self, allocated: list[AllocatedDevice]) -> None:
        """Check that `lab cdi list` shows exactly the files of ``allocated`` devices, with their claims."""
        entries = cdi.list_entries(session.current())
        logger.info(cdi.table(entries).as_text())
        namespace = kube.namespace_of_tests(session.current().api)
        expected = {device.id: f"{namespace}/{device.claim}" for device in allocated}
        fail_if_any(cdi.differences(entries, expected))

    @keyword(name="CDI Check Should Find Nothing")
    def cdi_check_should_find_nothing(self) -> None:
        """Check that `lab cdi check` finds no file that disagrees with the schema or the claims."""
        fail_if_any(cdi.check(session.current()))

    @keyword(name="Start Watching CDI Files")
    def start_watching_cdi_files(self) -> None:
        """Run `lab cdi watch` in the background until `Stop Watching CDI Files`, for ten minutes at most."""
        self.stop_watching_cdi_files()
        # A separate process, as at a terminal: two threads cannot share the connections to nodes.
        seconds = f"{Timeout.CDI_WATCHING.seconds:.0f}"
        command = ["cdi", "watch", "--json", "--seconds", seconds, "--name", session.current().cluster.name]
        process = subprocess.Popen(
            [sys.executable, "-m", "mock_device.commands.cli", *command], stdout=subprocess.PIPE, text=True
        )
        self._watch = process
        self._changes = changes = []
        started = threading.Event()

        def read() -> None:
            for line in process.stdout or ():
                if change := cdi.parse_change(line):
                    changes.append(change)
                else:
                    started.set()

        threading.Thread(target=read, name="lab cdi watch", daemon=True).start()
        patience = Timeout.CDI_WATCH.seconds
        if not started.wait(patience):
            raise CheckError(f"lab cdi watch: expected its first read within {patience:.0f} s, found none")

    @keyword(name="CDI Watch Should See", tags=["wait"])
    def cdi_watch_should_see(
        self, what: str, allocated: list[AllocatedDevice], timeout: timedelta = Timeout.CDI_REPORT.nominal
    ) -> None:
        """Wait until the watch has reported ``what`` (appeared, disappeared, …) for each ``allocated`` device."""
        until_no_complaints(
            lambda: cdi.unreported(self._changes, what, [device.id for device in allocated]),
            timeout,
            "expected lab cdi watch to report",
        )

    @keyword(name="Stop Watching CDI Files")
    def stop_watching_cdi_files(self) -> None:
        """End the watch, if it runs."""
        if self._watch:
            process, self._watch = self._watch, None
            process.kill()
            process.wait()

    @keyword
    def log_tool_should_show_calls_for_claim(self, claim: str, node: str) -> None:
        """Check that `lab logs --calls` shows how the node agent on ``node`` prepared and unprepared ``claim``.

        It must show nothing that its filters exclude.
        """
        selection = Selection(Component.NODE_AGENT, node, Severity.INFO, None, True)
        lines = log_tool.read(session.current(), selection)
        logger.info("\n".join(map(str, lines)))
        namespace = kube.namespace_of_tests(session.current().api)
        fail_if_any(logs.missing([line.text for line in lines], logs.claim_calls(f"{namespace}/{claim}")))
        excluded = [str(line) for line in lines if not selection.takes(line)]
        fail_if_any(excluded, "expected no line that the filters exclude, found:")

    @keyword(tags=["wait"])
    def set_log_verbosity(self, level: int, component: Component, node: str | None = None) -> None:
        """Set the verbosity of ``component`` (on ``node``) to ``level`` (2 to 6) by `lab verbosity`."""
        logger.info(", ".join(verbosity.set_level(session.current(), level, component, node)))

    @keyword(tags=["wait"])
    def diagnosis_should_be_healthy(self, timeout: timedelta = Timeout.DIAGNOSED.nominal) -> None:
        """Wait until `lab diagnose` finds nothing broken. Fails with the broken step."""

        def complaints() -> list[str]:
            found = self._diagnose()
            return [f"{found.broken.step}: {found.broken.evidence}; remedy: {found.remedy}"] if found.broken else []

        until_no_complaints(complaints, timeout, "expected lab diagnose to find nothing broken")

    @keyword
    def get_patch_that_removes(self, pointer: str) -> str:
        """Return the operation of a JSON patch (RFC 6902) that removes ``pointer``, as a remedy shows it."""
        return json.dumps({"op": "remove", "path": pointer})

    @keyword(tags=["wait"])
    def diagnosis_should_name(
        self, step: str, evidence: str, remedy: str, timeout: timedelta = Timeout.DIAGNOSED.nominal
    ) -> None:
        """Wait until `lab diagnose` names ``step`` as the first broken step.

        Its texts must contain ``evidence`` and ``remedy``. All earlier steps must be
        ok, and no later step reached.
        """
        if step not in diagnosis.names():
            raise CheckError(f"expected the name of a step, found {step!r}; steps are {', '.join(diagnosis.names())}")
        until_no_complaints(
            lambda: diagnosis.differences(self._diagnose(), step, evidence, remedy),
            timeout,
            "expected lab diagnose to name the step",
        )

    def _diagnose(self) -> Diagnosis:
        found = diagnosis.diagnose(session.current())
        logger.info(diagnosis.table(found, details=True).as_text())
        return found
