"""Objects that an attachment makes in somebody else's cluster: marked, so that exactly they are removed again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import yaml
from kubernetes.client import ApiClient
from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError

from mock_device.lab.kube import manifests
from mock_device.lab.kube.object_id import ObjectId

MARK = "mock-accel.example.com/attachment"
"""Annotation of an object: the attachment that made it."""
_POD_OWNERS = {"DaemonSet", "Deployment"}


def id_of(item: dict[str, Any]) -> ObjectId:
    """Identity of an object in a manifest that names its namespace."""
    metadata = item["metadata"]
    return ObjectId(item["apiVersion"], item["kind"], metadata["name"], metadata.get("namespace", ""))


def on_nodes(item: dict[str, Any], nodes: Sequence[str]) -> dict[str, Any]:
    """A copy of ``item`` whose pods, if it has some, run on ``nodes`` only."""
    if item["kind"] not in _POD_OWNERS:
        return item
    template = item["spec"]["template"]
    affinity = {**template["spec"].get("affinity", {}), **affinity_to(nodes)}
    pods = {**template, "spec": {**template["spec"], "affinity": affinity}}
    return {**item, "spec": {**item["spec"], "template": pods}}


def affinity_to(nodes: Sequence[str]) -> dict[str, Any]:
    """``affinity`` of pods that run on ``nodes`` only."""
    # A term has one value of metadata.name (k8s.io/api/core/v1, NodeSelectorTerm.matchFields); terms are alternatives.
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]} for node in nodes]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def owners(api: ApiClient, items: Iterable[ObjectId]) -> dict[ObjectId, str]:
    """The mark of each of ``items`` that exists; empty for an object without a mark, that somebody else made."""
    found = {}
    with manifests.dynamic_client(api) as dynamic:
        for item in items:
            existing = _get(dynamic, item)
            if existing is not None:
                found[item] = (existing["metadata"].get("annotations") or {}).get(MARK, "")
    return found


def apply(api: ApiClient, items: Iterable[dict[str, Any]], mark: str) -> None:
    """Apply objects with ``mark``, in their order. Raises StepError with the API server's reason."""

    def marked(item: dict[str, Any]) -> dict[str, Any]:
        metadata = item["metadata"]
        return {**item, "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), MARK: mark}}}

    manifests.apply_objects(api, map(marked, items))


def remove(api: ApiClient, items: Sequence[ObjectId], mark: str, timeout: float) -> list[ObjectId]:
    """Delete those of ``items`` that have ``mark``, the last one first, and wait until they are gone.

    ``timeout`` is wall time in seconds for all of them. Returns the objects that
    it left, because they exist without the mark. Raises StepError.
    """
    deadline = time.monotonic() + timeout
    marks = owners(api, items)
    for item in reversed(items):
        if marks.get(item) == mark:
            body = {
                "apiVersion": item.api_version,
                "kind": item.kind,
                "metadata": {"name": item.name, **({"namespace": item.namespace} if item.namespace else {})},
            }
            manifests.delete(api, yaml.safe_dump(body), timeout=max(deadline - time.monotonic(), 1.0))
    return [item for item in items if item in marks and marks[item] != mark]


def _get(dynamic: Any, item: ObjectId) -> dict[str, Any] | None:
    try:
        resource = dynamic.resources.get(api_version=item.api_version, kind=item.kind)
        found: dict[str, Any] = dynamic.get(resource, name=item.name, namespace=item.namespace or None).to_dict()
    except (NotFoundError, ResourceNotFoundError):
        return None
    return found


def others_in(api: ApiClient, namespace: str, ours: Sequence[tuple[str, str]]) -> list[str]:
    """Objects in ``namespace`` that neither Kubernetes nor tests make, as ``Kind name``.

    ``ours`` are labels (name and value) of objects that do not count. Objects that
    other objects own do not count, either.
    """
    result = []
    with manifests.dynamic_client(api) as dynamic:
        for version, kind in _KINDS:
            try:
                resource = dynamic.resources.get(api_version=version, kind=kind)
            except ResourceNotFoundError:
                continue
            for item in dynamic.get(resource, namespace=namespace).to_dict()["items"]:
                metadata = item["metadata"]
                labels = metadata.get("labels") or {}
                made = any(labels.get(name) == value for name, value in ours)
                if not made and not metadata.get("ownerReferences") and (kind, metadata["name"]) not in _MADE_BY_ITSELF:
                    result.append(f"{kind} {metadata['name']}")
    return result


_KINDS = (
    ("v1", "Pod"),
    ("resource.k8s.io/v1", "ResourceClaim"),
    ("resource.k8s.io/v1", "ResourceClaimTemplate"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "ReplicaSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "ServiceAccount"),
    ("v1", "PersistentVolumeClaim"),
)
_MADE_BY_ITSELF = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
