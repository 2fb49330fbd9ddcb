"""Checks a cluster that exists before ``lab attach`` changes anything: API, rights, SSH, kernel, runtime, devices."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException
from urllib3.exceptions import HTTPError

from mock_device.checks.nodes import runtime
from mock_device.driver import current
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.tables import Table
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import chart, images, kbuild
from mock_device.lab.cluster import attaching, discovery, kmm_state, node_images, node_runtime
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.inventory import Inventory
from mock_device.lab.cluster.kmm import KmmLoader
from mock_device.lab.cluster.node_runtime import Kind, NodeRuntime
from mock_device.lab.cluster.ssh import on_node, runner
from mock_device.lab.kube import contexts, kubeclient, kubeexplain
from mock_device.names import NAMESPACE
from mock_device.tools import ssh_remedies

_STORE = threading.Lock()
_FACTS = "id -u; uname -r; uname -m"
_MACHINE = "x86_64"
_KUBELET_ROOT = "/var/lib/kubelet"
_CDI_FOLDERS = {"/var/run/cdi", "/run/cdi"}


@dataclass(frozen=True)
class Check:
    """One check."""

    where: str
    """``API``, or the name of a node."""
    what: str
    found: str
    remedy: str = ""
    """What to do; empty if the check passed."""

    @property
    def problem(self) -> bool:
        return bool(self.remedy)


def check(inventory: Inventory) -> list[Check]:
    """Check API and nodes in parallel. Changes nothing."""
    with ThreadPoolExecutor(len(inventory.nodes) + 1) as pool:
        parts = [partial(_api, inventory), *(partial(_node, inventory, node) for node in inventory.nodes)]
        return [item for found in pool.map(lambda part: list(part()), parts) for item in found]


def table(found: Sequence[Check]) -> Table:
    """A row for each check."""
    rows = [(item.where, item.what, "PROBLEM" if item.problem else "ok", item.found, item.remedy) for item in found]
    styles = {"ok": "green", "PROBLEM": "bold red"}
    return Table(("where", "check", "result", "found", "remedy"), rows, wraps=("found", "remedy"), styles=styles)


def plan(inventory: Inventory) -> Table:
    """What ``lab attach`` makes on a cluster that has nothing of it, but maybe KMM."""
    with_kmm = _installs_kmm(inventory)
    rows = [("object", str(item)) for item in attaching.planned(inventory, with_kmm=with_kmm)]
    if inventory.driver == "helm":
        rows.append(("Helm release", f"{NAMESPACE}/{chart.RELEASE}"))
    if inventory.module == "kmm":
        rows += [("label of node", f"{node} {kmm_state.NODE_LABEL}") for node in inventory.node_names]
    wanted = sorted(_wanted_images(inventory, with_kmm=with_kmm))
    rows += [(f"image on {', '.join(inventory.node_names)}", image) for image in wanted]
    return Table(("installs", "name"), rows)


def _installs_kmm(inventory: Inventory) -> bool:
    """Whether KMM would be installed. False also where ``check`` has a problem with the API or with KMM's files."""
    if inventory.module != "kmm":
        return False
    try:
        return attaching.installs_kmm(connect(inventory), inventory) and bool(KmmLoader(inventory.kmm).images())
    except (StepError, ApiException, HTTPError):
        return False


def _api(inventory: Inventory) -> Iterator[Check]:
    try:
        api = connect(inventory)
        version: Any = client.VersionApi(api).get_code()
    except StepError as error:
        yield Check("API", "kubeconfig", str(error), "correct kubeconfig and context in the profile")
        return
    except HTTPError as error:
        yield Check(
            "API", "answers", f"no answer: {error}", "check the server's address in the kubeconfig, and the network"
        )
        return
    except ApiException as error:
        yield Check("API", "answers", kubeclient.refusal(error), "check the credentials in the kubeconfig")
        return
    yield Check("API", "answers", f"Kubernetes {version.git_version}")
    try:
        yield from _rights(api)
        yield from _dra(api)
        yield from _nodes(api, inventory)
        yield from _kmm(api, inventory)
        yield from _free_names(api, inventory)
    except StepError as error:
        yield Check("API", "files of KMM", str(error), "set install.module to pod, or name KMM's files")
    except (ApiException, HTTPError) as error:
        reason = kubeclient.refusal(error) if isinstance(error, ApiException) else str(error)
        yield Check("API", "requests", reason, "use a kubeconfig with the rights of an administrator")


def connect(inventory: Inventory) -> ApiClient:
    content = contexts.with_namespace(inventory.kubeconfig, inventory.context, inventory.namespace)
    with tempfile.NamedTemporaryFile("w", prefix="mock-device-") as file:
        file.write(content)
        file.flush()
        return kubeclient.connect(Path(file.name))


def _rights(api: ApiClient) -> Iterator[Check]:
    everything = client.V1ResourceAttributes(verb="*", group="*", resource="*")
    review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=everything))
    answer: Any = client.AuthorizationV1Api(api).create_self_subject_access_review(review)
    if answer.status.allowed:
        yield Check("API", "rights", "may do everything")
    else:
        found = "may not do everything on all resources"
        yield Check("API", "rights", found, "use a kubeconfig with the rights of an administrator (cluster-admin)")


def _dra(api: ApiClient) -> Iterator[Check]:
    """``resource.k8s.io/v1`` is served, and the API server keeps the fields that the driver writes."""
    body: Any = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"generateName": "mock-device-check-"},
        "spec": {
            "driver": current.driver().name,
            "pool": {"name": "check", "generation": 1, "resourceSliceCount": 1},
            "allNodes": True,
            "sharedCounters": [{"name": "check", "counters": {"check": {"value": "1"}}}],
        },
    }
    try:
        kept: Any = client.ResourceV1Api(api).create_resource_slice(body, dry_run="All")
    except ApiException as error:
        found = f"resource.k8s.io/v1: {kubeclient.refusal(error)}"
        remedy = "use Kubernetes 1.34 or newer with the feature gate DRAPartitionableDevices"
        yield Check("API", "Dynamic Resource Allocation", found, remedy)
        return
    if kept.spec.shared_counters:
        yield Check("API", "Dynamic Resource Allocation", "resource.k8s.io/v1 with shared counters")
    else:
        found = "resource.k8s.io/v1 drops shared counters, by which a PF and its VFs exclude each other"
        remedy = "turn the feature gate DRAPartitionableDevices on, in all components"
        yield Check("API", "Dynamic Resource Allocation", found, remedy)


def _nodes(api: ApiClient, inventory: Inventory) -> Iterator[Check]:
    listing: Any = client.CoreV1Api(api).list_node()
    known = {item.metadata.name: item for item in listing.items}
    for name in inventory.node_names:
        if name not in known:
            found = f"the cluster has no such node, it has {', '.join(sorted(known))}"
            yield Check(name, "node in the API", found, "correct its name in the profile")
            continue
        conditions = {item.type: item.status for item in known[name].status.conditions or []}
        if conditions.get("Ready") != "True":
            found = kubeexplain.explain_node(name, known[name])
            yield Check(name, "node in the API", found, "wait until it is Ready, or leave it out of the profile")
        else:
            info = known[name].status.node_info
            yield Check(
                name, "node in the API", f"Ready, kubelet {info.kubelet_version}, {info.container_runtime_version}"
            )


def _kmm(api: ApiClient, inventory: Inventory) -> Iterator[Check]:
    """The cluster has KMM, or it can be installed. Raises StepError."""
    if inventory.module != "kmm":
        return
    if attaching.installs_kmm(api, inventory):
        files = KmmLoader(inventory.kmm).images()
        yield Check("API", "KMM", f"the cluster does not have it; it is installed with {len(files)} images")
    else:
        yield Check("API", "KMM", "the cluster has it")


def _free_names(api: ApiClient, inventory: Inventory) -> Iterator[Check]:
    """Objects that would be made do not exist."""
    if taken := attaching.taken(api, inventory):
        names = ", ".join(map(str, taken))
        remedy = "set install.module or install.driver to none to use what there is, or remove it: lab detach"
        yield Check("API", "names are free", f"exist already: {names}", remedy)
    else:
        yield Check("API", "names are free", "nothing of what would be made exists")


def _node(inventory: Inventory, node: NodeAccess) -> Iterator[Check]:
    try:
        uid, release, machine = on_node(node, ["sh", "-c", _FACTS], timeout=Timeout.NODE_COMMAND.seconds).split()
    except StepError as error:
        text = str(error)
        yield Check(node.name, "SSH", ssh_remedies.reason(text), ssh_remedies.remedy(node, text))
        return
    except ValueError as error:
        yield Check(
            node.name, "SSH", f"expected the output of {_FACTS!r}: {error}", "check the login shell of the user"
        )
        return
    if uid != "0":
        yield Check(node.name, "SSH", f"logs in as {node.user}, who is not root", "set sudo: true, or another user")
        return
    yield Check(
        node.name, "SSH", f"{node.user}@{node.host}:{node.port}" + (f" through {node.jump}" if node.jump else "")
    )
    checks: list[Callable[[], Iterator[Check]]] = [
        lambda: _kernel(inventory, node, release, machine),
        lambda: _runtime(inventory, node),
        lambda: _devices(inventory, node),
    ]
    for part in checks:
        try:
            yield from part()
        except StepError as error:
            yield Check(node.name, "answers", str(error), "look at the node")


def _kernel(inventory: Inventory, node: NodeAccess, release: str, machine: str) -> Iterator[Check]:
    what = "kernel module"
    if inventory.module == "none":
        return
    if machine != _MACHINE:
        yield Check(
            node.name, what, f"expected {_MACHINE}, found {machine}", "images and module are for one machine only"
        )
    elif _is_built(release):
        yield Check(node.name, what, f"built for Linux {release}")
    else:
        found = f"there is no module for its kernel, Linux {release}"
        yield Check(node.name, what, found, f"lab build kmod-image --kernel {release}")


def _is_built(release: str) -> bool:
    # The store either looks or builds, in all threads.
    with _STORE:
        return kbuild.is_built_for(release)


def _runtime(inventory: Inventory, node: NodeAccess) -> Iterator[Check]:
    found = node_runtime.find(node)
    config = on_node(node, ["sh", "-c", found.dump_config], timeout=Timeout.NODE_COMMAND.seconds)
    folders = runtime.cdi_folders(config)
    if not _CDI_FOLDERS & set(folders):
        text = f"{found.kind} applies CDI files of {', '.join(folders) or 'no folder'}"
        yield Check(
            node.name,
            "CDI",
            text,
            f"turn CDI on in {found.config}, with /var/run/cdi: systemctl restart {found.service}",
        )
    else:
        yield Check(node.name, "CDI", f"{found.kind} applies CDI files of {', '.join(folders)}; {_default(config)}")
    if inventory.driver != "none" and found.kubelet_root != _KUBELET_ROOT:
        text = f"expected {_KUBELET_ROOT}, which the driver's manifests name, found {found.kubelet_root}"
        yield Check(
            node.name,
            "kubelet's folder",
            text,
            "install the driver yourself, with that folder, and set install.driver: none",
        )
    yield from _images(inventory, node, found)


def _default(config: str) -> str:
    try:
        return f"default runtime {runtime.default_runtime(config).name}"
    except ValueError as error:
        return str(error)


def _images(inventory: Inventory, node: NodeAccess, found: NodeRuntime) -> Iterator[Check]:
    """CRI-O has no client that imports images: the node has another one, or the images are there."""
    if found.kind is not Kind.CRIO:
        return
    wanted = _wanted_images(inventory, with_kmm=_installs_kmm(inventory))
    missing = sorted(wanted - node_images.references(node, found))
    command = "command -v podman || command -v skopeo || true"
    tool = on_node(node, ["sh", "-c", command], timeout=Timeout.NODE_COMMAND.seconds).strip()
    if missing and not tool:
        remedy = f"install podman there, or put the images there: {', '.join(missing)}; archives: lab build"
        yield Check(node.name, "images", f"expected podman or skopeo beside {found.kind}, found neither", remedy)
    else:
        yield Check(node.name, "images", f"put there by {tool}" if missing else "are there")


def _wanted_images(inventory: Inventory, *, with_kmm: bool) -> set[str]:
    wanted = {images.TEST_IMAGE}
    if inventory.module != "none":
        wanted.add(images.KMOD_IMAGE)
    if inventory.driver != "none":
        wanted.add(images.DRIVER_IMAGE)
    return wanted | (KmmLoader(inventory.kmm).images().keys() if with_kmm else set())


def _devices(inventory: Inventory, node: NodeAccess) -> Iterator[Check]:
    found = discovery.parse(node.name, runner(inventory.node)(node.name, discovery.PROBE))
    if not found.pci:
        yield Check(
            node.name,
            "devices",
            "no mock accelerator (vendor 1de5) on its PCI bus",
            "give the node devices, or leave it out",
        )
    elif inventory.module == "none" and not found.shown:
        yield Check(node.name, "devices", "the kernel module shows none", "load the module, or set install.module: pod")
    else:
        yield Check(node.name, "devices", f"{len(found.pci)} functions on the PCI bus")
