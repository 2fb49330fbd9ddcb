"""Why KMM has not loaded the module on a node, by its objects (fields as seen with KMM v2.4.1)."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from mock_device.lab.cluster import kmm_state
from mock_device.lab.cluster.kmm_state import KmmState
from mock_device.lab.kube import manifests

Object = dict[str, Any]
IMAGE = "localhost/mock-device/mock-accel-kmod:dev"
NODE, OTHER = "node1", "node2"
LABELS = {kmm_state.NODE_LABEL: kmm_state.NODE_LABEL_VALUE, kmm_state.READY_LABEL: ""}
*_, MODULE = manifests.read_manifest(kmm_state.MANIFEST)
ENTRY = {"modules": [{"namespace": "mock-device", "name": "mock-accel", "config": {"kernelVersion": "6.12"}}]}


def node(**labels: str) -> Object:
    return {"metadata": {"labels": labels}, "status": {"nodeInfo": {"kernelVersion": "6.12.1+"}}}


def deployment(available: int | None = 1) -> Object:
    status = {} if available is None else {"availableReplicas": available}
    metadata = {"namespace": "kmm-operator-system", "name": "kmm-operator-controller"}
    return {"metadata": metadata, "spec": {"replicas": 1}, "status": status}


def worker(action: str = kmm_state.LOAD, *, exit_code: int = 0, where: str = "lastState") -> Object:
    states = [{"name": "worker", "image": "w", "imageID": "", "ready": False, "restartCount": 1, "state": {}}]
    if exit_code:
        states[0][where] = {"terminated": {"exitCode": exit_code, "reason": "Error"}}
    labels = {"kmm.node.kubernetes.io/worker-action": action}
    return {
        "metadata": {"name": f"kmm-worker-{NODE}-mock-accel", "namespace": "mock-device", "labels": labels},
        "spec": {"nodeName": NODE, "containers": [{"name": "worker", "image": "w"}]},
        "status": {"phase": "Running", "containerStatuses": states},
    }


def pull(**waiting: str) -> Object:
    state = {"name": "puller", "image": IMAGE, "imageID": "", "ready": False, "restartCount": 0}
    labels = {"kmm.node.kubernetes.io/image-owner": "mock-accel"}
    return {
        "metadata": {"name": "mock-accel-pull-pod-x", "namespace": "mock-device", "labels": labels},
        "spec": {"nodeName": OTHER, "containers": [{"name": "puller", "image": IMAGE}]},
        "status": {"phase": "Pending", "containerStatuses": [{**state, "state": {"waiting": waiting}}]},
    }


HEALTHY = KmmState(
    served=True,
    module={**MODULE, "status": {"moduleLoader": {"availableNumber": 2, "desiredNumber": 2}}},
    images={IMAGE: "Exists"},
    configs={name: {"spec": ENTRY, "status": ENTRY} for name in (NODE, OTHER)},
    nodes={name: node(**LABELS) for name in (NODE, OTHER)},
    deployments=[deployment()],
)


def found(**changes: Any) -> list[tuple[str, str]]:
    complaints = kmm_state.complaints(replace(HEALTHY, **changes), [NODE, OTHER])
    return [(str(item), item.remedy) for item in complaints]


def mappings(*entries: Object, image: str | None = None) -> Object:
    module: Object = copy.deepcopy(MODULE)
    container = module["spec"]["moduleLoader"]["container"]
    container["kernelMappings"] = list(entries)
    if image:
        container["containerImage"] = image
    return module


def test_loaded_module_has_no_complaint() -> None:
    assert found() == []
    assert (HEALTHY.available(), HEALTHY.selected(NODE), HEALTHY.ready(NODE)) == (2, True, True)
    assert replace(HEALTHY, module={**MODULE}).available() == 0


UNLABELLED = {NODE: node(), OTHER: node(**LABELS)}
NOT_CONFIGURED = {NODE: {"spec": ENTRY}, OTHER: HEALTHY.configs[OTHER]}


@pytest.mark.parametrize(
    ("changes", "complaint", "remedy"),
    [
        ({"served": False}, "KMM is not installed: the cluster has no kind Module", "lab up --module-loader kmm"),
        (
            {"deployments": []},
            "KMM does not run: there is no Deployment with app.kubernetes.io/name=kmm",
            "lab up --module-loader kmm",
        ),
        (
            {"deployments": [deployment(None)]},
            "Deployment kmm-operator-system/kmm-operator-controller: expected 1 available replicas, found 0",
            "lab kubectl -n kmm-operator-system describe pods -l app.kubernetes.io/name=kmm",
        ),
        ({"module": None}, "there is no Module mock-device/mock-accel", f"lab kubectl apply -f {kmm_state.MANIFEST}"),
        (
            {"module": {**MODULE, "metadata": {"deletionTimestamp": "now"}}},
            "Module mock-device/mock-accel is being deleted: KMM unloads the module everywhere",
            "lab kubectl -n mock-device get pods,module",
        ),
        (
            {"nodes": UNLABELLED},
            "node1: it has no label mock-accel.example.com/kernel-module=kmm, so KMM does not load the module",
            "lab kubectl label node node1 mock-accel.example.com/kernel-module=kmm",
        ),
        (
            {"module": mappings({"literal": "5.10", "containerImage": IMAGE})},
            "node1: no kernel mapping of Module mock-device/mock-accel fits its kernel 6.12.1",
            "lab kubectl -n mock-device edit module mock-accel",
        ),
        (
            {"images": {}, "pulls": [pull(reason="ErrImagePull", message="connection refused")]},
            f"node1: its image {IMAGE} is not there: pod mock-accel-pull-pod-x on node2: "
            "container puller waits: ErrImagePull connection refused",
            "lab kubectl -n mock-device describe pod mock-accel-pull-pod-x",
        ),
        (
            {"images": {IMAGE: "DoesNotExist"}},
            f"node1: its image {IMAGE} is not there: KMM says DoesNotExist of it",
            "lab kubectl -n mock-device get moduleimagesconfig mock-accel -o yaml",
        ),
        (
            {"images": {}},
            f"node1: its image {IMAGE} is not there: KMM says nothing of it",
            "lab kubectl -n mock-device get moduleimagesconfig mock-accel -o yaml",
        ),
        (
            {
                "workers": [worker(exit_code=1)],
                "logs": {f"kmm-worker-{NODE}-mock-accel": "; log of worker:\n    modprobe: FATAL: Module not found"},
            },
            "node1: pod kmm-worker-node1-mock-accel loads the module: container worker ended with 1 (Error)"
            "; log of worker:\n    modprobe: FATAL: Module not found",
            "lab kubectl -n mock-device logs kmm-worker-node1-mock-accel --all-containers",
        ),
        (
            {"workers": [worker(kmm_state.UNLOAD)]},
            "node1: pod kmm-worker-node1-mock-accel unloads the module: Running",
            "lab kubectl -n mock-device logs kmm-worker-node1-mock-accel --all-containers",
        ),
        (
            {"configs": NOT_CONFIGURED},
            "node1: KMM has not loaded the module yet, no pod of it runs there",
            "lab kubectl get nodemodulesconfig node1 -o yaml",
        ),
        (
            {"nodes": {**HEALTHY.nodes, NODE: node(**{kmm_state.NODE_LABEL: "kmm"})}},
            "node1: KMM has not set label kmm.node.kubernetes.io/mock-device.mock-accel.ready yet",
            "lab kubectl get nodemodulesconfig node1 -o yaml",
        ),
    ],
)
def test_cause_is_named(changes: dict[str, Any], complaint: str, remedy: str) -> None:
    assert found(**changes)[0] == (complaint, remedy)


def test_image_is_that_of_the_first_mapping_that_fits() -> None:
    any_kernel = {"regexp": "^.+$"}
    old = {"literal": "5.10", "containerImage": "old:1"}
    state = replace(HEALTHY, module=mappings(old, any_kernel, image="general:1"))
    assert state.wanted_image(NODE) == "general:1"
    exact = {"literal": "6.12.1", "containerImage": "exact:1"}
    assert replace(HEALTHY, module=mappings(exact, any_kernel)).wanted_image(NODE) == "exact:1"
    assert replace(HEALTHY, module=None).wanted_image(NODE) is None


def extracting(image: str, **status: Object) -> Object:
    """A pod that loads the module, while its first container copies it from ``image``."""
    pod = worker()
    pod["spec"]["initContainers"] = [{"name": "image-extractor", "image": image}]
    first = {"name": "image-extractor", "image": image, "imageID": "", "ready": False, "restartCount": 1}
    pod["status"]["initContainerStatuses"] = [{**first, "state": status}]
    return pod


def with_configured(image: str) -> KmmState:
    module = {"namespace": "mock-device", "name": "mock-accel", "config": {"containerImage": image}}
    return replace(HEALTHY, configs={**HEALTHY.configs, NODE: {"spec": {"modules": [module]}}})


@pytest.mark.parametrize(
    ("status", "stuck"),
    [
        ({"terminated": {"exitCode": 1, "reason": "Error"}}, True),
        ({"waiting": {"reason": "CrashLoopBackOff"}}, True),
        ({"waiting": {"reason": "ErrImagePull"}}, True),
        ({"waiting": {"reason": "PodInitializing"}}, False),
        ({"terminated": {"exitCode": 0, "reason": "Completed"}}, False),
        ({"running": {}}, False),
    ],
)
def test_pod_of_an_earlier_image_is_known_once_it_fails(status: Object, stuck: bool) -> None:
    pod = extracting("other:1", **status)
    assert kmm_state.outdated_image(with_configured(IMAGE), pod) == ("other:1" if stuck else None)
    assert kmm_state.outdated_image(with_configured("other:1"), pod) is None
    assert kmm_state.outdated_image(replace(HEALTHY, configs={}), pod) is None
    unloading = {**pod, "metadata": worker(kmm_state.UNLOAD)["metadata"]}
    assert kmm_state.outdated_image(with_configured(IMAGE), unloading) is None


def test_pod_that_kmm_does_not_replace_is_to_be_deleted() -> None:
    state = with_configured(IMAGE)
    pod = extracting("other:1", waiting={"reason": "CrashLoopBackOff"})
    (complaint,) = kmm_state.complaints(replace(state, workers=[pod]), [NODE])
    assert str(complaint) == (
        "node1: pod kmm-worker-node1-mock-accel still tries the earlier image other:1, and KMM does not replace it: "
        "container image-extractor waits: CrashLoopBackOff"
    )
    assert complaint.remedy == "lab kubectl -n mock-device delete pod kmm-worker-node1-mock-accel"


def test_failed_container_is_found_now_and_before() -> None:
    assert kmm_state.failed(worker(exit_code=1))
    assert kmm_state.failed(worker(exit_code=1, where="state"))
    assert not kmm_state.failed(worker())
    assert kmm_state.action_of(worker(kmm_state.UNLOAD)) == kmm_state.UNLOAD


def test_pods_that_pass_are_those_of_workers_and_pulls() -> None:
    assert kmm_state.is_passing(worker()) and kmm_state.is_passing(pull())
    assert not kmm_state.is_passing({"metadata": {"labels": {"app": "mock-accel-node-agent"}}})
    assert not kmm_state.is_passing({"metadata": {}})
