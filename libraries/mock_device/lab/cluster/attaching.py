"""Attaches clusters that exist: installs what their profile asks for, and removes exactly that again."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kubernetes.client import ApiClient

from mock_device import names
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import remove_tree, write_file
from mock_device.lab.base.locks import locked
from mock_device.lab.build import images, kbuild
from mock_device.lab.cluster import attached, deploy, discovery, module_loader, node_images, node_runtime
from mock_device.lab.cluster.attached import ATTACHED, AttachedPaths, ExternalCluster, Record
from mock_device.lab.cluster.attachment import CDI_FOLDER, COMMAND_SECONDS, Attachment
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.inventory import Inventory
from mock_device.lab.cluster.ssh import on_node, runner
from mock_device.lab.kube import kubeclient, manifests, owned
from mock_device.lab.kube.object_id import ObjectId

_ROLLOUT_SECONDS = 600.0


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
        try:
            _install(Attachment(ExternalCluster(name, complete=False), paths, record), enable_vfs=enable_vfs)
        except BaseException:
            if not record.objects and not record.images:
                remove_tree(paths.root)
            raise
        record.state = ATTACHED
        paths.save(record)
        return ExternalCluster(name)


def _objects(paths: Iterable[Path], inventory: Inventory) -> list[dict[str, Any]]:
    items = [item for path in paths for item in manifests.read_manifest(path)]
    return [owned.on_nodes(item, inventory.node_names) for item in items]


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _install(work: Attachment, *, enable_vfs: bool) -> None:
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
    return on_node(node, ["uname", "-r"], timeout=COMMAND_SECONDS).strip()


def _put_images(work: Attachment, node: NodeAccess, archives: Mapping[str, Path]) -> None:
    """Put the images on ``node``; record those that were not there, and the driver's folders that were not there."""
    runtime = node_runtime.find(node)
    plugin = f"{runtime.kubelet_root}/plugins/{names.DRIVER}"
    there = node_images.references(node, runtime)
    folders = on_node(node, ["sh", "-c", f"ls -d {plugin} {CDI_FOLDER} 2>/dev/null; true"], timeout=COMMAND_SECONDS)
    with work.recording() as record:
        record.images[node.name] = sorted(archives.keys() - there)
        record.folders[node.name] = sorted({plugin, CDI_FOLDER} - set(folders.split()))
    for reference, archive in archives.items():
        if runtime.ctr or reference not in there:
            log = work.paths.logs / f"images-{node.name}.log"
            node_images.import_archive(node, runtime, archive, log)


def _find_topology(work: Attachment, *, enable_vfs: bool) -> None:
    """Save the topology, declared or discovered, and how many VFs are enabled before tests."""
    inventory = work.inventory
    run = runner(inventory.node)

    def enabled(node: NodeAccess) -> None:
        found = discovery.parse(node.name, run(node.name, discovery.PROBE))
        with work.recording() as record:
            record.vfs[node.name] = {
                device.name: device.enabled_vfs for device in found.shown.values() if device.total_vfs
            }

    work.on_every_node(enabled)
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
