"""The Kernel Module Management operator (KMM) as module loader: installed from the user's files.

docs/how-to/kmm.md has the facts of KMM that this relies on, and with which version each was seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.lab.base import progress
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build.store import Input
from mock_device.lab.cluster import (
    kmm_state,
    operator_download,
    operator_files,
    operator_manifests,
    webhook_certificates,
)
from mock_device.lab.cluster.loader_settings import CertKind, KmmSettings, LoaderKind
from mock_device.lab.cluster.module_loader import ModuleLoader
from mock_device.lab.cluster.operator_files import OperatorFiles
from mock_device.lab.cluster.operator_manifests import Certificate, Issued
from mock_device.lab.kube import kubeclient, manifests
from mock_device.names import NAMESPACE

if TYPE_CHECKING:
    from mock_device.lab.cluster.cluster import Cluster

NAMESPACE_MANIFEST = PROJECT / "dra-driver" / "manifests" / "00-namespace.yaml"
FILES_CONFIG_MAP = "module-loader-files"
"""ConfigMap with the checksums of the files from which KMM was installed, and with the names of its images."""
KMM, CERT_MANAGER = "KMM", "cert-manager"
_MODULE_CRD = f"modules.{kmm_state.GROUP}"
_WEBHOOK = "failed calling webhook"
"""In the API server's refusal while a webhook's Service has no endpoint yet, or its CA is not injected yet."""
_RETRY_SECONDS = 1.0

Object = dict[str, Any]
Apply = Callable[[Sequence[Object]], object]
"""Applies objects in their order; raises StepError with the API server's reason."""


class KmmLoader(ModuleLoader):
    """KMM loads the module by our ``Module``, on the nodes that have our label."""

    kind = LoaderKind.KMM

    def __init__(self, settings: KmmSettings) -> None:
        self._settings = settings

    @cached_property
    def operator(self) -> OperatorFiles:
        """KMM's files. Raises StepError."""
        settings = self._settings
        wanted = operator_files.patterns("KMM_MANIFESTS", settings.manifests)
        if (version := os.environ.get("KMM_VERSION") or settings.version) and not wanted:
            found = operator_download.download(operator_download.KMM_SOURCE, version)
        else:
            found = _find(KMM, "KMM", "kmm.", settings.manifests, settings.images)
        if not any(item["metadata"]["name"] == _MODULE_CRD for item in found.objects()):
            names = ", ".join(str(path) for path in found.manifests)
            raise StepError(
                f"KMM: expected CustomResourceDefinition {_MODULE_CRD} in its manifests, not found in {names}"
            )
        return found

    @cached_property
    def cert_manager(self) -> OperatorFiles | None:
        """cert-manager's files; None if the lab issues the webhook's certificate. Raises StepError."""
        settings = self._settings
        wanted = operator_files.patterns("CERT_MANAGER_MANIFESTS", settings.cert_manager_manifests)
        if settings.cert is CertKind.LAB or (settings.cert is None and not wanted):
            return None
        return _find(
            CERT_MANAGER,
            "CERT_MANAGER",
            "kmm.cert-manager-",
            settings.cert_manager_manifests,
            settings.cert_manager_images,
        )

    @property
    def _all_files(self) -> list[OperatorFiles]:
        return [files for files in (self.cert_manager, self.operator) if files is not None]

    @cached_property
    def _objects(self) -> dict[str, list[Object]]:
        """Objects of each operator, with the names of preloaded images, and patient probes. Raises StepError."""
        return {
            files.operator: operator_manifests.with_patient_probes(
                operator_manifests.with_preloaded_images(files.operator, files.objects(), list(files.image_names()))
            )
            for files in self._all_files
        }

    def archives(self) -> list[Path]:
        # Find missing images now rather than when the cluster has booted.
        _ = self._objects
        return [archive for files in self._all_files for archive in files.archives]

    def inputs(self) -> dict[str, Input]:
        paths: list[str | Path] = [path for files in self._all_files for path in (*files.manifests, *files.archives)]
        code: list[str | Path] = [Path(__file__), Path(operator_manifests.__file__)]
        return {"loader": self.kind.value, "module": kmm_state.MANIFEST, "loader files": paths, "loader code": code}

    def install(self, cluster: Cluster) -> None:
        api = kubeclient.connect(cluster.kubeconfig)
        nodes = [node.name for node in cluster.topology.nodes]
        manifests.apply(api, NAMESPACE_MANIFEST)
        self.install_operators(api, cluster.log_dir, partial(manifests.apply_objects, api))
        with progress.step(f"KMM loads the module on {len(nodes)} nodes", cluster.log_dir):
            load_on(api, nodes)

    def install_operators(self, api: ApiClient, log_dir: Path, apply: Apply) -> None:
        """Install KMM, and cert-manager if it is to be used, by ``apply``, and wait until they serve.

        The project's namespace must exist. Shows each step; raises StepError.
        """
        if self.cert_manager is not None:
            with progress.step(CERT_MANAGER, log_dir):
                _show(self.cert_manager)
                install_objects(api, CERT_MANAGER, self._objects[CERT_MANAGER], apply)
        with progress.step(KMM, log_dir):
            _show(self.operator)
            issue = partial(webhook_certificates.issue, api)
            install_objects(api, KMM, self._objects_of_kmm(issue), apply)
            apply([self._checksums()])

    def planned(self) -> list[Object]:
        """Objects that ``install_operators`` applies, in this order, without the content of certificates."""
        objects = self._objects_of_kmm(lambda _: Issued(b"", b"", b""))
        before = operator_manifests.in_order(self._objects.get(CERT_MANAGER, []))
        return [*before, *operator_manifests.in_order(objects), self._checksums()]

    def images(self) -> dict[str, Path]:
        """Archives of all images that the operators need, by the images' full names. Raises StepError."""
        _ = self._objects
        return {name: archive for files in self._all_files for name, archive in files.image_names().items()}

    def _objects_of_kmm(self, issue: Callable[[Certificate], Issued]) -> list[Object]:
        objects = operator_manifests.without_leader_election(self._objects[KMM])
        if self.cert_manager is not None:
            return objects
        return operator_manifests.without_cert_manager(KMM, objects, issue)

    def remove(self, cluster: Cluster) -> None:
        api = kubeclient.connect(cluster.kubeconfig)
        manifests.delete(api, kmm_state.MANIFEST, timeout=Timeout.KMM_REMOVE.seconds)
        for node in cluster.topology.nodes:
            set_label(api, node.name, wanted=False)

    def _checksums(self) -> Object:
        lines = [f"{checksum}  {name}" for files in self._all_files for name, checksum in files.checksums().items()]
        images = [name for objects in self._objects.values() for name in operator_manifests.images_of(objects)]
        data = {"sha256": "\n".join(lines), "images": "\n".join(images)}
        metadata = {"name": FILES_CONFIG_MAP, "namespace": NAMESPACE}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def load_on(api: ApiClient, nodes: Sequence[str]) -> None:
    """Apply our Module, label ``nodes``, and wait until KMM has loaded the module on all of them.

    Raises StepError with the reason for each node.
    """
    for node in nodes:
        set_label(api, node, wanted=True)
    when_webhooks_answer(lambda: manifests.apply(api, kmm_state.MANIFEST))
    wait_loaded(api, nodes, Timeout.KMM_LOAD.seconds)


def wait_loaded(api: ApiClient, nodes: Sequence[str], timeout: float) -> None:
    """Wait until KMM says that it has loaded the module on ``nodes``. ``timeout`` is in seconds.

    Raises StepError with the reason for each node.
    """
    deadline = time.monotonic() + timeout
    while True:
        expired = time.monotonic() >= deadline
        state = kmm_state.read(api)
        found = kmm_state.complaints(state, nodes)
        available = state.available()
        if not found and available >= len(nodes):
            return
        if expired:
            reasons = [f"{item}; look at: {item.remedy}" for item in found]
            raise StepError(
                "\n  ".join(
                    [
                        f"KMM has loaded the module on {available} of {len(nodes)} nodes after {timeout:.0f} s "
                        f"(status.moduleLoader.availableNumber of Module {NAMESPACE}/{kmm_state.MODULE}):",
                        *(reasons or ["its objects give no reason; look at the log of its controller"]),
                    ]
                )
            )
        time.sleep(_RETRY_SECONDS)


def set_label(api: ApiClient, node: str, *, wanted: bool) -> None:
    """Give ``node`` the label by which our Module selects it, or remove the label."""
    value = kmm_state.NODE_LABEL_VALUE if wanted else None
    client.CoreV1Api(api).patch_node(node, {"metadata": {"labels": {kmm_state.NODE_LABEL: value}}})


def unlabelled(api: ApiClient, nodes: Sequence[str]) -> list[str]:
    """Those of ``nodes`` without the label by which our Module selects nodes."""
    found: list[Any] = [client.CoreV1Api(api).read_node(node) for node in nodes]
    return [
        item.metadata.name
        for item in found
        if (item.metadata.labels or {}).get(kmm_state.NODE_LABEL) != kmm_state.NODE_LABEL_VALUE
    ]


def install_objects(api: ApiClient, operator: str, objects: Sequence[Object], apply: Apply) -> None:
    """Apply an operator's objects in order, and wait until its Deployments are available. Raises StepError."""
    ordered = operator_manifests.in_order(objects)
    definitions = [item["metadata"]["name"] for item in ordered if item["kind"] == "CustomResourceDefinition"]
    early = [item for item in ordered if item["kind"] in {"Namespace", "CustomResourceDefinition"}]
    apply(early)
    _wait_established(api, operator, definitions)
    rest = [item for item in ordered if item not in early]
    when_webhooks_answer(lambda: apply(rest))
    for item in rest:
        if item["kind"] == "Deployment":
            where, name = item["metadata"].get("namespace", "default"), item["metadata"]["name"]
            kubeclient.wait_deployment(api, where, name, Timeout.ROLLOUT.seconds)


def checksums_in(api: ApiClient) -> dict[str, str]:
    """SHA-256 of the files from which KMM was installed, by file name; empty if the lab did not install it."""
    lister = client.CoreV1Api(api).list_namespaced_config_map
    found: Any = lister(NAMESPACE, field_selector=f"metadata.name={FILES_CONFIG_MAP}").items
    lines = (found[0].data or {}).get("sha256", "").splitlines() if found else []
    return {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}


def _find(
    operator: str, variable: str, key: str, manifests_wanted: Sequence[str], images_wanted: Sequence[str]
) -> OperatorFiles:
    names = f"{variable}_MANIFESTS", f"{variable}_IMAGES"
    return operator_files.find(
        operator,
        operator_files.patterns(names[0], manifests_wanted),
        operator_files.patterns(names[1], images_wanted),
        sources=(
            f"{names[0]} or {key}manifests in the profile",
            f"{names[1]} or {key}images in the profile",
        ),
    )


def _show(files: OperatorFiles) -> None:
    for name, checksum in files.checksums().items():
        progress.say(f"  {files.operator}: {name} sha256:{checksum}")


def _wait_established(api: ApiClient, operator: str, names: Sequence[str]) -> None:
    def missing(found: Mapping[str, Any]) -> list[str]:
        return [name for name in names if name not in found or not _established(found[name])]

    lister = client.ApiextensionsV1Api(api).list_custom_resource_definition
    if left := missing(kubeclient.watch_until(lister, lambda found: not missing(found), Timeout.CRD.seconds)):
        raise StepError(
            f"{operator}: expected CustomResourceDefinitions established within {Timeout.CRD.seconds:.0f} s, "
            f"not so {', '.join(left)}; look at: lab kubectl describe crd {left[0]}"
        )


def _established(definition: Any) -> bool:
    conditions = (definition.status and definition.status.conditions) or []
    return any(item.type == "Established" and item.status == "True" for item in conditions)


def when_webhooks_answer(apply: Callable[[], object]) -> None:
    """Call ``apply``, again while a webhook that has just been installed does not answer. Raises StepError."""
    deadline = time.monotonic() + Timeout.WEBHOOK.seconds
    while True:
        try:
            apply()
        except StepError as error:
            if _WEBHOOK not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return
