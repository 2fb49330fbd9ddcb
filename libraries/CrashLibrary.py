"""Robot Framework library: lets parts of a node die and come back, and checks that nothing is lost."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library
from scenario import CheckError, crashes, kube, session
from scenario.waiting import Deadline, until_no_complaints


@library(scope="GLOBAL", auto_keywords=False)
class CrashLibrary:
    """For suites that prove that the driver survives."""

    @keyword
    def kill_node_agent(self, node: str) -> None:
        """kill -9 of the node agent's process on ``node``; the kubelet starts it again."""
        crashes.kill_agent(session.current(), node)

    @keyword
    def restart_kubelet(self, node: str) -> None:
        """Restart the kubelet of ``node``."""
        crashes.restart_service(session.current(), node, "kubelet")

    @keyword
    def restart_containerd(self, node: str) -> None:
        """Restart containerd of ``node``; containers go on."""
        crashes.restart_service(session.current(), node, "containerd")

    @keyword(tags=["wait"])
    def reboot_node(self, node: str, timeout: timedelta = timedelta(minutes=6)) -> None:
        """Reboot the guest and wait until the node is Ready again."""
        crashes.reboot(session.current(), node, Deadline(timeout))

    @keyword(name="Cut Node Off From API Server", tags=["wait"])
    def cut_node_off_from_api_server(self, node: str, duration: timedelta) -> None:
        """Drop what kubelet and pods of ``node`` send to the API server for ``duration``, and wait for its end."""
        crashes.cut_off_api(session.current(), node, int(duration.total_seconds()))

    @keyword(name="Protect CDI Folder")
    def protect_cdi_folder(self, node: str) -> None:
        """Make the CDI folder of ``node`` immutable, also for root."""
        crashes.protect_cdi_folder(session.current(), node)

    @keyword(name="Unprotect CDI Folder")
    def unprotect_cdi_folder(self, node: str) -> None:
        """Let the CDI folder of ``node`` be written again."""
        crashes.unprotect_cdi_folder(session.current(), node)

    @keyword
    def replace_checkpoint(self, node: str, content: str) -> None:
        """Write ``content`` over the driver's checkpoint of ``node``."""
        crashes.write_checkpoint(session.current(), node, content)

    @keyword
    def downgrade_checkpoint(self, node: str) -> None:
        """Rewrite the driver's checkpoint of ``node`` in version 1 of its format."""
        current = session.current()
        crashes.write_checkpoint(current, node, crashes.downgraded(crashes.read_checkpoint(current, node)))

    @keyword(tags=["wait"])
    def checkpoints_should_record_claims_in_use(self, timeout: timedelta = timedelta(seconds=90)) -> None:
        """Wait until the nodes' checkpoints have the claims that pods use, and no others."""
        current = session.current()

        def complaints() -> list[str]:
            found = {node: crashes.read_checkpoint(current, node) for node in current.node_names}
            return crashes.checkpoint_complaints(found, kube.all_claims(current.api))

        until_no_complaints(complaints, timeout, "checkpoints against claims")

    @keyword
    def no_device_should_be_given_twice(self) -> None:
        """Check that no device is allocated to more than one claim of the cluster."""
        api = session.current().api
        devices = kube.allocated_devices(api)
        logger.info(f"{len(devices)} devices are allocated")
        if found := crashes.given_twice(devices):
            raise CheckError("\n".join(found))
