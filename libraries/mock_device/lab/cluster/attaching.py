"""Attaches clusters that exist: installs what their profile asks for, and removes exactly that again."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient

from mock_device import names
from mock_device.lab.base import progress
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import remove_tree, write_file
from mock_device.lab.base.locks import locked
from mock_device.lab.build import images, kbuild
from mock_device.lab.cluster import attached, deploy, discovery, module_loader, node_images, node_runtime
from mock_device.lab.cluster.attached import ATTACHED, AttachedPaths, ExternalCluster, Record
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.inventory import Inventory
from mock_device.lab.cluster.ssh import on_node, runner
from mock_device.lab.kube import kubeclient, manifests, owned
from mock_device.lab.kube.object_id import ObjectId

_CDI_FOLDER = "/var/run/cdi"
_COMMAND_SECONDS = 180.0
_ROLLOUT_SECONDS = 600.0
_REMOVE_SECONDS = 300.0


def module_objects(inventory: Inventory) -> list[dict[str, Any]]:
    """Objects that load the kernel module on the nodes of ``inventory``."""
    paths = [module_loader.POD_MANIFEST] if inventory.module == "pod" else []
    return _objects(paths, inventory)


def driver_objects(inventory: Inventory) -> list[dict[str, Any]]:
    """Objects of the DRA driver on the nodes of ``inventory``."""
    paths = sorted(deploy.DRIVER_MANIFESTS.glob("*.yaml")) if inventory.driver == "manifests" else []
    return _objects(paths, inventory)


def planned(inventory: Inventory) -> list[ObjectId]:
    """Objects that ``attach`` makes where they do not exist, in this order."""
    items = [_namespace(inventory.namespace), *module_objects(inventory), *driver_objects(inventory)]
    return list(dict.fromkeys(map(owned.id_of, items)))


def taken(api: ApiClient, inventory: Inventory) -> list[ObjectId]:
    """Planned objects that exist already, and are not namespaces, which several may share."""
    return [item for item in owned.owners(api, planned(inventory)) if item.kind != "Namespace"]


def image_archives(inventory: Inventory, kernel_release: str) -> dict[str, Path]:
    """Archives of the images that a node with this kernel needs, by reference; built if they are not cached."""
    found = {images.TEST_IMAGE: images.test_image()}
    if inventory.module == "pod":
        found[images.KMOD_IMAGE] = images.kmod_image(kbuild.build_module_for(kernel_release), kernel_release)
    if inventory.driver == "manifests":
        found[images.DRIVER_IMAGE] = images.driver_image()
    return found


def attach(name: str, inventory: Inventory, *, enable_vfs: bool = False) -> ExternalCluster:
    """Install what ``inventory`` asks for, and attach the cluster as ``name``. Shows each step; raises StepError.

    With ``enable_vfs``, discovery enables VFs for a moment, also if the cluster has a driver that publishes them.
    What has been made when a step fails is recorded: ``detach`` removes it.
    """
    paths = AttachedPaths.of(name)
    with locked(paths.lock, f"cluster {name}"):
        if attached.is_attached(name):
            state = paths.load().state
            raise StepError(f"cluster {name!r} is {state} already; remove what it made: lab detach --name {name}")
        paths.logs.mkdir(parents=True, exist_ok=True)
        write_file(paths.profile, inventory.path.read_text())
        paths.topology.unlink(missing_ok=True)
        record = Record(str(inventory.path), secrets.token_hex(8), "attaching")
        paths.save(record)
        _install(_Work(ExternalCluster(name, complete=False), paths, record), enable_vfs=enable_vfs)
        record.state = ATTACHED
        paths.save(record)
        return ExternalCluster(name)


def detach(name: str) -> list[str]:
    """Remove exactly what attaching ``name`` has made. Shows each step.

    Returns what is left, and why, a sentence each. Raises StepError while devices
    are in use, and if something cannot be removed; then it can be called again.
    """
    paths = AttachedPaths.of(name)
    if not attached.is_attached(name):
        raise StepError(f"cluster {name!r} is not attached; attached are {', '.join(attached.names()) or 'none'}")
    with locked(paths.lock, f"cluster {name}"):
        work = _Work(ExternalCluster(name, complete=False), paths, paths.load())
        _refuse_in_use(work)
        work.record.state = "detaching"
        paths.save(work.record)
        left = _remove(work)
        remove_tree(paths.root)
        return left


class _Work:
    """An attachment in progress."""

    def __init__(self, cluster: ExternalCluster, paths: AttachedPaths, record: Record) -> None:
        self.cluster = cluster
        self.paths = paths
        self.record = record
        self.inventory = cluster.inventory
        self.api = kubeclient.connect(cluster.kubeconfig)

    def on_every_node(self, work: Callable[[NodeAccess], object]) -> None:
        """Do ``work`` for all nodes in parallel. Raises StepError with the nodes for which it failed, and why."""
        with ThreadPoolExecutor(len(self.inventory.nodes)) as pool:
            done = {node.name: pool.submit(work, node) for node in self.inventory.nodes}
        failed = []
        for node, future in done.items():
            try:
                future.result()
            except StepError as error:
                failed.append(str(error) if str(error).startswith(f"{node}:") else f"{node}: {error}")
        if failed:
            raise StepError("\n".join(failed))

    def make(self, items: Iterable[dict[str, Any]]) -> None:
        """Make those of ``items`` that do not exist, each recorded before."""
        items = list(items)
        there = owned.owners(self.api, map(owned.id_of, items))
        for item in items:
            found = owned.id_of(item)
            if there.get(found, self.record.mark) != self.record.mark:
                if found.kind == "Namespace":
                    continue
                raise StepError(f"{found} exists already, and this attachment has not made it")
            if found not in self.record.objects:
                self.record.objects.append(found)
                self.paths.save(self.record)
            owned.apply(self.api, item, self.record.mark)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        with progress.step(title, self.paths.logs):
            yield


def _objects(paths: Iterable[Path], inventory: Inventory) -> list[dict[str, Any]]:
    items = [item for path in paths for item in manifests.read_manifest(path)]
    return [owned.on_nodes(item, inventory.node_names) for item in items]


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _install(work: _Work, *, enable_vfs: bool) -> None:
    inventory, count = work.inventory, len(work.inventory.nodes)
    if found := taken(work.api, inventory):
        raise StepError(f"{', '.join(map(str, found))} exist already; set install.module or install.driver to none")
    with work.step("images on the nodes"):
        releases: dict[str, str] = {}
        work.on_every_node(lambda node: releases.update({node.name: kernel_release(node)}))
        # Built one after the other, before the nodes wait for them.
        archives = {release: image_archives(inventory, release) for release in sorted(set(releases.values()))}
        work.on_every_node(lambda node: _put_images(work, node, archives[releases[node.name]]))
    with work.step("namespace of the tests"):
        work.make([_namespace(inventory.namespace)])
    if inventory.module != "none":
        with work.step("kernel module"):
            work.make(module_objects(inventory))
            kubeclient.wait_daemonset(
                work.api, names.NAMESPACE, module_loader.DAEMON_SET, _ROLLOUT_SECONDS, nodes=count
            )
    with work.step("topology"):
        _find_topology(work, enable_vfs=enable_vfs or inventory.driver != "none")
    if inventory.driver != "none":
        with work.step("DRA driver serves"):
            work.make(driver_objects(inventory))
            kubeclient.wait_daemonset(work.api, names.NAMESPACE, deploy.NODE_AGENT, _ROLLOUT_SECONDS, nodes=count)
            kubeclient.wait_deployment(work.api, names.NAMESPACE, deploy.CONTROLLER, _ROLLOUT_SECONDS)
    with work.step("devices published"):
        deploy.wait_published(ExternalCluster(work.cluster.name, complete=False), _ROLLOUT_SECONDS)


def kernel_release(node: NodeAccess) -> str:
    """Release of the kernel that ``node`` runs. Raises StepError."""
    return on_node(node, ["uname", "-r"], timeout=_COMMAND_SECONDS).strip()


def _put_images(work: _Work, node: NodeAccess, archives: Mapping[str, Path]) -> None:
    """Put the images on ``node``; record those that were not there, and the driver's folders that were not there."""
    runtime = node_runtime.find(node)
    plugin = f"{runtime.kubelet_root}/plugins/{names.DRIVER}"
    there = node_images.references(node, runtime)
    folders = on_node(node, ["sh", "-c", f"ls -d {plugin} {_CDI_FOLDER} 2>/dev/null; true"], timeout=_COMMAND_SECONDS)
    work.record.images[node.name] = sorted(archives.keys() - there)
    work.record.folders[node.name] = sorted({plugin, _CDI_FOLDER} - set(folders.split()))
    work.paths.save(work.record)
    for reference, archive in archives.items():
        if runtime.ctr or reference not in there:
            log = work.paths.logs / f"images-{node.name}.log"
            node_images.import_archive(node, runtime, archive, log)


def _find_topology(work: _Work, *, enable_vfs: bool) -> None:
    """Save the topology, declared or discovered, and how many VFs are enabled before tests."""
    inventory = work.inventory
    run = runner(inventory.node)

    def enabled(node: NodeAccess) -> None:
        found = discovery.parse(node.name, run(node.name, discovery.PROBE))
        work.record.vfs[node.name] = {
            device.name: device.enabled_vfs for device in found.shown.values() if device.total_vfs
        }

    work.on_every_node(enabled)
    work.paths.save(work.record)
    if inventory.topology is None:
        text = discovery.discover(work.cluster.name, inventory.node_names, run, enable_vfs=enable_vfs)
    else:
        text = inventory.topology.read_text()
    write_file(work.paths.topology, text)
    declared = {node.name for node in ExternalCluster(work.cluster.name, complete=False).topology.nodes}
    if unknown := declared ^ set(inventory.node_names):
        raise StepError(
            f"topology {inventory.topology}: expected the nodes of {inventory.path}, "
            f"they differ by {', '.join(sorted(unknown))}"
        )


def _refuse_in_use(work: _Work) -> None:
    """Raise StepError if others use devices of a driver that would be removed."""
    if not any(item.kind == "DaemonSet" for item in work.record.objects):
        return
    claims: Any = client.ResourceV1Api(work.api).list_resource_claim_for_all_namespaces()
    users = []
    for claim in claims.items:
        results = claim.status.allocation.devices.results if claim.status and claim.status.allocation else []
        labels = claim.metadata.labels or {}
        if any(result.driver == names.DRIVER for result in results or []) and not (
            names.MADE_BY_TESTS.items() <= labels.items()
        ):
            users.append(f"{claim.metadata.namespace}/{claim.metadata.name}")
    if users:
        raise StepError(f"devices are in use by the claims {', '.join(users)}; delete their pods and claims first")


def _remove(work: _Work) -> list[str]:
    left: list[str] = []
    with work.step("objects of tests"):
        _remove_objects_of_tests(work)
    namespaces = [item for item in work.record.objects if item.kind == "Namespace"]
    others = [item for item in work.record.objects if item.kind != "Namespace"]
    with work.step("DRA driver and kernel module removed"):
        left += [f"{item}: somebody else has made it again" for item in _remove_marked(work, others)]
    with work.step("images and folders removed from the nodes"):
        work.on_every_node(partial(_clean_node, work))
    with work.step("namespaces removed"):
        for item in namespaces:
            if found := owned.others_in(work.api, item.name, list(names.MADE_BY_TESTS.items())):
                left.append(f"{item}: it has objects that this attachment has not made: {', '.join(found)}")
            else:
                left += [f"{kept}: somebody else has made it again" for kept in _remove_marked(work, [item])]
    return left


def _remove_marked(work: _Work, items: list[ObjectId]) -> list[ObjectId]:
    return owned.remove(work.api, items, work.record.mark, _REMOVE_SECONDS)


def _remove_objects_of_tests(work: _Work) -> None:
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
    for _, lister in kinds:
        if found := kubeclient.watch_until(lister, lambda items: not items, _REMOVE_SECONDS, **selection):
            raise StepError(f"objects of tests are still there after {_REMOVE_SECONDS:.0f} s: {', '.join(found)}")


def _clean_node(work: _Work, node: NodeAccess) -> None:
    runtime = node_runtime.find(node)
    node_images.remove(node, runtime, work.record.images.get(node.name, []))
    for folder in work.record.folders.get(node.name, []):
        # The driver's files are in its plugin folder; the CDI folder is shared.
        command = ["rmdir", "--ignore-fail-on-non-empty"] if folder == _CDI_FOLDER else ["rm", "-rf"]
        words = shlex.join([*command, "--", folder])
        on_node(node, ["sh", "-c", f"[ ! -d {shlex.quote(folder)} ] || {words}"], timeout=_COMMAND_SECONDS)
