"""Modules of the Kernel Module Management operator (KMM): what tests change in them, and what follows.

KMM reports no reason for a Module that it cannot load; ``kmm_state`` reads it from the objects between.
docs/how-to/kmm.md says what was seen with which version of KMM, and what was only read in its source.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.errors import CheckError, SkipCheck
from mock_device.checks.waiting import until_no_complaints
from mock_device.lab.cluster import kmm_state
from mock_device.lab.cluster.kmm_state import GROUP, MODULE, UNLOAD, VERSION, KmmState
from mock_device.lab.kube import kubeclient
from mock_device.names import NAMESPACE

_PLURAL = "modules"
_FINALIZER = "kmm.node.kubernetes.io/module-finalizer"
_MERGE = "application/merge-patch+json"
_FIRMWARE_REFUSED = "open /sys/module/firmware_class/parameters/path: permission denied"

Object = dict[str, Any]


def read(api: ApiClient, name: str = MODULE) -> Object | None:
    """A Module (API's JSON), or None if there is none of this ``name``."""
    try:
        answer: Any = client.CustomObjectsApi(api).get_namespaced_custom_object(
            GROUP, VERSION, NAMESPACE, _PLURAL, name
        )
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return None
    found: Object = answer
    return found


def body_of(module: Object) -> Object:
    """What creates ``module`` again: its name and its ``spec``."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Module",
        "metadata": {"name": module["metadata"]["name"], "namespace": module["metadata"]["namespace"]},
        "spec": copy.deepcopy(module["spec"]),
    }


def create(api: ApiClient, body: Object) -> None:
    """Create a Module. Raises CheckError with the API server's reason, which may be that of KMM's webhook."""
    try:
        client.CustomObjectsApi(api).create_namespaced_custom_object(GROUP, VERSION, NAMESPACE, _PLURAL, body)
    except ApiException as error:
        raise CheckError(
            f"Module {body['metadata']['name']}: the API server refuses it, {kubeclient.refusal(error)}"
        ) from error


def change(api: ApiClient, spec: Object, name: str = MODULE) -> None:
    """Change the ``spec`` of a Module by a JSON merge patch. Raises CheckError with the API server's reason."""
    try:
        client.CustomObjectsApi(api).patch_namespaced_custom_object(
            GROUP, VERSION, NAMESPACE, _PLURAL, name, {"spec": spec}, _content_type=_MERGE
        )
    except ApiException as error:
        raise CheckError(f"Module {name}: the API server refuses the change, {kubeclient.refusal(error)}") from error


def start_deleting(api: ApiClient, name: str = MODULE) -> None:
    """Delete a Module, without waiting until KMM has unloaded it. A missing one is no error."""
    try:
        client.CustomObjectsApi(api).delete_namespaced_custom_object(GROUP, VERSION, NAMESPACE, _PLURAL, name)
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise


def wait_gone(api: ApiClient, name: str, timeout: timedelta) -> None:
    """Wait until a Module that is being deleted is gone. Raises CheckError with what keeps it."""

    def complaints() -> list[str]:
        module = read(api, name)
        if module is None:
            return []
        reasons = [str(item) for item in _unloading(kmm_state.read(api))]
        return [f"Module {name} has finalizers {', '.join(module['metadata'].get('finalizers') or [])}", *reasons]

    until_no_complaints(complaints, timeout, f"Module {name} is not gone")


def image_spec(image: str, regexp: str = "^.+$", firmware: str | None = None) -> Object:
    """Part of a Module's ``spec``: ``image`` for kernels that match ``regexp``, and the folder of its ``firmware``."""
    mappings = [{"regexp": regexp, "containerImage": image}]
    return {"moduleLoader": {"container": {"kernelMappings": mappings, "modprobe": {"firmwarePath": firmware}}}}


def available_complaints(state: KmmState, nodes: Sequence[str]) -> list[str]:
    """Nodes on which our Module is not loaded as it is now; empty if status, labels and nodes' configurations agree."""
    found = [str(item) for item in kmm_state.complaints(state, nodes)]
    for node in nodes:
        wanted, loaded = state.wanted_image(node), loaded_image(state, node)
        if not found and wanted != loaded:
            found.append(f"{node}: expected the module of image {wanted}, found that of {loaded or 'none'}")
    if not found and state.available() != len(nodes):
        found.append(f"status.moduleLoader.availableNumber: expected {len(nodes)}, found {state.available()}")
    return found


def wait_available(api: ApiClient, nodes: Sequence[str], timeout: timedelta) -> None:
    """Wait until our Module is loaded on ``nodes`` as its ``spec`` says. Raises CheckError with the reasons."""
    until_no_complaints(
        lambda: available_complaints(kmm_state.read(api), nodes), timeout, f"Module {MODULE} is not available"
    )


def wait_firmware(api: ApiClient, nodes: Sequence[str], timeout: timedelta) -> None:
    """Like ``wait_available``, for a Module with firmware.

    Raises SkipCheck if KMM's worker may not set the kernel's firmware path: KMM starts it privileged, but as the user
    of its image unless our policy applies. (Seen with KMM v2.6.0 and the user of its Containerfile, 201.)
    """

    def complaints() -> list[str]:
        found = available_complaints(kmm_state.read(api), nodes)
        for complaint in found:
            if _FIRMWARE_REFUSED in complaint:
                raise SkipCheck(
                    f"KMM's worker may not set firmware_class.path, because its image has another user than root: "
                    f"{complaint}"
                )
        return found

    until_no_complaints(complaints, timeout, f"Module {MODULE} with firmware is not available")


def loaded_image(state: KmmState, node: str) -> str | None:
    """Image from which KMM has loaded our module on ``node``; None if it has not."""
    entry = state.configured(node, "status")
    return str(entry["config"]["containerImage"]) if entry else None


def wait_reason(api: ApiClient, node: str, because: str, timeout: timedelta) -> str:
    """Wait until KMM's objects show a reason with ``because`` for ``node``, and return it. Raises CheckError."""
    seen: list[str] = []

    def complaints() -> list[str]:
        found = [str(item) for item in kmm_state.complaints(kmm_state.read(api), [node])]
        seen[:] = [item for item in found if because in item]
        return [] if seen else found or ["nothing is wrong"]

    until_no_complaints(complaints, timeout, f"expected a reason with {because!r} for {node}, found")
    return seen[0]


def wait_refused_unload(api: ApiClient, node: str, because: str, timeout: timedelta) -> str:
    """Wait until KMM has failed to unload our module on ``node``, and return the log of its pod.

    The log must contain ``because``. Raises CheckError.
    """
    seen: list[str] = []

    def complaints() -> list[str]:
        state = kmm_state.read(api)
        worker = state.worker(node)
        if worker is None or kmm_state.action_of(worker) != UNLOAD:
            return ["no pod of KMM unloads the module there"]
        log = state.logs.get(worker["metadata"]["name"], "")
        if not kmm_state.failed(worker) or because not in log:
            return [f"pod {worker['metadata']['name']}, log: {log or 'none yet'}"]
        seen[:] = [log]
        return []

    until_no_complaints(complaints, timeout, f"expected KMM to fail to unload the module on {node}: {because!r}")
    return seen[0].strip()


def _unloading(state: KmmState) -> list[str]:
    """What KMM's pods that unload our module report."""
    return [
        f"pod {worker['metadata']['name']} unloads the module{state.logs.get(worker['metadata']['name'], '')}"
        for worker in state.workers
        if kmm_state.action_of(worker) == UNLOAD
    ]


def deletion_complaints(module: Object | None) -> list[str]:
    """Why our Module is not one that is being deleted and that KMM's finalizer keeps."""
    if module is None:
        return [f"Module {MODULE}: expected it to stay while it is deleted, found none"]
    metadata = module["metadata"]
    if not metadata.get("deletionTimestamp"):
        return [f"Module {MODULE}: expected it to be deleted, found no deletionTimestamp"]
    finalizers = metadata.get("finalizers") or []
    return [] if _FINALIZER in finalizers else [f"Module {MODULE}: expected {_FINALIZER}, found {finalizers}"]


def module_image(module: Object | None) -> str:
    """Image of the first kernel mapping of our Module. Raises CheckError if there is no Module."""
    if module is None:
        raise CheckError(f"expected Module {MODULE}, found none")
    return str(module["spec"]["moduleLoader"]["container"]["kernelMappings"][0]["containerImage"])


def wait_image(api: ApiClient, node: str, image: str, timeout: timedelta) -> None:
    """Wait until KMM reports that the module on ``node`` is that of ``image``. Raises CheckError with the reasons."""

    def complaints() -> list[str]:
        state = kmm_state.read(api)
        found = loaded_image(state, node)
        reasons = [str(item) for item in kmm_state.complaints(state, [node])]
        return [] if found == image else [f"found that of {found or 'none'}", *reasons]

    until_no_complaints(complaints, timeout, f"{node}: expected the module of image {image}")


def wait_labels(api: ApiClient, nodes: Sequence[str], wanted: bool, timeout: timedelta) -> None:
    """Wait until KMM's label on ``nodes`` says that the module is loaded, or not ``wanted``. Raises CheckError."""
    until_no_complaints(
        lambda: label_complaints(kmm_state.read(api), nodes, wanted), timeout, "labels of nodes are not right"
    )


def label(api: ApiClient, node: str, value: str | None) -> None:
    """Set the label of ``node`` by which Modules select it; None removes it."""
    client.CoreV1Api(api).patch_node(node, {"metadata": {"labels": {kmm_state.NODE_LABEL: value}}})


def label_complaints(state: KmmState, nodes: Sequence[str], wanted: bool) -> list[str]:
    """Nodes whose label of KMM says otherwise than ``wanted``, that the module is loaded."""
    return [
        f"{node}: expected {'a' if wanted else 'no'} label {kmm_state.READY_LABEL}"
        for node in nodes
        if state.ready(node) != wanted
    ]


def events_version(api: ApiClient) -> int:
    """Version of the cluster's events now, for ``new_events``."""
    listing: Any = client.CoreV1Api(api).list_event_for_all_namespaces()
    return int(listing.metadata.resource_version)


def new_events(api: ApiClient, node: str, since: int) -> list[str]:
    """``Reason: message`` of the events of ``node`` that are newer than ``since``."""
    listing: Any = client.CoreV1Api(api).list_event_for_all_namespaces(
        field_selector=f"involvedObject.kind=Node,involvedObject.name={node}"
    )
    return [f"{item.reason}: {item.message}" for item in listing.items if int(item.metadata.resource_version) > since]


def wait_event(api: ApiClient, node: str, text: str, since: int, timeout: timedelta) -> None:
    """Wait for an event of ``node`` after ``since`` whose ``Reason: message`` contains ``text``. Raises CheckError."""

    def complaints() -> list[str]:
        found = new_events(api, node, since)
        return [] if any(text in item for item in found) else found or ["no new event"]

    until_no_complaints(complaints, timeout, f"expected an event with {text!r} of {node}, found")


def second_body(module: Object, name: str, selector: Mapping[str, str]) -> Object:
    """A Module like ``module`` for other nodes."""
    body = body_of(module)
    body["metadata"]["name"] = name
    body["spec"]["selector"] = dict(selector)
    return body


def put_back(api: ApiClient, saved: Object, others: Sequence[str], timeout: timedelta) -> None:
    """Delete the Modules ``others``, and give our Module the ``spec`` that it had when ``saved`` was read."""
    for name in others:
        start_deleting(api, name)
    for name in others:
        wait_gone(api, name, timeout)
    module = read(api)
    if module is not None and module["metadata"].get("deletionTimestamp"):
        wait_gone(api, MODULE, timeout)
        module = None
    if module is None:
        create(api, body_of(saved))
    elif module["spec"] != saved["spec"]:
        replace(api, {**module, "spec": copy.deepcopy(saved["spec"])})
    replace_outdated_pods(api, timeout)


def replace_outdated_pods(api: ApiClient, timeout: timedelta) -> None:
    """Wait until KMM knows the images of our Module; delete pods that still try earlier ones, which KMM then replaces.

    Raises CheckError with the nodes that are not so far.
    """

    def complaints() -> list[str]:
        state = kmm_state.read(api)
        outdated = [pod["metadata"]["name"] for pod in state.workers if kmm_state.outdated_image(state, pod)]
        for name in outdated:
            _delete_pod(api, name)
        return [*(f"pod {name} still tries an earlier image" for name in outdated), *unnoticed_images(state)]

    until_no_complaints(complaints, timeout, f"KMM does not follow the image of Module {MODULE}")


def _delete_pod(api: ApiClient, name: str) -> None:
    try:
        client.CoreV1Api(api).delete_namespaced_pod(name, NAMESPACE)
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise


def unnoticed_images(state: KmmState) -> list[str]:
    """Nodes on which KMM still wants an earlier image of our Module."""
    found = []
    for node in state.nodes:
        entry, wanted = state.configured(node, "spec"), state.wanted_image(node)
        if entry and state.selected(node) and (image := entry["config"]["containerImage"]) != wanted:
            found.append(f"{node}: expected KMM to want image {wanted}, found {image}")
    return found


def replace(api: ApiClient, body: Object) -> None:
    """Replace a Module by ``body``. Raises ApiException if it has changed since ``body`` was read."""
    name = body["metadata"]["name"]
    client.CustomObjectsApi(api).replace_namespaced_custom_object(GROUP, VERSION, NAMESPACE, _PLURAL, name, body)
