"""Robot Framework library: a cluster goes to the next version of Kubernetes."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import kubelet_versions, session
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build.gobuild import kubernetes_release
from mock_device.lab.cluster import upgrade
from mock_device.lab.cluster.guest_cluster import GuestCluster
from mock_device.lab.kube import kubeclient


@library(scope="GLOBAL", auto_keywords=False)
class UpgradeLibrary:
    """Upgrades control plane and nodes of a cluster of the lab."""

    @keyword
    def upgrade_control_plane(self) -> str:
        """Bring the control plane to the next version and return its release. Checks that the API server runs it."""
        release = kubernetes_release(upgrade.control_plane(_cluster()))
        if (found := kubeclient.release(session.current().api)) != release:
            raise CheckError(f"expected an API server of Kubernetes {release}, found {found}")
        logger.info(f"the control plane runs {release}")
        return release

    @keyword(tags=["wait"])
    def upgrade_node(self, node: str, timeout: timedelta = Timeout.KUBELET.nominal) -> None:
        """Bring kubelet and kube-proxy of ``node`` to the version of the control plane.

        Waits until the node is Ready with the new kubelet, which lists all its pods.
        """
        current = session.current()
        upgrade.node(_cluster(), node)
        kubelet_versions.wait_for(current, node, kubeclient.release(current.api), timeout)


def _cluster() -> GuestCluster:
    cluster = session.current().cluster
    if not isinstance(cluster, GuestCluster):
        raise CheckError(f"expected a cluster of the lab, found {cluster.name!r}, whose nodes the lab does not run")
    return cluster
