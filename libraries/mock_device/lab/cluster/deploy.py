"""Deploys what makes a cluster one with mock accelerators: kernel module, devices, DRA driver."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.driver import current, published
from mock_device.driver.description import Driver
from mock_device.lab.base import progress
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import chart, gobuild, images, kbuild
from mock_device.lab.cluster import image_loading
from mock_device.lab.cluster.kmm import KmmLoader
from mock_device.lab.cluster.loader_settings import LoaderKind
from mock_device.lab.cluster.module_loader import ModuleLoader, PodLoader
from mock_device.lab.cluster.release import Release
from mock_device.lab.kube import kubeclient, manifests
from mock_device.lab.kube.kubeexplain import explain_pods
from mock_device.topology import DeviceId

if TYPE_CHECKING:
    from mock_device.lab.cluster.cluster import Cluster
    from mock_device.lab.cluster.profile import Profile

BUILT: Mapping[str, tuple[str, Callable[[], Path]]] = {
    "driver-image": (images.DRIVER_IMAGE, images.driver_image),
    "go-driver-image": (images.GO_DRIVER_IMAGE, lambda: images.go_driver_image(gobuild.build_go_driver())),
}
"""Reference and builder of the images that drivers name by ``build``, by the names of ``lab build``."""
_POD_SECURITY = {"pod-security.kubernetes.io/enforce": "privileged"}
"""Node agents mount folders of their node."""


def kmod_image() -> Path:
    """Archive of the image with the kernel module for the nodes' kernel."""
    module = kbuild.build_module()
    return images.kmod_image(module, kbuild.module_kernel_release())


def built_archives(driver: Driver) -> list[Path]:
    """Archives of those images of a driver that the lab builds; built if they are not cached."""
    return [BUILT[name][1]() for name in driver.builds]


def driver_archives(driver: Driver) -> list[Path]:
    """Archives of all images of a driver."""
    return [*driver.archives, *built_archives(driver)]


def build_images() -> None:
    """Build the images that ``install_everything`` loads, so that no running cluster waits for a build."""
    kmod_image()
    driver_archives(current.driver())


def loader_of(profile: Profile) -> ModuleLoader:
    """The module loader that ``profile`` asks for."""
    return KmmLoader(profile.kmm) if profile.module_loader is LoaderKind.KMM else PodLoader()


@cache
def objects_of(driver: Driver) -> tuple[dict[str, Any], ...]:
    """Objects of the driver's manifests or chart; none if the lab does not deploy it. Raises StepError."""
    found = [item for path in driver.manifests for item in manifests.read_manifest(path)]
    if driver.chart:
        release, path, values = driver.chart.release, driver.chart.path, driver.chart.values
        found += manifests.read_manifest(chart.template(path, release, driver.namespace, values))
    return tuple(found)


def install_driver(cluster: Cluster, driver: Driver) -> None:
    """Install a DRA driver and wait until it is available on every node. Raises StepError."""
    api = kubeclient.connect(cluster.kubeconfig)
    _ensure_namespace(api, driver.namespace)
    for manifest in driver.manifests:
        manifests.apply(api, manifest, driver.namespace)
    if driver.chart:
        release = _release(cluster, driver)
        change = release.upgrade if release.exists() else release.install
        change(driver.chart.values, Timeout.ROLLOUT.seconds)
    wait_available(api, driver, len(cluster.topology.nodes), Timeout.ROLLOUT.seconds)


def wait_available(api: ApiClient, driver: Driver, nodes: int, seconds: float) -> None:
    """Wait until the driver's node agents are ready on ``nodes`` nodes, and its controller. Raises StepError."""
    kubeclient.wait_daemonset(api, driver.namespace, driver.node_agent.workload, seconds, nodes=nodes)
    if driver.controller:
        kubeclient.wait_deployment(api, driver.namespace, driver.controller.workload, seconds)


def remove_driver(cluster: Cluster, driver: Driver) -> list[str]:
    """Remove what ``install_driver`` created, and say what became of each object, a line each.

    Namespaces stay, which others share, and DeviceClasses that do not select the driver's devices any more. Claims in
    use keep their devices.
    """
    api = kubeclient.connect(cluster.kubeconfig)
    done = []
    if driver.chart:
        _release(cluster, driver).uninstall(Timeout.UNDEPLOY.seconds)
        done.append(f"removed\tHelm release {driver.namespace}/{driver.chart.release}")
    for item in reversed([item for path in driver.manifests for item in manifests.read_manifest(path)]):
        title = f"{item['kind']} {item['metadata']['name']}"
        if item["kind"] == "Namespace":
            done.append(f"kept\t{title}: others may use it")
        elif item["kind"] == "DeviceClass" and not _selects(api, item["metadata"]["name"], driver):
            done.append(f"kept\t{title}: it does not select devices of {driver.name}")
        else:
            manifests.delete_objects(api, [item], driver.namespace, timeout=Timeout.UNDEPLOY.seconds)
            done.append(f"removed\t{title}")
    return done


def _selects(api: ApiClient, device_class: str, driver: Driver) -> bool:
    """Whether a DeviceClass of the cluster may select the driver's devices: by name, or because it has no selector."""
    classes: Any = client.ResourceV1Api(api).list_device_class(field_selector=f"metadata.name={device_class}")
    expressions = [
        selector.cel.expression for item in classes.items for selector in item.spec.selectors or () if selector.cel
    ]
    return not expressions or any(f'"{driver.name}"' in expression for expression in expressions)


def _ensure_namespace(api: ApiClient, name: str) -> None:
    core = client.CoreV1Api(api)
    found: Any = core.list_namespace(field_selector=f"metadata.name={name}")
    if not found.items:
        body: Any = {"metadata": {"name": name, "labels": _POD_SECURITY}}
        core.create_namespace(body)


def _release(cluster: Cluster, driver: Driver) -> Release:
    assert driver.chart is not None
    log = cluster.log_dir / "helm.log"
    return Release(
        cluster.kubeconfig, log, name=driver.chart.release, source=driver.chart.path, namespace=driver.namespace
    )


def plug_devices(cluster: Cluster) -> None:
    """Hot-plug every slot of the topology. QEMU takes about 10 ms per slot; the guests take longer to notice."""
    for node in cluster.topology.nodes:
        for slot in node.slots:
            cluster.guests.plug(node.name, slot.root_port)


def wait_published(cluster: Cluster, driver: Driver, timeout: float | None = None) -> None:
    """Wait until the driver publishes every PF of the topology; StepError names those that it does not.

    A driver that does not say which devices it publishes must publish one on each node with devices. ``timeout`` is
    wall time in seconds, by default Timeout.PUBLISHED.
    """
    seconds = Timeout.PUBLISHED.seconds if timeout is None else timeout
    topology = cluster.topology
    expected = {key for key, function in topology.devices.items() if not function.is_vf}
    known = published.names(topology)
    says_which = "one-slice-a-device" in driver.promises or "pci-address" in driver.attributes
    api = kubeclient.connect(cluster.kubeconfig)

    def missing(slices: Mapping[str, kubeclient.Object]) -> set[DeviceId]:
        items = [kubeclient.as_json(api, item) for item in slices.values()]
        found = {
            DeviceId(item["spec"].get("nodeName", ""), published.name_in_sysfs(driver, known, item, device))
            for item in items
            if item["spec"]["driver"] == driver.name
            for device in item["spec"].get("devices") or ()
        }
        if says_which:
            return expected - found
        publishing = {key.node for key in found}
        return {key for key in expected if key.node not in publishing}

    lister = client.ResourceV1Api(api).list_resource_slice
    if left := missing(kubeclient.watch_until(lister, lambda slices: not missing(slices), seconds)):
        names = ", ".join(map(str, sorted(left)))
        pods = explain_pods(api, driver.namespace, dict(driver.node_agent.labels))
        raise StepError(
            f"no ResourceSlice of {driver.name} after {seconds:.0f} s for: {names}; {pods}", cluster.log_dir
        )


def wait_nodes(cluster: Cluster) -> None:
    """Wait until every node is Ready. Raises StepError."""
    api = kubeclient.connect(cluster.kubeconfig)
    with progress.step("nodes Ready", cluster.log_dir):
        kubeclient.wait_nodes_ready(api, [node.name for node in cluster.topology.nodes], Timeout.NODES_READY.seconds)


def install_everything(cluster: Cluster, loader: ModuleLoader) -> None:
    """Install kernel module and driver on nodes that are Ready. Shows each step; raises StepError."""
    log = cluster.log_dir
    with progress.step("images on the nodes", log):
        for archive in (kmod_image(), *driver_archives(current.driver()), *loader.archives()):
            image_loading.load(cluster, archive)
    with progress.step("kernel module", log):
        loader.install(cluster)
    with progress.step("DRA driver serves", log):
        install_driver(cluster, current.driver())


def add_devices(cluster: Cluster) -> None:
    """Plug the topology's devices and wait until all are published. Shows each step; raises StepError."""
    log = cluster.log_dir
    driver = current.driver()
    with progress.step("devices plugged", log):
        plug_devices(cluster)
    if "follows-devices" not in driver.promises:
        with progress.step("DRA driver restarted", log):
            restart_agents(cluster, driver)
    with progress.step("devices published", log):
        wait_published(cluster, driver)


def restart_agents(cluster: Cluster, driver: Driver) -> None:
    """Replace the driver's node agents, as ``kubectl rollout restart`` does, and wait until they are ready."""
    api = kubeclient.connect(cluster.kubeconfig)
    stamp = {"kubectl.kubernetes.io/restartedAt": datetime.datetime.now(datetime.UTC).isoformat()}
    body = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
    client.AppsV1Api(api).patch_namespaced_daemon_set(driver.node_agent.workload, driver.namespace, body)
    wait_available(api, driver, len(cluster.topology.nodes), Timeout.ROLLOUT.seconds)


def bring_up(cluster: Cluster, loader: ModuleLoader) -> None:
    """Turn a booted cluster into one that serves claims. Shows each step; raises StepError."""
    wait_nodes(cluster)
    install_everything(cluster, loader)
    add_devices(cluster)
