"""Robot Framework library: the driver as a Helm release."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import release
from mock_device.checks.driver.release import RunningState
from mock_device.checks.errors import CheckError, fail_if_any
from mock_device.checks.nodes import session
from mock_device.lab.base import timeouts
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout


@library(scope="GLOBAL", auto_keywords=False)
class HelmLibrary:
    """Installs, upgrades, rolls back and uninstalls the project's chart, and checks what that must keep.

    Values are given as ``name=value`` with dotted names; all others are the chart's
    defaults. Helm is the lab's own, or that of the environment variable HELM.
    """

    @keyword(tags=["wait"])
    def release_should_be_installed(self, *values: str, timeout: timedelta = Timeout.RELEASE.nominal) -> None:
        """Install the release with ``values``, or give them to the installed one, and wait until the driver serves.

        A release that is installed now takes over the plain manifests of `lab up`, which stay as they are.
        """
        release.ensure_installed(session.current(), release.parse_values(values), timeout)

    @keyword(tags=["wait"])
    def upgrade_release(self, *values: str, timeout: timedelta = Timeout.RELEASE.nominal) -> None:
        """Give the release ``values``, and wait until all pods have them."""
        release.upgrade(session.current(), release.parse_values(values), timeout)

    @keyword(tags=["wait"])
    def upgrade_of_release_should_fail(
        self, because: str, *values: str, timeout: timedelta = Timeout.RELEASE_FAILURE.nominal
    ) -> None:
        """Check that an upgrade to ``values`` fails within ``timeout`` with ``because`` in Helm's message.

        Helm rolls back what it has changed.
        """
        try:
            release.upgrade(session.current(), release.parse_values(values), timeout)
        except StepError as error:
            if because not in str(error):
                raise CheckError(f"expected Helm to fail with {because!r}, found: {error}") from error
            logger.info(str(error))
            return
        raise CheckError(f"expected the upgrade to {', '.join(values)} to fail because {because!r}, it succeeded")

    @keyword(tags=["wait"])
    def roll_back_release(self, revision: int, timeout: timedelta = Timeout.RELEASE.nominal) -> None:
        """Give the release the values of ``revision`` again, and wait until all pods have them."""
        release.release_of(session.current()).roll_back(revision, timeouts.seconds(timeout))

    @keyword(tags=["wait"])
    def uninstall_release(self, timeout: timedelta = Timeout.RELEASE.nominal) -> None:
        """Delete all objects of the release, and wait until they are gone. Does nothing without a release."""
        release.release_of(session.current()).uninstall(timeouts.seconds(timeout))

    @keyword(tags=["wait"])
    def restore_plain_manifests(self, timeout: timedelta = Timeout.RELEASE.nominal) -> None:
        """Uninstall the release, if there is one, and apply the plain manifests, as `lab up` does.

        Does nothing on a cluster that the lab does not run.
        """
        release.restore_manifests(session.current(), timeout)

    @keyword
    def get_revision_of_release(self) -> int:
        """Return the number of the deployed revision. Fails if none is deployed."""
        found = release.revision_in_use(release.release_of(session.current()).history())
        logger.info(f"revision {found.number}: {found.description}")
        return found.number

    @keyword
    def get_state_of_pod(self, name: str) -> RunningState:
        """Return UID, node, container IDs and devices of the pod, for `Pod Should Have Kept Its State`."""
        return release.running_state(session.current().api, name)

    @keyword
    def pod_should_have_kept_its_state(self, name: str, state: RunningState) -> None:
        """Check that the pod has the same UID, node, containers and devices as in ``state``."""
        fail_if_any(release.state_complaints(name, state, release.running_state(session.current().api, name)))

    @keyword(name="Get UIDs Of Driver Pods")
    def get_uids_of_driver_pods(self) -> dict[str, str]:
        """Return the UIDs of the pods of node agents, controller and module loader, by their names."""
        return release.pod_uids(session.current().api)

    @keyword
    def no_driver_pod_should_be_replaced(self, uids: dict[str, str]) -> None:
        """Check that the pods of node agents, controller and module loader are those of ``uids``."""
        fail_if_any(release.replaced_complaints(uids, release.pod_uids(session.current().api)))

    @keyword
    def tag_driver_image(self, tag: str) -> None:
        """Give the driver's image on all nodes another ``tag``, as if a new version was loaded."""
        release.tag_image(session.current(), tag)

    @keyword
    def remove_tag_of_driver_image(self, tag: str) -> None:
        """Undo `Tag Driver Image`; no error if there is no such tag."""
        release.untag_image(session.current(), tag)

    @keyword
    def driver_pods_should_have_image_tag(self, tag: str) -> None:
        """Check that node agents and controller run an image with ``tag``."""
        fail_if_any(release.image_complaints(session.current().api, tag))

    @keyword
    def node_agents_should_have_variable(self, name: str, value: str) -> None:
        """Check that the node agents of all nodes run with environment variable ``name`` set to ``value``."""
        fail_if_any(release.variable_complaints(session.current().api, name, value))

    @keyword(name="Wait Until No ResourceSlice Is Left", tags=["wait"])
    def wait_until_no_slice_is_left(self, timeout: timedelta = Timeout.NO_SLICE.nominal) -> None:
        """Wait until the kubelets have deleted the slices of a driver that is gone, 30 s after it left."""
        release.wait_nothing_published(session.current().api, timeout)
