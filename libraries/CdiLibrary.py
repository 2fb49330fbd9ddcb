"""Robot Framework library: CDI files and their folder on the nodes, over SSH."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import CheckError, fail_if_any
from mock_device.checks.layers.allocation import function_of
from mock_device.checks.nodes import cdi, cdi_folder, cdi_schema, session
from mock_device.checks.nodes.cdi import CdiFile
from mock_device.checks.nodes.observe import read_cdi_files
from mock_device.checks.objects import others
from mock_device.checks.objects.claims import AllocatedDevice
from mock_device.checks.waiting import until_no_complaints
from mock_device.driver import current
from mock_device.lab.base.timeouts import Timeout


@library(scope="GLOBAL", auto_keywords=False)
class CdiLibrary:
    """Reads the CDI files that describe devices to the container runtime, on all nodes at once."""

    @keyword(name="CDI Files Should Describe")
    def cdi_files_should_describe(self, devices: list[AllocatedDevice]) -> None:
        """Check that each of ``devices``, and no other, has a CDI file, with its name, UUID and PCI address.

        Devices that other users of the cluster hold are not judged, nor are drivers that do not promise it
        (``cdi-file-a-device``).
        """
        if "cdi-file-a-device" not in current.driver().promises:
            logger.info(f"{current.driver().name} does not promise a CDI file for each device")
            return
        topology = session.current().topology
        expected = {device.id: function_of(topology, device) for device in devices}
        fail_if_any(cdi.complaints(self._read(), expected, others.held(session.current().api)))

    @keyword(name="CDI Files Should Match The Official Schema")
    def cdi_files_should_match_the_official_schema(self) -> None:
        """Check every CDI file of the driver on all nodes against the JSON schema of the CDI project.

        There must be at least one file, if the driver describes its files (``cdi``).
        """
        if current.driver().cdi is None:
            logger.info(f"{current.driver().name} describes no CDI files")
            return
        files = self._read()
        if not files:
            raise CheckError("expected CDI files of the driver, found none on any node; look at the node agents' logs")
        fail_if_any(cdi_schema.complaints(files))

    @keyword(name="Wait Until No CDI File Is Left", tags=["wait"])
    def wait_until_no_cdi_file_is_left(self, timeout: timedelta = Timeout.NODE_STATE.nominal) -> None:
        """Wait until no node has a CDI file of the driver. Fails with the files that are left.

        Files of devices that other users of the cluster hold are not judged.
        """
        api = session.current().api
        until_no_complaints(
            lambda: cdi.complaints(self._read(), {}, others.held(api)), timeout, "expected no CDI files"
        )

    @keyword(name="Protect CDI Folder")
    def protect_cdi_folder(self, node: str) -> None:
        """Make the CDI folder of ``node`` read-only, even for root."""
        cdi_folder.protect(session.current(), node)

    @keyword(name="Unprotect CDI Folder")
    def unprotect_cdi_folder(self, node: str) -> None:
        """Make the CDI folder of ``node`` writable again."""
        cdi_folder.unprotect(session.current(), node)

    @keyword(name="Cover CDI Folder")
    def cover_cdi_folder(self, node: str) -> None:
        """Hide the CDI files of ``node`` from containerd: mount an empty, read-only file system on their folder."""
        cdi_folder.cover(session.current(), node)

    @keyword(name="Uncover CDI Folder")
    def uncover_cdi_folder(self, node: str) -> None:
        """Unmount the file system of `Cover CDI Folder`, and restart containerd."""
        cdi_folder.uncover(session.current(), node)

    def _read(self) -> list[CdiFile]:
        files = read_cdi_files(session.current())
        logger.debug("\n".join(f"{file.node} {file.path}\n{file.text}" for file in files) or "no CDI files")
        return files
