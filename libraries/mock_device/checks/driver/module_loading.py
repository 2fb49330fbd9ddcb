"""Load and unload the kernel module on single nodes of a running cluster, whichever loader brought it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import ClassVar

from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.checks.driver import driver
from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import CheckError
from mock_device.checks.objects import kube
from mock_device.checks.waiting import until_no_complaints
from mock_device.lab.base import timeouts
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster import kmm, kmm_state, module_loader
from mock_device.lab.cluster.kmm_state import KmmState
from mock_device.lab.cluster.loader_settings import LoaderKind
from mock_device.lab.kube import kubeclient
from mock_device.names import NAMESPACE

_MODPROBE = ["/usr/sbin/modprobe", "-d", "/opt"]
_MODULE = "mock_accel"


class ModuleControl(ABC):
    """The kernel module on the nodes of a running cluster."""

    kind: ClassVar[LoaderKind]
    where_to_look: ClassVar[str]
    """Where to look when the module is not loaded."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    @abstractmethod
    def load(self, node: str) -> None:
        """Load the module on ``node``, where it is not loaded. Raises CheckError with the reason."""

    @abstractmethod
    def unload(self, node: str) -> None:
        """Unload the module on ``node``. If the kernel refuses, all is as before, and CheckError has its reason."""

    @abstractmethod
    def remedy(self, node: str) -> str:
        """Part of the command that ``lab diagnose`` proposes for ``node`` after ``unload``."""

    @abstractmethod
    def wait_running(self, nodes: list[str], timeout: timedelta) -> None:
        """Wait until the loader runs and serves ``nodes``. Raises CheckError with the reason."""


class PodControl(ModuleControl):
    """By the pods of the DaemonSet, whose image contains the module."""

    kind = LoaderKind.POD
    where_to_look = f"look at the pods of {module_loader.DAEMON_SET}:"

    def load(self, node: str) -> None:
        self._modprobe(node, [_MODULE])

    def unload(self, node: str) -> None:
        self._modprobe(node, ["-r", _MODULE])

    def remedy(self, node: str) -> str:
        return f"rollout restart daemonset/{module_loader.DAEMON_SET}"

    def wait_running(self, nodes: list[str], timeout: timedelta) -> None:
        try:
            kubeclient.wait_daemonset(
                self._api, NAMESPACE, module_loader.DAEMON_SET, timeouts.seconds(timeout), nodes=len(nodes)
            )
        except StepError as error:
            raise CheckError(str(error)) from error

    def _modprobe(self, node: str, arguments: list[str]) -> None:
        pod = driver.pod_of(self._api, Component.MODULE_LOADER, node)
        kube.execute(self._api, pod, [*_MODPROBE, *arguments], Timeout.MODPROBE.nominal, namespace=NAMESPACE)


class KmmControl(ModuleControl):
    """By the label of the node, which KMM follows."""

    kind = LoaderKind.KMM
    where_to_look = f"look at: lab kubectl -n {NAMESPACE} get module,pods, and lab kubectl get nodemodulesconfigs"

    def load(self, node: str) -> None:
        if kmm_state.read(self._api).ready(node):
            # KMM does not notice a module that was unloaded behind its back.
            self._unload(node)
        self._want(node)
        self._until(lambda state: _reasons(state, node), f"KMM loads the module on {node}")

    def unload(self, node: str) -> None:
        try:
            self._unload(node)
        except CheckError:
            # KMM would try again and again, and unload it once it is free.
            self._want(node)
            raise

    def remedy(self, node: str) -> str:
        return f"label node {node} {kmm_state.NODE_LABEL}={kmm_state.NODE_LABEL_VALUE}"

    def wait_running(self, nodes: list[str], timeout: timedelta) -> None:
        try:
            kmm.wait_loaded(self._api, nodes, timeouts.seconds(timeout))
        except StepError as error:
            raise CheckError(str(error)) from error

    def _unload(self, node: str) -> None:
        kmm.set_label(self._api, node, wanted=False)

        def complaints(state: KmmState) -> list[str]:
            worker = state.worker(node)
            if worker is not None and kmm_state.action_of(worker) == kmm_state.UNLOAD and kmm_state.failed(worker):
                raise CheckError(
                    f"KMM cannot unload the module on {node}: pod {worker['metadata']['name']}"
                    f"{state.logs.get(worker['metadata']['name'], '')}"
                )
            return [f"{node} still has label {kmm_state.READY_LABEL}"] if state.ready(node) else []

        self._until(complaints, f"KMM unloads the module on {node}")

    def _want(self, node: str) -> None:
        """Label ``node``; delete a pod that still unloads the module there, and wait until it is gone."""
        kmm.set_label(self._api, node, wanted=True)

        def not_configured(state: KmmState) -> list[str]:
            return [] if state.configured(node, "spec") else _reasons(state, node)

        # KMM would replace the pod before it has noticed the label.
        self._until(not_configured, f"KMM notices the label of {node}")
        worker = kmm_state.read(self._api).worker(node)
        if worker is None or kmm_state.action_of(worker) != kmm_state.UNLOAD:
            return
        name, uid = worker["metadata"]["name"], worker["metadata"]["uid"]
        client.CoreV1Api(self._api).delete_namespaced_pod(name, NAMESPACE)

        def there(state: KmmState) -> list[str]:
            now = state.worker(node)
            return [f"pod {name} is still there"] if now is not None and now["metadata"]["uid"] == uid else []

        self._until(there, f"pod {name} is deleted")

    def _until(self, complaints: Callable[[KmmState], list[str]], what: str) -> None:
        until_no_complaints(lambda: complaints(kmm_state.read(self._api)), Timeout.KMM_NODE.nominal, f"not yet: {what}")


def _reasons(state: KmmState, node: str) -> list[str]:
    return [str(item) for item in kmm_state.complaints(state, [node])]


def of_cluster(api: ApiClient) -> ModuleControl:
    """Control of the kernel module by the loader that the cluster has."""
    kinds: dict[LoaderKind, type[ModuleControl]] = {LoaderKind.POD: PodControl, LoaderKind.KMM: KmmControl}
    return kinds[module_loader.found_in(api)](api)
