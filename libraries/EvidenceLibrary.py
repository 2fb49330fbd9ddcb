"""Robot Framework library: evidence of the cluster's state when a test fails, linked in the log."""

from __future__ import annotations

import tempfile
from pathlib import Path

from robot import result, running
from robot.api import logger
from robot.api.deco import keyword, library
from robot.libraries.BuiltIn import BuiltIn

from mock_device.checks import evidence, evidence_content
from mock_device.checks.errors import fail_if_any
from mock_device.checks.nodes import session

_NOT_RUN = "robot:exit"
"""Robot's tag of a test that did not run because another test failed."""


@library(scope="GLOBAL", auto_keywords=False, listener="SELF")
class EvidenceLibrary:
    """Collects consoles, kernel messages, journals, logs of the driver, events, objects of the API and CDI files.

    A listener does so when a test has failed, before its teardown, and when a
    suite's setup has failed; at most once for each test. The files are in folder
    ``${EVIDENCE}``, which ``make acceptance`` sets, or in ``evidence`` beside the
    log. An error in the collection does not change a test's result.
    """

    ROBOT_LISTENER_API_VERSION = 3

    def __init__(self) -> None:
        self._collected = ""
        self._failed_setups: set[str] = set()

    def _start_keyword(self, _: running.Keyword, started: result.Keyword) -> None:
        """Collect for a failed test before its teardown."""
        test = started.parent
        if started.type == started.TEARDOWN and isinstance(test, result.TestCase) and test.failed:
            self._collect_for_test(test)

    def _end_keyword(self, _: running.Keyword, ended: result.Keyword) -> None:
        """Collect for a suite whose setup has failed."""
        suite = ended.parent
        if ended.type == ended.SETUP and isinstance(suite, result.TestSuite) and ended.failed:
            self._failed_setups.add(suite.full_name)
            self._collect_once(suite.full_name, suite.name, "suite-setup")

    def _end_test(self, _: running.TestCase, ended: result.TestCase) -> None:
        """Collect for a test that has no teardown, or failed in it."""
        if ended.failed:
            self._collect_for_test(ended)

    @keyword
    def collect_evidence(self, name: str) -> None:
        """Collect evidence now, into a folder named by the suite and ``name``, and link it in the log."""
        suite = BuiltIn().get_variable_value("${SUITE_NAME}")
        self._collect(str(suite).rpartition(".")[2], name)

    @keyword
    def evidence_should_be_complete(self) -> None:
        """Collect evidence now, into a temporary folder, and check that every source answered and has content.

        A pod with a device must run.
        """
        current = session.current()
        with tempfile.TemporaryDirectory(prefix="mock-device-") as name:
            folder = Path(name) / evidence.FOLDER
            evidence.collect(evidence.sources(current), folder)
            fail_if_any(evidence_content.complaints(folder, current.node_names))

    def _collect_for_test(self, test: result.TestCase) -> None:
        if test.parent.full_name not in self._failed_setups and not test.tags.match(_NOT_RUN):
            self._collect_once(test.full_name, test.parent.name, test.name)

    def _collect_once(self, key: str, suite: str, name: str) -> None:
        if key != self._collected and session.active():
            self._collected = key
            self._collect(suite, name)

    def _collect(self, suite: str, name: str) -> None:
        builtin = BuiltIn()
        beside_log = Path(str(builtin.get_variable_value("${OUTPUT_DIR}"))) / evidence.FOLDER
        root = Path(str(builtin.get_variable_value("${EVIDENCE}") or beside_log))
        try:
            files = evidence.collect(evidence.sources(session.current()), root / evidence.folder_name(suite, name))
        except OSError as error:
            logger.warn(f"no evidence of {suite}.{name}: {error}")
            return
        logger.info(evidence.links(root, files), html=True)
