"""Module loaders: what brings the kernel module to the nodes of a cluster.

Each loader installs itself with all that it needs, and waits until the module is
loaded. What tests do with the module of a running cluster is in
``checks.driver.module_loading``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build.store import Input
from mock_device.lab.cluster import kmm_state
from mock_device.lab.cluster.loader_settings import LoaderKind
from mock_device.lab.kube import kubeclient, manifests
from mock_device.names import NAMESPACE

if TYPE_CHECKING:
    from mock_device.lab.cluster.cluster import Cluster

POD_MANIFEST = PROJECT / "kernel-driver" / "manifests" / "loader.yaml"
DAEMON_SET = "mock-accel-kmod"
"""DaemonSet whose pods load the module, and label ``app`` of these pods."""


class ModuleLoader(ABC):
    """Installs the kernel module on all nodes of a cluster."""

    kind: ClassVar[LoaderKind]

    @abstractmethod
    def archives(self) -> list[Path]:
        """Archives of the images that nodes need besides the one with the module.

        Raises StepError if a file is missing, so it is called before a cluster is started.
        """

    @abstractmethod
    def inputs(self) -> dict[str, Input]:
        """What else a cluster with this loader depends on, for the key of a golden cluster."""

    @abstractmethod
    def install(self, cluster: Cluster) -> None:
        """Load the module on every node, whose images are there; idempotent. Raises StepError with the reason."""

    @abstractmethod
    def remove(self, cluster: Cluster) -> None:
        """Unload the module from all nodes, and remove what brought it. Raises StepError with what remains."""


class PodLoader(ModuleLoader):
    """A DaemonSet whose image contains the module."""

    kind = LoaderKind.POD

    def archives(self) -> list[Path]:
        return []

    def inputs(self) -> dict[str, Input]:
        return {}

    def install(self, cluster: Cluster) -> None:
        api = kubeclient.connect(cluster.kubeconfig)
        manifests.apply(api, POD_MANIFEST)
        count = len(cluster.topology.nodes)
        kubeclient.wait_daemonset(api, NAMESPACE, DAEMON_SET, Timeout.ROLLOUT.seconds, nodes=count)

    def remove(self, cluster: Cluster) -> None:
        api = kubeclient.connect(cluster.kubeconfig)
        objects = [item for item in manifests.read_manifest(POD_MANIFEST) if item["kind"] != "Namespace"]
        manifests.delete_objects(api, objects, timeout=Timeout.UNDEPLOY.seconds)


def found_in(api: ApiClient) -> LoaderKind:
    """The loader of a running cluster, by its objects.

    A cluster with neither loader's objects has KMM's if it knows Modules, else the pod's.
    """
    try:
        client.AppsV1Api(api).read_namespaced_daemon_set(DAEMON_SET, NAMESPACE)
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return LoaderKind.KMM if kmm_state.is_served(api) else LoaderKind.POD
    return LoaderKind.POD
