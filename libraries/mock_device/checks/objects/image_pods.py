"""Pods with images that tests choose."""

from __future__ import annotations

from collections.abc import Sequence

from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.checks.objects import kube, pods
from mock_device.checks.objects.kube import Object
from mock_device.lab.kube import kubeclient

_FAILED = ("ErrImagePull", "ImagePullBackOff")


def build(name: str, images: Sequence[str], policy: str, node: str | None, claim: str | None) -> Object:
    """A pod with an idle container for each of ``images``; all use the devices of ``claim``."""
    claims = [claim] if claim else []
    containers = {f"image{number}": claims for number in range(len(images))}
    body = pods.build(name, claims, node, kube.LABELS, containers=containers)
    for container, image in zip(body["spec"]["containers"], images, strict=True):
        container |= {"image": image, "imagePullPolicy": policy}
    return body


def lacks_image(pod: Object) -> bool:
    """Whether a container waits because its image could not be pulled."""
    states = [item.get("state") or {} for item in (pod.get("status") or {}).get("containerStatuses") or []]
    return any((state.get("waiting") or {}).get("reason") in _FAILED for state in states)


def complaints(api: ApiClient, name: str, text: str) -> list[str]:
    """What is wrong if no event about a failed pull of the pod's images contains ``text``."""
    pod = kubeclient.as_json(api, client.CoreV1Api(api).read_namespaced_pod(name, kube.namespace_of_tests(api)))
    return kube.event_complaints(kube.events_of(api, pod), "Failed", text)
