"""Our Module, changed and judged by the objects of KMM, in their form in v2.6.0."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from dra_fakes.answers import Answers, Object, api_server, listing

from mock_device.checks.driver import kmm_modules
from mock_device.checks.errors import CheckError, SkipCheck
from mock_device.lab.cluster import kmm_state
from mock_device.lab.cluster.kmm_state import KmmState

NOW = timedelta(0)
IMAGE = "localhost/mock-device/mock-accel-kmod:dev"
NEXT = "localhost/mock-device/mock-accel-kmod:next"
KERNEL = "6.12.57+deb13-cloud-amd64"
MODULES = "/apis/kmm.sigs.x-k8s.io/v1beta1/namespaces/mock-device/modules"
OURS = f"{MODULES}/mock-accel"
EVENTS = "/api/v1/events"
MODULE: Object = {
    "metadata": {
        "name": "mock-accel",
        "namespace": "mock-device",
        "uid": "u1",
        "finalizers": ["kmm.node.kubernetes.io/module-finalizer"],
    },
    "spec": {
        "selector": {kmm_state.NODE_LABEL: kmm_state.NODE_LABEL_VALUE},
        "moduleLoader": {
            "container": {
                "imagePullPolicy": "IfNotPresent",
                "kernelMappings": [{"regexp": "^.+$", "containerImage": IMAGE}],
                "modprobe": {"moduleName": "mock_accel", "dirName": "/opt"},
            }
        },
    },
    "status": {"moduleLoader": {"nodesMatchingSelectorNumber": 2, "desiredNumber": 2, "availableNumber": 2}},
}
DELETED: Object = {**MODULE, "metadata": {**MODULE["metadata"], "deletionTimestamp": "2026-11-27T17:00:00Z"}}
DEPLOYMENT: Object = {
    "metadata": {"namespace": "kmm-operator-system", "name": "kmm-operator-controller"},
    "spec": {"replicas": 1},
    "status": {"availableReplicas": 1},
}


def node(name: str, *, ready: bool = True) -> Object:
    labels = {kmm_state.NODE_LABEL: kmm_state.NODE_LABEL_VALUE, **({kmm_state.READY_LABEL: ""} if ready else {})}
    return {"metadata": {"name": name, "labels": labels}, "status": {"nodeInfo": {"kernelVersion": KERNEL}}}


def config(image: str) -> Object:
    entry = {"name": "mock-accel", "namespace": "mock-device", "config": {"containerImage": image}}
    return {"spec": {"modules": [entry]}, "status": {"modules": [entry]}}


def worker(name: str, *, action: str = "Unload", code: int = 1) -> Object:
    return {
        "metadata": {
            "name": f"kmm-worker-{name}-mock-accel",
            "labels": {"kmm.node.kubernetes.io/worker-action": action},
        },
        "spec": {"nodeName": name, "containers": []},
        "status": {"containerStatuses": [{"name": "worker", "lastState": {"terminated": {"exitCode": code}}}]},
    }


def state(
    images: Mapping[str, str] | None = None, module: Object | None = MODULE, ready: bool = True, **changes: Any
) -> KmmState:
    """A cluster whose nodes have loaded the module from ``images``."""
    loaded = {"node1": IMAGE, "node2": IMAGE} if images is None else images
    whole: dict[str, Any] = {
        "module": module,
        "images": {IMAGE: "Exists", NEXT: "Exists"},
        "configs": {name: config(image) for name, image in loaded.items()},
        "nodes": {name: node(name, ready=ready) for name in ("node1", "node2")},
        "deployments": [DEPLOYMENT],
        **changes,
    }
    return KmmState(served=True, **whole)


def changed(**status: int) -> Object:
    return {**MODULE, "status": {"moduleLoader": status}}


def test_module_on_all_nodes_is_available() -> None:
    assert kmm_modules.available_complaints(state(), ["node1", "node2"]) == []


@pytest.mark.parametrize(
    ("found", "nodes", "complaint"),
    [
        (
            state({"node1": IMAGE, "node2": NEXT}),
            ["node1", "node2"],
            f"node2: expected the module of image {IMAGE}, found that of {NEXT}",
        ),
        (
            state(module=changed(desiredNumber=2, availableNumber=1)),
            ["node1", "node2"],
            "status.moduleLoader.availableNumber: expected 2, found 1",
        ),
        (state(), ["node1"], "status.moduleLoader.availableNumber: expected 1, found 2"),
    ],
)
def test_module_that_is_not_available_is_explained(found: KmmState, nodes: list[str], complaint: str) -> None:
    assert kmm_modules.available_complaints(found, nodes) == [complaint]


def test_labels_are_compared_with_what_is_wanted() -> None:
    assert kmm_modules.label_complaints(state(), ["node1"], True) == []
    assert kmm_modules.label_complaints(state(), ["node1"], False) == [
        "node1: expected no label kmm.node.kubernetes.io/mock-device.mock-accel.ready"
    ]
    assert kmm_modules.label_complaints(state(ready=False), ["node1"], True) == [
        "node1: expected a label kmm.node.kubernetes.io/mock-device.mock-accel.ready"
    ]


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        (None, "Module mock-accel: expected it to stay while it is deleted, found none"),
        (MODULE, "Module mock-accel: expected it to be deleted, found no deletionTimestamp"),
        (
            {"metadata": {"deletionTimestamp": "2026-11-27T17:00:00Z", "finalizers": ["foregroundDeletion"]}},
            "Module mock-accel: expected kmm.node.kubernetes.io/module-finalizer, found ['foregroundDeletion']",
        ),
    ],
)
def test_module_that_does_not_wait_for_its_deletion_is_explained(module: Object | None, complaint: str) -> None:
    assert kmm_modules.deletion_complaints(module) == [complaint]


def test_module_that_waits_for_its_deletion_has_a_finalizer() -> None:
    assert kmm_modules.deletion_complaints(DELETED) == []


def test_image_of_the_module_is_that_of_its_first_mapping() -> None:
    assert kmm_modules.module_image(MODULE) == IMAGE
    with pytest.raises(CheckError, match="expected Module mock-accel, found none"):
        kmm_modules.module_image(None)


def test_second_module_differs_in_name_and_selector_only() -> None:
    body = kmm_modules.second_body(MODULE, "second", {"node": "other"})
    assert body["metadata"] == {"name": "second", "namespace": "mock-device"}
    assert body["spec"] == {**MODULE["spec"], "selector": {"node": "other"}}
    assert MODULE["spec"]["selector"] == {kmm_state.NODE_LABEL: kmm_state.NODE_LABEL_VALUE}


def test_change_of_the_image_keeps_the_rest_of_the_spec() -> None:
    assert kmm_modules.image_spec(NEXT, "^6", "/firmware") == {
        "moduleLoader": {
            "container": {
                "kernelMappings": [{"regexp": "^6", "containerImage": NEXT}],
                "modprobe": {"firmwarePath": "/firmware"},
            }
        }
    }


def test_missing_module_is_none_and_its_deletion_no_error() -> None:
    with api_server({}) as api:
        assert kmm_modules.read(api) is None
        kmm_modules.start_deleting(api)
        kmm_modules.wait_gone(api, "mock-accel", NOW)


def test_refusal_of_the_webhook_is_shown() -> None:
    answers: Answers = {MODULES: (403, {"message": "admission webhook vmodule.kb.io denied the request: no tag"})}
    with (
        api_server(answers) as api,
        pytest.raises(CheckError, match="Module mock-accel: the API server refuses it, 403: admission webhook"),
    ):
        kmm_modules.create(api, kmm_modules.body_of(MODULE))


def test_module_that_stays_is_explained_by_finalizers_and_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = state(module=DELETED, workers=[worker("node1")], logs={"kmm-worker-node1-mock-accel": "; in use"})
    monkeypatch.setattr(kmm_state, "read", lambda _: waiting)
    with api_server({OURS: (200, DELETED)}) as api, pytest.raises(CheckError) as caught:
        kmm_modules.wait_gone(api, "mock-accel", NOW)
    assert str(caught.value) == (
        "Module mock-accel is not gone after 0 s:\n"
        "Module mock-accel has finalizers kmm.node.kubernetes.io/module-finalizer\n"
        "pod kmm-worker-node1-mock-accel unloads the module; in use"
    )


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (state(), "no pod of KMM unloads the module there"),
        (state(workers=[worker("node1", action="Load")]), "no pod of KMM unloads the module there"),
        (state(workers=[worker("node1", code=0)]), "pod kmm-worker-node1-mock-accel, log: none yet"),
    ],
)
def test_unload_that_has_not_failed_is_explained(found: KmmState, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmm_state, "read", lambda _: found)
    with api_server({}) as api, pytest.raises(CheckError, match=f"unload the module on node1: 'in use'.*\n{reason}"):
        kmm_modules.wait_refused_unload(api, "node1", "in use", NOW)


def test_failed_unload_is_known_by_the_log_of_its_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    log = "modprobe: FATAL: Module mock_accel is in use.\n"
    found = state(workers=[worker("node1")], logs={"kmm-worker-node1-mock-accel": log})
    monkeypatch.setattr(kmm_state, "read", lambda _: found)
    with api_server({}) as api:
        assert kmm_modules.wait_refused_unload(api, "node1", "in use", NOW) == log.strip()


def test_reason_for_a_node_is_found_or_the_others_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    module = copy.deepcopy(MODULE)
    module["spec"]["moduleLoader"]["container"]["kernelMappings"][0]["regexp"] = "^0$"
    monkeypatch.setattr(kmm_state, "read", lambda _: state(module=module))
    with api_server({}) as api:
        assert "no kernel mapping" in kmm_modules.wait_reason(api, "node1", "no kernel mapping", NOW)
        with pytest.raises(CheckError, match="(?s)expected a reason with 'no image' for node1.*no kernel mapping"):
            kmm_modules.wait_reason(api, "node1", "no image", NOW)
        monkeypatch.setattr(kmm_state, "read", lambda _: state())
        with pytest.raises(CheckError, match="nothing is wrong"):
            kmm_modules.wait_reason(api, "node1", "no image", NOW)


def test_module_of_another_image_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmm_state, "read", lambda _: state())
    with api_server({}) as api:
        kmm_modules.wait_image(api, "node1", IMAGE, NOW)
        with pytest.raises(CheckError, match=f"node1: expected the module of image {NEXT}.*\nfound that of {IMAGE}"):
            kmm_modules.wait_image(api, "node1", NEXT, NOW)


def test_only_new_events_of_the_node_count() -> None:
    def event(version: str, reason: str) -> Object:
        about = {"kind": "Node", "name": "node1"}
        return {
            "metadata": {"name": reason.lower(), "resourceVersion": version},
            "involvedObject": about,
            "reason": reason,
            "message": "Module mock-device/mock-accel loaded",
        }

    answers: Answers = {EVENTS: listing(event("7", "ModuleUnloaded"), event("9", "ModuleLoaded"))}
    with api_server(answers) as api:
        assert kmm_modules.events_version(api) == 1
        assert kmm_modules.new_events(api, "node1", 8) == ["ModuleLoaded: Module mock-device/mock-accel loaded"]
        kmm_modules.wait_event(api, "node1", "ModuleLoaded: ", 8, NOW)
        with pytest.raises(CheckError, match="(?s)expected an event with 'ModuleUnloaded: ' of node1.*ModuleLoaded: "):
            kmm_modules.wait_event(api, "node1", "ModuleUnloaded: ", 8, NOW)
        with pytest.raises(CheckError, match="no new event"):
            kmm_modules.wait_event(api, "node1", "ModuleLoaded: ", 9, NOW)


@pytest.mark.parametrize(
    ("found", "done"),
    [
        (MODULE, []),
        ({**MODULE, "spec": {**MODULE["spec"], "selector": {}}}, [("replace", MODULE["spec"])]),
        (None, [("create", MODULE["spec"])]),
    ],
)
def test_module_is_put_back_as_it_was(found: Object | None, done: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(kmm_modules, "read", lambda *_: found)
    monkeypatch.setattr(kmm_modules, "create", lambda _, body: calls.append(("create", body["spec"])))
    monkeypatch.setattr(kmm_modules, "replace", lambda _, body: calls.append(("replace", body["spec"])))
    monkeypatch.setattr(kmm_state, "read", lambda _: state())
    with api_server({}) as api:
        kmm_modules.put_back(api, MODULE, [], NOW)
    assert calls == done


def loading(image: str) -> Object:
    """A pod that cannot copy the module from ``image``."""
    pod = worker("node1", action="Load", code=0)
    pod["spec"]["initContainers"] = [{"name": "image-extractor", "image": image}]
    failing = {"name": "image-extractor", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    pod["status"]["initContainerStatuses"] = [failing]
    return pod


def test_pods_of_an_earlier_image_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [state(workers=[loading(NEXT)]), state(workers=[loading(IMAGE)])]
    monkeypatch.setattr(kmm_state, "read", lambda _: seen.pop(0))
    pod = "/api/v1/namespaces/mock-device/pods/kmm-worker-node1-mock-accel"
    with api_server({pod: (200, {})}) as api:
        kmm_modules.replace_outdated_pods(api, timedelta(seconds=30))
    assert seen == []


def test_image_that_kmm_has_not_noticed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmm_state, "read", lambda _: state({"node1": IMAGE, "node2": NEXT}))
    reason = (
        f"KMM does not follow the image of Module mock-accel after 0 s:\nnode2: expected KMM to want image {IMAGE}, "
        f"found {NEXT}"
    )
    with api_server({}) as api, pytest.raises(CheckError) as caught:
        kmm_modules.replace_outdated_pods(api, NOW)
    assert str(caught.value) == reason


def test_firmware_that_the_worker_may_not_write_skips_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "kmm-worker-node1-mock-accel"
    # Log of KMM v2.6.0.
    log = (
        'could not set the firmware_class.path parameter: could not write "/lib/firmware" into '
        "/sys/module/firmware_class/parameters/path: open /sys/module/firmware_class/parameters/path: permission denied"
    )
    failing = worker("node1", action="Load")
    failing["metadata"]["namespace"] = "mock-device"
    failing["status"]["containerStatuses"][0].update(image="w", imageID="", ready=False, restartCount=1, state={})
    monkeypatch.setattr(kmm_state, "read", lambda _: state(workers=[failing], logs={name: f"; log of worker: {log}"}))
    with api_server({}) as api:
        with pytest.raises(
            SkipCheck, match="its image has another user than root: node1: pod kmm-worker-node1.*denied"
        ):
            kmm_modules.wait_firmware(api, ["node1", "node2"], NOW)
        monkeypatch.setattr(kmm_state, "read", lambda _: state(ready=False))
        with pytest.raises(CheckError, match="Module mock-accel with firmware is not available after 0 s"):
            kmm_modules.wait_firmware(api, ["node1", "node2"], NOW)
        monkeypatch.setattr(kmm_state, "read", lambda _: state())
        kmm_modules.wait_firmware(api, ["node1", "node2"], NOW)
