"""The step of ``lab diagnose`` for the images of pods."""

from __future__ import annotations

from collections.abc import Iterator

from mock_device.diagnosis.allocation_steps import chosen
from mock_device.diagnosis.snapshot import Object, Snapshot, name_of
from mock_device.diagnosis.steps import Finding, judged, on_node
from mock_device.lab.build.image_source import full_name

_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull")
"""Reasons why a container waits, of the kubelet (pkg/kubelet/images/types.go)."""
_NO_INTERNET = "this cluster has no internet"
"""Part of the answer of a cluster's registry, see registry/main.go."""
_PULL_FAILED = "Failed"
_WAYS = "lab load-image, lab registry, or lab up --internet"


def images(snapshot: Snapshot) -> Finding:
    """Each pod's images are on its node, or can be pulled."""
    wrong, remedy, count = [], "", 0
    for pod in chosen(snapshot):
        for container, image in _missing(pod):
            complaint, what_to_do = _why(snapshot, pod, container, image)
            wrong.append(f"pod {name_of(pod)}: {complaint}")
            remedy = remedy or what_to_do
        count += len(pod["spec"]["containers"])
    return judged(wrong, remedy, f"images of {count} containers")


def _missing(pod: Object) -> Iterator[tuple[Object, str]]:
    """Containers that wait for their images, with the images."""
    status = pod.get("status") or {}
    waiting = {
        item["name"]
        for kind in ("initContainerStatuses", "containerStatuses")
        for item in status.get(kind) or []
        if ((item.get("state") or {}).get("waiting") or {}).get("reason") in _NO_IMAGE
    }
    for kind in ("initContainers", "containers"):
        for container in pod["spec"].get(kind) or []:
            if container["name"] in waiting:
                yield container, container["image"]


def _why(snapshot: Snapshot, pod: Object, container: Object, image: str) -> tuple[str, str]:
    """Why the container waits, and a command."""
    node, policy = pod["spec"]["nodeName"], container.get("imagePullPolicy")
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    describe = f"lab kubectl -n {namespace} describe pod {name}"
    if snapshot.has_image(node, full_name(image)):
        if policy == "Always":
            reason = "but its imagePullPolicy is Always, so the kubelet asks a registry; expected IfNotPresent"
            return f"{node} has image {image}, {reason}", describe
        reason = (
            "but the kubelet pulled the same content under another name, so it pulls again to check credentials; "
            "expected imagePullCredentialsVerificationPolicy: NeverVerify in its configuration"
        )
        unit = snapshot.runtimes[node].kubelet_service
        return f"{node} has image {image}, {reason}", on_node(node, f"systemctl cat {unit}")
    if policy == "Never":
        return f"{node} lacks image {image}, and its imagePullPolicy is Never", f"lab load-image {image}"
    events = [event.message for event in snapshot.events.get(name_of(pod), ()) if event.reason == _PULL_FAILED]
    said = next((message for message in reversed(events) if image in message), "")
    if _NO_INTERNET in said:
        return f"{node} lacks image {image}, and {_NO_INTERNET}: {_WAYS}", f"lab load-image {image}"
    if full_name(image).startswith("localhost/"):
        return f"{node} lacks image {image}, and no registry has names with localhost", f"lab load-image {image}"
    return f"{node} cannot pull image {image}: {said or 'no event says why'}", describe
