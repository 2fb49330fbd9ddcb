"""Detaches clusters: removes exactly what attaching them has made."""

from __future__ import annotations

import shlex
from functools import partial
from typing import Any

from kubernetes import client

from mock_device import names
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import remove_tree
from mock_device.lab.base.locks import locked
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import chart
from mock_device.lab.cluster import attached, kmm, node_images, node_runtime
from mock_device.lab.cluster.attached import AttachedPaths, ExternalCluster
from mock_device.lab.cluster.attachment import CDI_FOLDER, Attachment
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.release import Release
from mock_device.lab.cluster.ssh import on_node
from mock_device.lab.kube import kubeclient, owned
from mock_device.lab.kube.object_id import ObjectId


def detach(name: str) -> list[str]:
    """Remove exactly what attaching ``name`` has made. Shows each step.

    Returns what is left, and why, a sentence each. Raises StepError while devices
    are in use, and if something cannot be removed; then it can be called again.
    """
    paths = AttachedPaths.of(name)
    if not attached.is_attached(name):
        raise StepError(f"cluster {name!r} is not attached; attached are {', '.join(attached.names()) or 'none'}")
    with locked(paths.lock, f"cluster {name}"):
        work = Attachment(ExternalCluster(name, complete=False), paths, paths.load())
        if _has_module_or_driver(work) and (users := users_of_devices(work)):
            raise StepError(f"devices are in use by the claims {', '.join(users)}; delete their pods and claims first")
        with work.recording() as record:
            record.state = "detaching"
        left = _remove(work)
        remove_tree(paths.root)
        return left


def _has_module_or_driver(work: Attachment) -> bool:
    return work.record.release or any(item.kind in {"DaemonSet", "Module"} for item in work.record.objects)


def users_of_devices(work: Attachment) -> list[str]:
    """``namespace/name`` of the claims that have devices of the driver, and that tests have not made."""
    claims: Any = client.ResourceV1Api(work.api).list_resource_claim_for_all_namespaces()
    users = []
    ours = {driver.name for driver in work.cluster.drivers}
    for claim in claims.items:
        results = claim.status.allocation.devices.results if claim.status and claim.status.allocation else []
        labels = claim.metadata.labels or {}
        if any(result.driver in ours for result in results or []) and not (
            names.MADE_BY_TESTS.items() <= labels.items()
        ):
            users.append(f"{claim.metadata.namespace}/{claim.metadata.name}")
    return users


def _remove(work: Attachment) -> list[str]:
    left: list[str] = []
    with work.step("objects of tests"):
        remove_objects_of_tests(work)
    namespaces = [item for item in work.record.objects if item.kind == "Namespace"]
    others = [item for item in work.record.objects if item.kind != "Namespace"]
    with work.step("DRA driver and kernel module removed"):
        left += _remove_release(work)
        left += [f"{item}: somebody else has made it again" for item in _remove_marked(work, others)]
        for node in work.record.labelled:
            kmm.set_label(work.api, node, wanted=False)
    with work.step("images and folders removed from the nodes"):
        work.on_every_node(partial(_clean_node, work))
    with work.step("namespaces removed"):
        for item in namespaces:
            if found := owned.others_in(work.api, item.name, list(names.MADE_BY_TESTS.items())):
                left.append(f"{item}: it has objects that this attachment has not made: {', '.join(found)}")
            else:
                left += [f"{kept}: somebody else has made it again" for kept in _remove_marked(work, [item])]
    return left


def _remove_release(work: Attachment) -> list[str]:
    release = Release(work.cluster.kubeconfig, work.paths.logs / "helm.log")
    if not work.record.release or not release.exists():
        return []
    if not release.exists(work.label):
        return [f"Helm release {chart.RELEASE}: somebody else has installed it again"]
    release.uninstall(Timeout.DETACH_REMOVE.seconds)
    return []


def _remove_marked(work: Attachment, items: list[ObjectId]) -> list[ObjectId]:
    return owned.remove(work.api, items, work.record.mark, Timeout.DETACH_REMOVE.seconds)


def remove_objects_of_tests(work: Attachment) -> None:
    """Delete pods, claims and templates that a killed run of tests has left, and wait until they are gone."""
    core, resource = client.CoreV1Api(work.api), client.ResourceV1Api(work.api)
    selector = ",".join(f"{name}={value}" for name, value in names.MADE_BY_TESTS.items())
    selection: dict[str, Any] = {"namespace": work.inventory.namespace, "label_selector": selector}
    kinds = (
        (core.delete_collection_namespaced_pod, core.list_namespaced_pod),
        (resource.delete_collection_namespaced_resource_claim, resource.list_namespaced_resource_claim),
        (
            resource.delete_collection_namespaced_resource_claim_template,
            resource.list_namespaced_resource_claim_template,
        ),
    )
    for delete, _ in kinds:
        delete(**selection)
    seconds = Timeout.DETACH_REMOVE.seconds
    for _, lister in kinds:
        if found := kubeclient.watch_until(lister, lambda items: not items, seconds, **selection):
            raise StepError(f"objects of tests are still there after {seconds:.0f} s: {', '.join(found)}")


def _clean_node(work: Attachment, node: NodeAccess) -> None:
    runtime = node_runtime.find(node)
    node_images.remove(node, runtime, work.record.images.get(node.name, []))
    for folder in work.record.folders.get(node.name, []):
        # The driver's files are in its plugin folder; the CDI folder is shared.
        command = ["rmdir", "--ignore-fail-on-non-empty"] if folder == CDI_FOLDER else ["rm", "-rf"]
        words = shlex.join([*command, "--", folder])
        on_node(node, ["sh", "-c", f"[ ! -d {shlex.quote(folder)} ] || {words}"], timeout=Timeout.NODE_COMMAND.seconds)
