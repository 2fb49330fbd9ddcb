"""What the Kernel Module Management operator (KMM) has done with our Module, and what it waits for.

A Module has no conditions: why a node has no module is read from the objects between: Module,
ModuleImagesConfig, pull pod, NodeModulesConfig, worker pod. Fields with the value 0 are missing.
docs/how-to/kmm.md says what was seen with which version of KMM.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.lab.base.paths import PROJECT
from mock_device.lab.kube import kubeclient
from mock_device.lab.kube.kubeexplain import failed_logs, pod_reasons
from mock_device.names import NAMESPACE

GROUP, VERSION = "kmm.sigs.x-k8s.io", "v1beta1"
MODULE = "mock-accel"
"""Name of our Module."""
MANIFEST = PROJECT / "kernel-driver" / "manifests" / "kmm-module.yaml"
NODE_LABEL, NODE_LABEL_VALUE = "mock-accel.example.com/kernel-module", "kmm"
"""Label of the nodes on which KMM loads the module: the selector of our Module."""
READY_LABEL = f"kmm.node.kubernetes.io/{NAMESPACE}.{MODULE}.ready"
"""Label that KMM gives to a node while the module is loaded there, as far as it knows."""
OPERATOR_LABELS = "app.kubernetes.io/name=kmm"
"""Selects KMM's Deployments and pods."""
LOGS = f"lab kubectl logs --all-namespaces --prefix -l {OPERATOR_LABELS}"
"""The command that shows the ends of KMM's logs."""
_ACTION_LABEL = "kmm.node.kubernetes.io/worker-action"
_MODULE_LABEL = "kmm.node.kubernetes.io/module.name"
_IMAGE_OWNER_LABEL = "kmm.node.kubernetes.io/image-owner"
_CREATING = "ContainerCreating"
LOAD, UNLOAD = "Load", "Unload"
"""Values of the label of worker pods that says what they do."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Complaint:
    """Why the module is not loaded on a node, or on any."""

    text: str
    remedy: str
    """A ``lab`` command."""
    node: str = ""
    """Empty if it concerns all nodes."""

    def __str__(self) -> str:
        return f"{self.node}: {self.text}" if self.node else self.text


@dataclass(frozen=True)
class KmmState:
    """KMM's objects, as the API's JSON."""

    served: bool
    """Whether the cluster knows Modules."""
    module: Object | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    """What KMM knows of each image: ``Exists``, ``DoesNotExist``, …; empty while a pod pulls it."""
    configs: Mapping[str, Object] = field(default_factory=dict)
    """NodeModulesConfigs by node."""
    nodes: Mapping[str, Object] = field(default_factory=dict)
    workers: Sequence[Object] = ()
    """Pods that load or unload our module."""
    pulls: Sequence[Object] = ()
    """Pods by which KMM learns whether an image can be had."""
    logs: Mapping[str, str] = field(default_factory=dict)
    """Ends of the logs of failed containers, by pod of ``workers``."""
    deployments: Sequence[Object] = ()
    """KMM's Deployments."""

    def worker(self, node: str) -> Object | None:
        """The pod that loads or unloads the module on ``node`` now."""
        return next((pod for pod in self.workers if pod["spec"].get("nodeName") == node), None)

    def selected(self, node: str) -> bool:
        """Whether our Module selects ``node``."""
        selector = (self.module or {}).get("spec", {}).get("selector", {})
        labels = self._labels(node)
        return bool(selector) and all(labels.get(name) == value for name, value in selector.items())

    def ready(self, node: str) -> bool:
        """Whether KMM says that the module is loaded on ``node``."""
        return READY_LABEL in self._labels(node)

    def available(self) -> int:
        """Number of nodes on which the module is loaded, by the status of our Module."""
        status = ((self.module or {}).get("status") or {}).get("moduleLoader") or {}
        return int(status.get("availableNumber") or 0)

    def wanted_image(self, node: str) -> str | None:
        """Image of the first kernel mapping that fits the kernel of ``node``; None if none fits."""
        kernel = self._kernel(node)
        container = (self.module or {}).get("spec", {}).get("moduleLoader", {}).get("container", {})
        for mapping in container.get("kernelMappings") or []:
            literal, pattern = mapping.get("literal"), mapping.get("regexp")
            if literal == kernel or (pattern and re.search(pattern, kernel)):
                return str(mapping.get("containerImage") or container.get("containerImage") or "")
        return None

    def configured(self, node: str, part: str) -> Object | None:
        """Entry of our Module in ``part`` (``spec`` or ``status``) of the node's NodeModulesConfig."""
        modules = (self.configs.get(node, {}).get(part) or {}).get("modules") or []
        return next((item for item in modules if (item["namespace"], item["name"]) == (NAMESPACE, MODULE)), None)

    def _labels(self, node: str) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.nodes.get(node, {}).get("metadata", {}).get("labels") or {}
        return labels

    def _kernel(self, node: str) -> str:
        # As KMM: kernels of a modified source tree end in "+".
        info = self.nodes.get(node, {}).get("status", {}).get("nodeInfo") or {}
        return str(info.get("kernelVersion", "")).removesuffix("+")


def read(api: ApiClient) -> KmmState:
    """Read all of it. Raises ApiException."""
    custom, core, apps = client.CustomObjectsApi(api), client.CoreV1Api(api), client.AppsV1Api(api)
    if not is_served(api):
        return KmmState(served=False)

    def all_of(plural: str) -> list[Object]:
        found: Any = custom.list_cluster_custom_object(GROUP, VERSION, plural)
        return list(found["items"])

    def ours(plural: str) -> Object | None:
        found = [item for item in all_of(plural) if _name(item) == (NAMESPACE, MODULE)]
        return found[0] if found else None

    def json_of(answer: Any) -> list[Object]:
        return [kubeclient.as_json(api, item) for item in answer.items]

    images = ours("moduleimagesconfigs") or {}
    workers: Any = core.list_namespaced_pod(NAMESPACE, label_selector=f"{_ACTION_LABEL},{_MODULE_LABEL}={MODULE}")
    return KmmState(
        served=True,
        module=ours("modules"),
        images={item["image"]: item["status"] for item in (images.get("status") or {}).get("imagesStates") or []},
        configs={item["metadata"]["name"]: item for item in all_of("nodemodulesconfigs")},
        nodes={node["metadata"]["name"]: node for node in json_of(core.list_node())},
        workers=json_of(workers),
        logs={pod.metadata.name: "".join(failed_logs(core, pod)) for pod in workers.items},
        pulls=json_of(core.list_namespaced_pod(NAMESPACE, label_selector=f"{_IMAGE_OWNER_LABEL}={MODULE}")),
        deployments=json_of(apps.list_deployment_for_all_namespaces(label_selector=OPERATOR_LABELS)),
    )


def is_served(api: ApiClient) -> bool:
    """Whether the cluster knows Modules, so KMM is installed or was."""
    try:
        client.CustomObjectsApi(api).get_api_resources(GROUP, VERSION)
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return False
    return True


def complaints(state: KmmState, nodes: Collection[str]) -> list[Complaint]:
    """Why the module is not loaded on ``nodes``, as far as KMM's objects tell; causes that concern all nodes first."""
    if not state.served:
        return [Complaint("KMM is not installed: the cluster has no kind Module", "lab up --module-loader kmm")]
    found = [*_of_operator(state), *_of_module(state)]
    if state.module is not None:
        found += [complaint for node in nodes for complaint in _of_node(state, node)]
    return found


def is_passing(pod: Mapping[str, Any]) -> bool:
    """Whether ``pod`` is one that KMM starts for a moment: to load or unload a module, or to pull its image."""
    return bool({_ACTION_LABEL, _IMAGE_OWNER_LABEL} & (pod["metadata"].get("labels") or {}).keys())


def action_of(worker: Mapping[str, Any]) -> str:
    """LOAD or UNLOAD, by a worker pod's label."""
    return str(worker["metadata"]["labels"][_ACTION_LABEL])


def failed(worker: Mapping[str, Any]) -> bool:
    """Whether a container of a worker pod has failed; KMM lets the kubelet start it again and again."""
    status = worker.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            if (state.get("terminated") or {}).get("exitCode"):
                return True
    return False


def outdated_image(state: KmmState, worker: Mapping[str, Any]) -> str | None:
    """Image that a worker pod tries in vain to load although KMM wants another one on its node; None otherwise.

    KMM replaces a failing pod only after its container ``worker`` has been restarted. A pod whose image lacks the
    module for the kernel, or cannot be pulled, does not get so far: it stays until it is deleted.
    """
    spec = worker["spec"]
    wanted = state.configured(spec.get("nodeName", ""), "spec")
    if wanted is None or action_of(worker) != LOAD or not _extraction_fails(worker):
        return None
    image = str(spec["initContainers"][0]["image"])
    return image if image != wanted["config"]["containerImage"] else None


def _extraction_fails(worker: Mapping[str, Any]) -> bool:
    """Whether the first container of a worker pod, which copies the module from its image, fails or cannot start."""
    for container in (worker.get("status") or {}).get("initContainerStatuses") or []:
        state = container.get("state") or {}
        waits = (state.get("waiting") or {}).get("reason", _CREATING) not in (_CREATING, "PodInitializing")
        if waits or (state.get("terminated") or {}).get("exitCode"):
            return True
    return False


def _of_operator(state: KmmState) -> Iterator[Complaint]:
    if not state.deployments:
        yield Complaint(
            f"KMM does not run: there is no Deployment with {OPERATOR_LABELS}", "lab up --module-loader kmm"
        )
    for item in state.deployments:
        namespace, name = _name(item)
        wanted = item["spec"].get("replicas", 1)
        if (found := (item.get("status") or {}).get("availableReplicas") or 0) < wanted:
            yield Complaint(
                f"Deployment {namespace}/{name}: expected {wanted} available replicas, found {found}",
                f"lab kubectl -n {namespace} describe pods -l {OPERATOR_LABELS}",
            )


def _of_module(state: KmmState) -> Iterator[Complaint]:
    if state.module is None:
        yield Complaint(f"there is no Module {NAMESPACE}/{MODULE}", f"lab kubectl apply -f {MANIFEST}")
    elif state.module["metadata"].get("deletionTimestamp"):
        yield Complaint(
            f"Module {NAMESPACE}/{MODULE} is being deleted: KMM unloads the module everywhere",
            f"lab kubectl -n {NAMESPACE} get pods,module",
        )


def _of_node(state: KmmState, node: str) -> Iterator[Complaint]:
    if not state.selected(node):
        label = f"{NODE_LABEL}={NODE_LABEL_VALUE}"
        yield Complaint(f"it has no label {label}, so KMM does not load the module", _label(node, label), node)
    elif (image := state.wanted_image(node)) is None:
        yield Complaint(
            f"no kernel mapping of Module {NAMESPACE}/{MODULE} fits its kernel {state._kernel(node)}",
            f"lab kubectl -n {NAMESPACE} edit module {MODULE}",
            node,
        )
    elif (image_state := state.images.get(image, "")) != "Exists":
        yield _of_image(state, node, image, image_state)
    elif (worker := state.worker(node)) is not None:
        yield _of_worker(state, worker, node)
    elif state.configured(node, "status") is None:
        yield Complaint(
            "KMM has not loaded the module yet, no pod of it runs there",
            f"lab kubectl get nodemodulesconfig {node} -o yaml",
            node,
        )
    elif not state.ready(node):
        yield Complaint(
            f"KMM has not set label {READY_LABEL} yet", f"lab kubectl get nodemodulesconfig {node} -o yaml", node
        )


def _of_image(state: KmmState, node: str, image: str, image_state: str) -> Complaint:
    pull = next((pod for pod in state.pulls if pod["spec"]["containers"][0]["image"] == image), None)
    if pull is None:
        found = f"KMM says {image_state or 'nothing'} of it"
        return Complaint(
            f"its image {image} is not there: {found}",
            f"lab kubectl -n {NAMESPACE} get moduleimagesconfig {MODULE} -o yaml",
            node,
        )
    name = pull["metadata"]["name"]
    return Complaint(
        f"its image {image} is not there: pod {name} on {pull['spec'].get('nodeName') or 'no node'}: {_reasons(pull)}",
        f"lab kubectl -n {NAMESPACE} describe pod {name}",
        node,
    )


def _of_worker(state: KmmState, worker: Object, node: str) -> Complaint:
    name, action = worker["metadata"]["name"], action_of(worker)
    if image := outdated_image(state, worker):
        return Complaint(
            f"pod {name} still tries the earlier image {image}, and KMM does not replace it: "
            f"{_reasons(worker)}{state.logs.get(name, '')}",
            f"lab kubectl -n {NAMESPACE} delete pod {name}",
            node,
        )
    doing = "loads" if action == LOAD else "unloads"
    return Complaint(
        f"pod {name} {doing} the module: {_reasons(worker)}{state.logs.get(name, '')}",
        f"lab kubectl -n {NAMESPACE} logs {name} --all-containers",
        node,
    )


def _reasons(pod: Object) -> str:
    reasons = list(pod_reasons(client.V1Pod.from_dict(pod)))
    return ", ".join(reasons) or str(pod["status"].get("phase", "it has not started"))


def _label(node: str, label: str) -> str:
    return f"lab kubectl label node {node} {label}"


def load_again(node: str) -> str:
    """The command that lets KMM load a module again of which it believes that it is loaded.

    KMM loads what is missing in the status of a NodeModulesConfig.
    """
    patch = '{"status":{"modules":[]}}'
    return f"lab kubectl patch nodemodulesconfig {node} --subresource status --type merge -p '{patch}'"


def _name(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]
