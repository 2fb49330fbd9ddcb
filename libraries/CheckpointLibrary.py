"""Robot Framework library: the driver's checkpoints of prepared claims on the nodes."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import checkpoint
from mock_device.checks.driver.checkpoint import BrokenCheckpoint
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import session
from mock_device.checks.objects import kube
from mock_device.checks.waiting import until_no_complaints
from mock_device.driver.current import driver
from mock_device.lab.base.timeouts import Timeout


@library(scope="GLOBAL", auto_keywords=False)
class CheckpointLibrary:
    """Replaces checkpoints, and compares them with the claims in use."""

    @keyword
    def replace_checkpoint(self, node: str, broken: BrokenCheckpoint) -> None:
        """Replace the driver's checkpoint of ``node`` by a ``broken`` one."""
        checkpoint.write(session.current(), node, broken.value)

    @keyword
    def change_checkpoint_version(self, node: str, version: int) -> None:
        """Rewrite the driver's checkpoint of ``node`` in format ``version``, older or newer than the driver's."""
        current = session.current()
        checkpoint.write(current, node, checkpoint.of_version(checkpoint.read(current)[node], version))

    @keyword(tags=["wait"])
    def checkpoints_should_record_claims_in_use(self, timeout: timedelta = Timeout.CHECKPOINT.nominal) -> None:
        """Wait until the nodes' checkpoints record exactly the claims that pods use.

        A driver that promises no ``checkpoint`` is not judged.
        """
        if "checkpoint" not in driver().promises:
            logger.info(f"{driver().name} promises no checkpoint")
            return
        current = session.current()

        def complaints() -> list[str]:
            try:
                found = checkpoint.read(current)
            except CheckError as error:  # broken by the test, and not yet rebuilt by the driver
                return [str(error)]
            return checkpoint.complaints(found, kube.all_claims(current.api))

        until_no_complaints(complaints, timeout, "expected checkpoints to record the claims in use")
