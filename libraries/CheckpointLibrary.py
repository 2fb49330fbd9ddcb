"""Robot Framework library: the driver's checkpoints on the nodes."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword, library

from mock_device.checks.driver import checkpoint
from mock_device.checks.driver.checkpoint import BrokenCheckpoint
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import session
from mock_device.checks.objects import kube
from mock_device.checks.waiting import until_no_complaints


@library(scope="GLOBAL", auto_keywords=False)
class CheckpointLibrary:
    """Replaces checkpoints, and compares them with the claims in use."""

    @keyword
    def replace_checkpoint(self, node: str, broken: BrokenCheckpoint) -> None:
        """Replace the driver's checkpoint of ``node`` by a ``broken`` one."""
        checkpoint.write(session.current(), node, broken.value)

    @keyword
    def change_checkpoint_version(self, node: str, version: int) -> None:
        """Rewrite the driver's checkpoint of ``node`` in ``version`` of its format, older or newer than its own."""
        current = session.current()
        checkpoint.write(current, node, checkpoint.of_version(checkpoint.read(current)[node], version))

    @keyword(tags=["wait"])
    def checkpoints_should_record_claims_in_use(self, timeout: timedelta = timedelta(minutes=3)) -> None:
        """Wait until the nodes' checkpoints have the claims that pods use, and no others."""
        current = session.current()

        def complaints() -> list[str]:
            try:
                found = checkpoint.read(current)
            except CheckError as error:  # one that a test has broken, and the driver has not rebuilt yet
                return [str(error)]
            return checkpoint.complaints(found, kube.all_claims(current.api))

        until_no_complaints(complaints, timeout, "checkpoints against claims")
