"""The driver as a Helm release: what an upgrade, a rollback or an uninstall must keep."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta

from kubernetes.client import ApiClient

from mock_device.checks.driver import driver
from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.session import Session
from mock_device.checks.objects import claim_forms, kube, pods, slices
from mock_device.driver import current
from mock_device.lab.base import timeouts
from mock_device.lab.build import images
from mock_device.lab.cluster import deploy, module_loader
from mock_device.lab.cluster.cluster import Capability
from mock_device.lab.cluster.loader_settings import LoaderKind
from mock_device.lab.cluster.module_loader import PodLoader
from mock_device.lab.cluster.release import DEPLOYED, Release, Revision

_TAG = ("images", "tag", "--force")
_UNTAG = ("images", "remove", "--sync")
_PODS = (Component.NODE_AGENT, Component.CONTROLLER, Component.MODULE_LOADER)


@dataclass(frozen=True)
class RunningState:
    """What a pod must keep while the driver changes around it."""

    uid: str
    node: str
    containers: tuple[str, ...]
    """IDs of its containers: a container that starts again has another one."""
    devices: tuple[str, ...]
    """Pool and device of each result of its claims."""


def running_state(api: ApiClient, name: str) -> RunningState:
    """State of a pod that runs. Raises CheckError if it does not exist."""
    return parse_state(kube.get_pod(api, name), kube.all_claims(api))


def parse_state(pod: kube.Object, claims: Sequence[kube.Object]) -> RunningState:
    """State of ``pod``, with devices from all ``claims`` of the cluster. Works also while no slice is published."""
    names = {(pod["metadata"]["namespace"], name) for name in pods.claim_names(pod)}
    own = [item for item in claims if (item["metadata"]["namespace"], item["metadata"]["name"]) in names]
    return RunningState(
        pod["metadata"]["uid"],
        pod["spec"].get("nodeName", ""),
        tuple(item.get("containerID", "") for item in pod["status"].get("containerStatuses", [])),
        tuple(sorted(str(result.published_id) for item in own for result in claim_forms.parse(item).own_results)),
    )


def state_complaints(name: str, before: RunningState, now: RunningState) -> list[str]:
    """What has changed of the state of pod ``name``, a message each."""
    return [
        f"pod {name!r}: expected its {field.name} to stay {was}, found {found}"
        for field in fields(RunningState)
        if (was := getattr(before, field.name)) != (found := getattr(now, field.name))
    ]


def pod_uids(api: ApiClient) -> dict[str, str]:
    """UIDs of the driver's pods and of the module loader's, by name."""
    return {name: pod.metadata.uid for component in _PODS for name, pod in driver.pods(api, component).items()}


def replaced_complaints(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A message for each pod of ``before`` that is gone, and for each new one."""
    gone = [f"expected pod {name} to stay, it is gone" for name in sorted(before.keys() - now.keys())]
    return gone + [f"expected no new pod, found {name}" for name in sorted(now.keys() - before.keys())]


def release_of(session: Session) -> Release:
    """The chart's release on the session's cluster; Helm's messages are in ``helm.log`` among the cluster's logs."""
    return Release(session.cluster.kubeconfig, session.cluster.log_dir / "helm.log")


def parse_values(values: Sequence[str]) -> dict[str, str]:
    """Values given as ``name=value``. Raises CheckError for one without ``=``."""
    found = {}
    for item in values:
        name, equals, value = item.partition("=")
        if not (name and equals):
            raise CheckError(f"expected a value as name=value, such as nodeAgent.verbosity=5, found {item!r}")
        found[name] = value
    return found


def revision_in_use(history: Sequence[Revision]) -> Revision:
    """The deployed revision. Raises CheckError with all revisions if none is."""
    for revision in reversed(history):
        if revision.status == DEPLOYED:
            return revision
    found = "; ".join(f"{item.number} is {item.status} ({item.description})" for item in history) or "no revision"
    raise CheckError(f"expected a deployed revision of the release, found: {found}; look at: helm history")


def upgrade(session: Session, values: Mapping[str, str], timeout: timedelta) -> None:
    """Give the release ``values``, the defaults for all others. Raises StepError with Helm's message."""
    release_of(session).upgrade({**_loader_values(session), **values}, timeouts.seconds(timeout))


def _loader_values(session: Session) -> dict[str, str]:
    """Where KMM loads the module, the release does not: the lab's Module stays."""
    return {} if module_loader.found_in(session.api) is LoaderKind.POD else {"module.loader": "none"}


def ensure_installed(session: Session, values: Mapping[str, str], timeout: timedelta) -> None:
    """Install the release, or give an installed one these ``values``. Takes over plain manifests that are applied.

    Raises StepError with Helm's message.
    """
    release = release_of(session)
    if release.history():
        upgrade(session, values, timeout)
    else:
        chosen = {**_loader_values(session), **values}
        release.install(chosen, timeouts.seconds(timeout), take_ownership=True)


def restore_manifests(session: Session, timeout: timedelta) -> None:
    """Uninstall the release, if there is one, and deploy the plain manifests as `lab up` does. Raises StepError.

    Does nothing where that is done, and on clusters that the lab does not run: a release there is their users'.
    """
    if Capability.CONSOLE not in session.cluster.capabilities:
        return
    release = release_of(session)
    if not release.history() and driver.pods(session.api, Component.NODE_AGENT):
        return
    release.uninstall(timeouts.seconds(timeout))
    if module_loader.found_in(session.api) is LoaderKind.POD:
        PodLoader().install(session.cluster)
    deploy.install_driver(session.cluster, current.driver())
    deploy.wait_published(session.cluster, current.driver())


def wait_nothing_published(api: ApiClient, timeout: timedelta) -> None:
    """Wait until the driver has no ResourceSlice. Raises CheckError with those that are left."""
    slices.wait_published(
        api,
        lambda published: [f"{device.node}: {device.published_id}" for device in published],
        timeout,
        "no ResourceSlice of the driver",
    )


def tag_image(session: Session, tag: str) -> None:
    """Give the driver's image on all nodes another ``tag``, as if a new version was loaded. Raises CheckError."""
    session.on_nodes(lambda found: shlex.join([*found.ctr, *_TAG, images.DRIVER_IMAGE, _with_tag(tag)]))


def untag_image(session: Session, tag: str) -> None:
    """Remove that ``tag`` from all nodes; no error if it does not exist. Raises CheckError."""
    session.on_nodes(lambda found: shlex.join([*found.ctr, *_UNTAG, _with_tag(tag)]))


def _with_tag(tag: str) -> str:
    return f"{images.DRIVER_IMAGE.rpartition(':')[0]}:{tag}"


def variable_complaints(api: ApiClient, name: str, value: str) -> list[str]:
    """A message for each node agent whose environment variable ``name`` is not ``value``."""
    found = {
        pod: next((item.value for item in body.spec.containers[0].env or [] if item.name == name), None)
        for pod, body in driver.pods(api, Component.NODE_AGENT).items()
    }
    return [f"pod {pod}: expected {name}={value}, found {is_}" for pod, is_ in found.items() if is_ != value]


def image_complaints(api: ApiClient, tag: str) -> list[str]:
    """A message for each pod of the driver whose image has another tag."""
    return [
        f"pod {name}: expected an image with tag {tag}, found {image}"
        for component in (Component.NODE_AGENT, Component.CONTROLLER)
        for name, pod in driver.pods(api, component).items()
        if not (image := pod.spec.containers[0].image).endswith(f":{tag}")
    ]
