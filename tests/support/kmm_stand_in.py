"""A stand-in for the Kernel Module Management operator (KMM), not KMM: a loop that sets what was seen on the real one.

It follows Modules, nodes and pods by polling, writes NodeModulesConfigs, ModuleImagesConfigs,
labels, pods and statuses as KMM was seen to do (v2.6.0; loading, deleting and labels also v2.4.1),
and takes the kubelet's part for the pods, because no node runs. It does not follow changes of a
Module's image. Faults are attributes that tests change.
"""

from __future__ import annotations

import re
import threading
from http import HTTPStatus
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.lab.cluster import kmm_state
from mock_device.lab.cluster.kmm_state import GROUP, LOAD, MODULE, READY_LABEL, UNLOAD, VERSION
from mock_device.lab.kube import kubeclient
from mock_device.names import NAMESPACE

_FINALIZER = "kmm.node.kubernetes.io/module-finalizer"
_ACTION, _MODULE_NAME = "kmm.node.kubernetes.io/worker-action", "kmm.node.kubernetes.io/module.name"
_IMAGE_OWNER = "kmm.node.kubernetes.io/image-owner"
_POLL_SECONDS = 0.05

Object = dict[str, Any]


class KmmStandIn(threading.Thread):
    """Follows our Module until ``stop``."""

    def __init__(self, api: ApiClient) -> None:
        super().__init__(name="KMM stand-in", daemon=True)
        self._api = api
        self._custom, self._core, self._apps = (
            client.CustomObjectsApi(api),
            client.CoreV1Api(api),
            client.AppsV1Api(api),
        )
        self._stopped = threading.Event()
        self.operator_available = True
        self.images_there = True
        self.loads_fail = False
        self.in_use: set[str] = set()
        """Nodes on which the module is in use."""
        self.loaded: set[str] = set()
        """Nodes on which the module is loaded."""
        self.history: list[str] = []
        """What happened, in order."""
        self.errors: list[str] = []

    def stop(self) -> None:
        self._stopped.set()
        self.join(10)

    def run(self) -> None:
        while not self._stopped.wait(_POLL_SECONDS):
            try:
                self._deployments()
                if kmm_state.is_served(self._api):
                    self._modules()
                    self._pods()
            except ApiException as error:
                # Another writer was faster: the next round sees it. KMM retries, too.
                if error.status not in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                    self.errors.append(str(error))

    def _deployments(self) -> None:
        found: Any = self._apps.list_deployment_for_all_namespaces()
        for item in found.items:
            wanted = item.spec.replicas if self.operator_available else 0
            seen = item.status.observed_generation == item.metadata.generation
            if (item.status.available_replicas or 0) == wanted and seen:
                continue
            status = {
                "observedGeneration": item.metadata.generation,
                "replicas": item.spec.replicas,
                "updatedReplicas": item.spec.replicas,
                "availableReplicas": wanted,
                "readyReplicas": wanted,
            }
            self._apps.patch_namespaced_deployment_status(
                item.metadata.name, item.metadata.namespace, {"status": status}
            )
            if wanted:
                self.history.append(f"Deployment {item.metadata.name} available")

    def _modules(self) -> None:
        found: Any = self._custom.list_namespaced_custom_object(GROUP, VERSION, NAMESPACE, "modules")
        ours = [item for item in found["items"] if item["metadata"]["name"] == MODULE]
        if not ours:
            return
        module = ours[0]
        deleted = "deletionTimestamp" in module["metadata"]
        if not deleted and _FINALIZER not in module["metadata"].get("finalizers", []):
            self.history.append("Module seen")
            self._patch_module({"metadata": {"finalizers": [_FINALIZER]}})
        nodes = [kubeclient.as_json(self._api, node) for node in self._core.list_node().items]
        selector = module["spec"]["selector"]
        selected = [] if deleted else [node for node in nodes if selector.items() <= node["metadata"]["labels"].items()]
        wanted = {node["metadata"]["name"]: image for node in selected if (image := self._image(module, node))}
        if not deleted:
            self._images(sorted(set(wanted.values())))
        configs = [self._config(node["metadata"]["name"], wanted.get(node["metadata"]["name"])) for node in nodes]
        if deleted and not any(item.get("status", {}).get("modules") for item in configs):
            self._patch_module({"metadata": {"finalizers": None}})
            self.history.append("Module released")
            return
        configured = [item for item in configs if item["spec"].get("modules")]
        available = [item for item in configured if item["spec"] == item.get("status")]
        numbers = {
            "nodesMatchingSelectorNumber": len(selected),
            "desiredNumber": len(configured),
            "availableNumber": len(available),
        }
        if module.get("status", {}).get("moduleLoader") != numbers:
            self._custom.patch_namespaced_custom_object_status(
                GROUP, VERSION, NAMESPACE, "modules", MODULE, {"status": {"moduleLoader": numbers}}
            )

    def _patch_module(self, body: Object) -> None:
        self._custom.patch_namespaced_custom_object(GROUP, VERSION, NAMESPACE, "modules", MODULE, body)

    def _image(self, module: Object, node: Object) -> str:
        kernel = node["status"]["nodeInfo"]["kernelVersion"]
        for mapping in module["spec"]["moduleLoader"]["container"]["kernelMappings"]:
            if re.search(mapping["regexp"], kernel):
                return str(mapping["containerImage"])
        return ""

    def _images(self, wanted: list[str]) -> None:
        spec = {"images": [{"image": image, "kernelVersion": "6"} for image in wanted]}
        body = _object("ModuleImagesConfig", MODULE, spec) | {"metadata": {"name": MODULE, "namespace": NAMESPACE}}
        plural = "moduleimagesconfigs"
        try:
            self._custom.patch_namespaced_custom_object(GROUP, VERSION, NAMESPACE, plural, MODULE, {"spec": spec})
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._custom.create_namespaced_custom_object(GROUP, VERSION, NAMESPACE, plural, body)
        states = [{"image": image, "status": "Exists"} for image in wanted] if self.images_there else []
        self._custom.patch_namespaced_custom_object_status(
            GROUP, VERSION, NAMESPACE, plural, MODULE, {"status": {"imagesStates": states}}
        )
        pulls = [pod for pod in self._all_pods() if _IMAGE_OWNER in pod.metadata.labels]
        if self.images_there:
            for pod in pulls:
                self._remove(pod)
        elif not pulls and wanted:
            self._start("mock-accel-pull-pod-x7f2k", {_IMAGE_OWNER: MODULE}, "puller", wanted[0], None)

    def _config(self, node: str, image: str | None) -> Object:
        """The node's NodeModulesConfig, as it is after this round."""
        module = {"name": MODULE, "namespace": NAMESPACE, "serviceAccountName": "", "config": _config_of(image)}
        spec = {"modules": [module]} if image and self.images_there else {"modules": []}
        try:
            now: Any = self._custom.get_cluster_custom_object(GROUP, VERSION, "nodemodulesconfigs", node)
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            now = self._custom.create_cluster_custom_object(
                GROUP, VERSION, "nodemodulesconfigs", _object("NodeModulesConfig", node, spec)
            )
        if now["spec"] != spec:
            now = self._custom.patch_cluster_custom_object(GROUP, VERSION, "nodemodulesconfigs", node, {"spec": spec})
        status = (now.get("status") or {}).get("modules") or []
        worker = next((pod for pod in self._all_pods() if pod.metadata.name == _worker_name(node)), None)
        if worker is None and spec["modules"] and not status:
            self._start(_worker_name(node), {_ACTION: LOAD, _MODULE_NAME: MODULE}, "worker", "worker:1", node)
        elif worker is None and status and not spec["modules"]:
            self._start(_worker_name(node), {_ACTION: UNLOAD, _MODULE_NAME: MODULE}, "worker", "worker:1", node)
        self._label(node, ready=bool(status))
        return {"spec": spec, "status": {"modules": status}}

    def _label(self, node: str, *, ready: bool) -> None:
        item: Any = self._core.read_node(node)
        labels = item.metadata.labels
        if (READY_LABEL in labels) != ready:
            self._core.patch_node(node, {"metadata": {"labels": {READY_LABEL: "" if ready else None}}})
            self.history.append(f"{node} {'ready' if ready else 'not ready'}")

    def _pods(self) -> None:
        """The kubelets' part: let worker pods succeed or fail, and end those that are deleted."""
        for pod in self._all_pods():
            action, node = pod.metadata.labels.get(_ACTION), pod.spec.node_name
            if pod.metadata.deletion_timestamp:
                self._remove(pod)
            elif action == LOAD and not self.loads_fail:
                self.loaded.add(node)
                self._set_status(node, loaded=True)
                self._remove(pod)
            elif action == UNLOAD and not (node in self.in_use and node in self.loaded):
                self.loaded.discard(node)
                self._set_status(node, loaded=False)
                self._remove(pod)
            elif pod.status.container_statuses is None:
                failing = {"terminated": {"exitCode": 1, "reason": "Error"}}
                waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting"}}
                pulling = {"waiting": {"reason": "ErrImagePull", "message": "connection refused"}}
                state = {"state": waiting, "lastState": failing} if action else {"state": pulling}
                (container,) = pod.spec.containers
                named = {"name": container.name, "image": container.image, "imageID": "", "ready": False}
                counts = {"restartCount": int(bool(action))}
                self._core.patch_namespaced_pod_status(
                    pod.metadata.name, NAMESPACE, {"status": {"containerStatuses": [{**named, **counts, **state}]}}
                )

    def _set_status(self, node: str, *, loaded: bool) -> None:
        now: Any = self._custom.get_cluster_custom_object(GROUP, VERSION, "nodemodulesconfigs", node)
        modules = now["spec"].get("modules", []) if loaded else []
        self._custom.patch_cluster_custom_object_status(
            GROUP, VERSION, "nodemodulesconfigs", node, {"status": {"modules": modules}}
        )

    def _start(self, name: str, labels: Object, container: str, image: str, node: str | None) -> None:
        spec = {"nodeName": node, "containers": [{"name": container, "image": image}], "restartPolicy": "OnFailure"}
        body: Any = {"metadata": {"name": name, "labels": labels}, "spec": spec}
        self._core.create_namespaced_pod(NAMESPACE, body)
        self.history.append(f"pod {name} {labels.get(_ACTION, 'pulls')}")

    def _remove(self, pod: Any) -> None:
        self._core.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)

    def _all_pods(self) -> list[Any]:
        found: Any = self._core.list_namespaced_pod(NAMESPACE)
        return list(found.items)


def _worker_name(node: str) -> str:
    return f"kmm-worker-{node}-{MODULE}"


def _object(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _config_of(image: str | None) -> Object:
    modprobe = {"moduleName": "mock_accel", "dirName": "/opt"}
    return {
        "kernelVersion": "6",
        "containerImage": image or "",
        "imagePullPolicy": "IfNotPresent",
        "insecurePull": False,
        "modprobe": modprobe,
    }
