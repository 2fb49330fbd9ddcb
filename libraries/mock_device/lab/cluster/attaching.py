"""Attaches clusters that exist: installs what their profile asks for, and removes exactly that again."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from kubernetes.client import ApiClient

from mock_device import names
from mock_device.driver import current
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import remove_tree, write_file
from mock_device.lab.base.locks import locked
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import chart, images, kbuild
from mock_device.lab.build.chart import Values
from mock_device.lab.cluster import (
    attached,
    deploy,
    discovery,
    drivers,
    image_loading,
    kmm,
    kmm_state,
    module_loader,
    node_images,
    node_runtime,
    operator_files,
)
from mock_device.lab.cluster.attached import ATTACHED, AttachedPaths, ExternalCluster, Record
from mock_device.lab.cluster.attachment import CDI_FOLDER, Attachment
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.inventory import Inventory
from mock_device.lab.cluster.kmm import KmmLoader
from mock_device.lab.cluster.release import Release
from mock_device.lab.cluster.ssh import on_node, runner
from mock_device.lab.kube import kubeclient, manifests, owned
from mock_device.lab.kube.object_id import ObjectId


def module_objects(inventory: Inventory) -> list[dict[str, Any]]:
    """Objects that load the kernel module on the nodes of ``inventory``, without those of KMM itself."""
    paths = {"pod": [module_loader.POD_MANIFEST], "kmm": [kmm.NAMESPACE_MANIFEST, kmm_state.MANIFEST]}
    return _read(paths.get(inventory.module, []), inventory)


def driver_objects(inventory: Inventory) -> list[dict[str, Any]]:
    """Objects of the DRA driver on the nodes of ``inventory``, without those of a Helm release."""
    driver = current.driver()
    if inventory.driver == "manifests":
        if not driver.manifests:
            raise StepError(
                f"{driver.path}: expected the key manifests, found none; set install.driver to none in "
                f"{inventory.path}, and deploy the driver yourself"
            )
        return _read(driver.manifests, inventory)
    if inventory.driver == "helm" and "project-chart" not in driver.promises:
        raise StepError(
            f"{inventory.path}: install.driver helm is for this project's chart; set it to manifests or none "
            f"for driver {driver.name}"
        )
    return _read([kmm.NAMESPACE_MANIFEST] if inventory.driver == "helm" else [], inventory)


def release_values(inventory: Inventory) -> Values:
    """Values of the chart for a release with the driver alone, on the nodes of ``inventory``."""
    affinity = owned.affinity_to(inventory.node_names)
    return {"module.loader": "none", "nodeAgent.affinity": affinity, "controller.affinity": affinity}


def planned(inventory: Inventory, *, with_kmm: bool) -> list[ObjectId]:
    """Objects that ``attach`` makes where they do not exist, in this order. Raises StepError.

    ``with_kmm`` says whether those of the KMM operator are among them.
    """
    items = [_namespace(inventory.namespace)]
    if with_kmm:
        items += KmmLoader(inventory.kmm).planned()
    items += [*module_objects(inventory), *driver_objects(inventory)]
    if inventory.driver == "helm":
        items += manifests.read_manifest(chart.render(release_values(inventory)))
    return list(dict.fromkeys(map(owned.id_of, items)))


def installs_kmm(api: ApiClient, inventory: Inventory) -> bool:
    """Whether ``attach`` installs the KMM operator, because the cluster needs it and does not have it."""
    return inventory.module == "kmm" and not kmm_state.is_served(api)


def taken(api: ApiClient, inventory: Inventory) -> list[ObjectId]:
    """Planned objects that exist already, and are not namespaces, which several may share. Raises StepError."""
    items = planned(inventory, with_kmm=installs_kmm(api, inventory))
    return [item for item in owned.owners(api, items) if item.kind != "Namespace"]


def image_archives(inventory: Inventory, kernel_release: str, *, with_kmm: bool) -> dict[str, Path]:
    """Archives of the images that a node with this kernel needs, by reference; built if they are not cached."""
    found = {images.TEST_IMAGE: images.test_image()}
    if inventory.module != "none":
        found[images.KMOD_IMAGE] = images.kmod_image(kbuild.build_module_for(kernel_release), kernel_release)
    if inventory.driver != "none":
        found |= _driver_images()
    return {**found, **(KmmLoader(inventory.kmm).images() if with_kmm else {})}


def _driver_images() -> dict[str, Path]:
    """Archives of the driver's images by reference."""
    driver = current.driver()
    built = {reference: build() for reference, build in (deploy.BUILT[name] for name in driver.builds)}
    return built | {name: archive for archive in driver.archives for name in operator_files.names_of(archive)}


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
        drivers.write(paths.drivers, [current.driver()])
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


def _read(paths: Iterable[Path], inventory: Inventory) -> list[dict[str, Any]]:
    items = [item for path in paths for item in manifests.read_manifest(path)]
    return [owned.on_nodes(item, inventory.node_names) for item in items]


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _install(work: Attachment, *, enable_vfs: bool) -> None:
    inventory = work.inventory
    with_kmm = installs_kmm(work.api, inventory)
    if found := taken(work.api, inventory):
        raise StepError(f"{', '.join(map(str, found))} exist already; set install.module or install.driver to none")
    with work.step("images on the nodes"):
        releases = work.on_every_node(kernel_release)
        # Built one after the other, before the nodes wait for them.
        archives = {
            release: image_archives(inventory, release, with_kmm=with_kmm) for release in sorted(set(releases.values()))
        }
        _put_images(work, {node: archives[release] for node, release in releases.items()})
    with work.step("namespace of the tests"):
        work.make([_namespace(inventory.namespace)])
    if inventory.module != "none":
        with work.step("kernel module"):
            _load_module(work, with_kmm=with_kmm)
    with work.step("topology"):
        _find_topology(work, enable_vfs=enable_vfs or inventory.driver != "none")
    if inventory.driver != "none":
        with work.step("DRA driver serves"):
            _install_driver(work)
    with work.step("devices published"):
        cluster = ExternalCluster(work.cluster.name, complete=False)
        deploy.wait_published(cluster, current.driver(), Timeout.ATTACH_ROLLOUT.seconds)


def kernel_release(node: NodeAccess) -> str:
    """Release of the kernel that ``node`` runs. Raises StepError."""
    return on_node(node, ["uname", "-r"], timeout=Timeout.NODE_COMMAND.seconds).strip()


def _put_images(work: Attachment, wanted: Mapping[str, Mapping[str, Path]]) -> None:
    """Put images on the nodes, of which each has archives by reference; record what was not there before."""
    there = work.on_every_node(lambda node: _record_node(work, node, wanted[node.name].keys()))
    nodes: dict[Path, list[str]] = {}
    for node, archives in wanted.items():
        for archive in dict.fromkeys(archives.values()):
            references = {reference for reference, path in archives.items() if path == archive}
            if not references <= there[node]:
                nodes.setdefault(archive, []).append(node)
    for archive, names_of_nodes in nodes.items():
        image_loading.load(work.cluster, archive, only=names_of_nodes)


def _record_node(work: Attachment, node: NodeAccess, wanted: Collection[str]) -> set[str]:
    """Record which images and folders were not on ``node``; return the images that need not be put there.

    containerd gets all of them: one of the same name may be another image.
    """
    runtime = node_runtime.find(node)
    plugin = f"{runtime.kubelet_root}/plugins/{current.driver().name}"
    there = node_images.references(node, runtime)
    folders = on_node(
        node, ["sh", "-c", f"ls -d {plugin} {CDI_FOLDER} 2>/dev/null; true"], timeout=Timeout.NODE_COMMAND.seconds
    )
    with work.recording() as record:
        record.images[node.name] = sorted(set(wanted) - there)
        record.folders[node.name] = sorted({plugin, CDI_FOLDER} - set(folders.split()))
    return set() if runtime.ctr else there


def _load_module(work: Attachment, *, with_kmm: bool) -> None:
    inventory = work.inventory
    if inventory.module == "pod":
        work.make(module_objects(inventory))
        kubeclient.wait_daemonset(
            work.api,
            names.NAMESPACE,
            module_loader.DAEMON_SET,
            Timeout.ATTACH_ROLLOUT.seconds,
            nodes=len(inventory.nodes),
        )
        return
    *namespace, module = module_objects(inventory)
    work.make(namespace)
    if with_kmm:
        # Its images are on the nodes of the profile only.
        KmmLoader(inventory.kmm).install_operators(
            work.api,
            work.paths.logs,
            lambda items: work.make([owned.on_nodes(item, inventory.node_names) for item in items]),
        )
    for node in kmm.unlabelled(work.api, inventory.node_names):
        with work.recording() as record:
            record.labelled.append(node)
        kmm.set_label(work.api, node, wanted=True)
    kmm.when_webhooks_answer(lambda: work.make([module]))
    kmm.wait_loaded(work.api, inventory.node_names, Timeout.ATTACH_ROLLOUT.seconds)


def _install_driver(work: Attachment) -> None:
    inventory = work.inventory
    work.make(driver_objects(inventory))
    if inventory.driver == "helm":
        with work.recording() as record:
            record.release = True
        release = Release(work.cluster.kubeconfig, work.paths.logs / "helm.log")
        release.install(release_values(inventory), Timeout.ATTACH_ROLLOUT.seconds, label=work.label)
    deploy.wait_available(work.api, current.driver(), len(inventory.nodes), Timeout.ATTACH_ROLLOUT.seconds)


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
