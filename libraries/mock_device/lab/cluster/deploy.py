"""Deploys what makes a cluster one with mock accelerators: kernel module, devices, DRA driver."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kubernetes import client

from mock_device import names
from mock_device.lab.base import progress
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import images, kbuild
from mock_device.lab.cluster import image_loading
from mock_device.lab.cluster.kmm import KmmLoader
from mock_device.lab.cluster.loader_settings import LoaderKind
from mock_device.lab.cluster.module_loader import ModuleLoader, PodLoader
from mock_device.lab.kube import kubeclient, manifests
from mock_device.lab.kube.kubeexplain import explain_pods
from mock_device.topology import DeviceId

if TYPE_CHECKING:
    from mock_device.lab.cluster.cluster import Cluster
    from mock_device.lab.cluster.profile import Profile

NAMESPACE = names.NAMESPACE
DRIVER_MANIFESTS = PROJECT / "dra-driver" / "manifests"
NODE_AGENT = "mock-accel-node-agent"
CONTROLLER = "mock-accel-controller"


def kmod_image() -> Path:
    """Archive of the image with the kernel module for the nodes' kernel."""
    module = kbuild.build_module()
    return images.kmod_image(module, kbuild.module_kernel_release())


def build_images() -> None:
    """Build the images that ``install_everything`` loads, so that no running cluster waits for a build."""
    kmod_image()
    images.driver_image()


def loader_of(profile: Profile) -> ModuleLoader:
    """The module loader that ``profile`` asks for."""
    return KmmLoader(profile.kmm) if profile.module_loader is LoaderKind.KMM else PodLoader()


def _driver_manifests() -> list[Path]:
    """The driver's manifests, sorted by name; the first one creates the namespace."""
    return sorted(DRIVER_MANIFESTS.glob("*.yaml"))


def install_driver(cluster: Cluster) -> None:
    """Install the DRA driver and wait until it is available on every node."""
    api = kubeclient.connect(cluster.kubeconfig)
    for manifest in _driver_manifests():
        manifests.apply(api, manifest)
    count = len(cluster.topology.nodes)
    kubeclient.wait_daemonset(api, NAMESPACE, NODE_AGENT, Timeout.ROLLOUT.seconds, nodes=count)
    kubeclient.wait_deployment(api, NAMESPACE, CONTROLLER, Timeout.ROLLOUT.seconds)


def remove_driver(cluster: Cluster) -> None:
    """Remove what ``install_driver`` created, except the namespace, which the kernel module's loader shares.

    Claims in use keep their devices.
    """
    api = kubeclient.connect(cluster.kubeconfig)
    for manifest in reversed(_driver_manifests()[1:]):
        manifests.delete(api, manifest, timeout=Timeout.UNDEPLOY.seconds)


def plug_devices(cluster: Cluster) -> None:
    """Hot-plug every slot of the topology. QEMU takes about 10 ms per slot; the guests take longer to notice."""
    for node in cluster.topology.nodes:
        for slot in node.slots:
            cluster.guests.plug(node.name, slot.root_port)


def wait_published(cluster: Cluster, timeout: float | None = None) -> None:
    """Wait until every PF of the topology is in a ResourceSlice; StepError names those that are not.

    ``timeout`` is wall time in seconds, by default Timeout.PUBLISHED.
    """
    seconds = Timeout.PUBLISHED.seconds if timeout is None else timeout
    expected = {key for key, function in cluster.topology.devices.items() if not function.is_vf}
    api = kubeclient.connect(cluster.kubeconfig)

    def missing(slices: Mapping[str, kubeclient.Object]) -> set[DeviceId]:
        labels = [item.metadata.labels or {} for item in slices.values()]
        return expected - {DeviceId(found.get("node", ""), found.get("device", "")) for found in labels}

    lister = client.ResourceV1Api(api).list_resource_slice
    if left := missing(kubeclient.watch_until(lister, lambda slices: not missing(slices), seconds)):
        names = ", ".join(map(str, sorted(left)))
        pods = explain_pods(api, NAMESPACE, {"app": NODE_AGENT})
        raise StepError(f"no ResourceSlice after {seconds:.0f} s for: {names}; {pods}", cluster.log_dir)


def wait_nodes(cluster: Cluster) -> None:
    """Wait until every node is Ready. Raises StepError."""
    api = kubeclient.connect(cluster.kubeconfig)
    with progress.step("nodes Ready", cluster.log_dir):
        kubeclient.wait_nodes_ready(api, [node.name for node in cluster.topology.nodes], Timeout.NODES_READY.seconds)


def install_everything(cluster: Cluster, loader: ModuleLoader) -> None:
    """Install kernel module and driver on nodes that are Ready. Shows each step; raises StepError."""
    log = cluster.log_dir
    with progress.step("images on the nodes", log):
        for archive in (kmod_image(), images.driver_image(), *loader.archives()):
            image_loading.load(cluster, archive)
    with progress.step("kernel module", log):
        loader.install(cluster)
    with progress.step("DRA driver serves", log):
        install_driver(cluster)


def add_devices(cluster: Cluster) -> None:
    """Plug the topology's devices and wait until all are published. Shows each step; raises StepError."""
    log = cluster.log_dir
    with progress.step("devices plugged", log):
        plug_devices(cluster)
    with progress.step("devices published", log):
        wait_published(cluster)


def bring_up(cluster: Cluster, loader: ModuleLoader) -> None:
    """Turn a booted cluster into one that serves claims. Shows each step; raises StepError."""
    wait_nodes(cluster)
    install_everything(cluster, loader)
    add_devices(cluster)
