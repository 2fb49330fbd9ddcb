"""A cluster of the lab, used as if somebody else had made it: by a kubeconfig and SSH only."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device import names
from mock_device.driver import current
from mock_device.lab.base import timeouts
from mock_device.lab.base.commands import run
from mock_device.lab.base.paths import cache_root
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import images
from mock_device.lab.cluster import deploy, inventory, node_images, node_runtime
from mock_device.lab.cluster.cluster import Cluster, NodeAccess
from mock_device.lab.cluster.module_loader import PodLoader
from mock_device.lab.cluster.ssh import on_each, on_node
from mock_device.lab.kube import kubeclient, manifests

NAME = "existing"
"""Name under which the cluster is attached. Others do not see it, so it is free."""
_OURS = (images.KMOD_IMAGE, images.DRIVER_IMAGE, images.TEST_IMAGE)
_PASSING = {"Event", "Pod", "EndpointSlice", "Endpoints", "ResourceSlice", "Lease", "ComponentStatus"}
"""Kinds whose objects come and go, or have other names afterwards."""
# Paths below which the module, the driver, the operator and their pods could leave something; loaded modules.
_LOOK = (
    "find /etc /opt /usr/local /lib/firmware /lib/modules /var/run/cdi /var/lib/kubelet/plugins "
    "/var/lib/kubelet/plugins_registry -path /etc/cni -prune -o -print 2>/dev/null; cut -d ' ' -f 1 /proc/modules"
)


class Foreign:
    """The user's files for a cluster, and commands that see nothing else of it."""

    def __init__(self, cluster: Cluster, folder: Path, **install: str) -> None:
        """``folder`` gets the files; ``install`` has keys and values of the profile's key ``install``."""
        self.cluster = cluster
        self.profile = folder / "mine.yaml"
        self._empty, self._attached = folder / "no-clusters", folder / "attached"
        for path in (self._empty, self._attached, cache_root() / "attached", cache_root() / "clusters"):
            path.mkdir(parents=True, exist_ok=True)
        nodes = nodes_of(cluster)
        shutil.copy(cluster.kubeconfig, folder / "kubeconfig")
        shutil.copy(nodes[0].key_file, folder / "key")
        shutil.copy(nodes[0].known_hosts, folder / "known_hosts")
        content = {
            "kind": inventory.KIND,
            "kubeconfig": "kubeconfig",
            "ssh": {"key": "key", "known-hosts": "known_hosts"},
            "nodes": [{"name": node.name, "host": node.host, "port": node.port} for node in nodes],
            "install": install,
            "timeout-factor": timeouts.factor(),
        }
        self.profile.write_text(yaml.safe_dump(content))

    @property
    def prefix(self) -> list[str]:
        """Runs a command in a mount namespace without the lab's clusters, with attached ones of its own."""
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        root = cache_root()
        hide = (
            f"mount --bind {self._empty} {root / 'clusters'} && mount --bind {self._attached} {root / 'attached'} "
            '&& exec "$@"'
        )
        # Killed with this process, or another user of the cluster would be left.
        return [
            *("setpriv", "--pdeathsig", "TERM"),
            *("unshare", *user, "--mount", "--propagation", "private", "sh", "-c", hide, "sh"),
        ]

    def lab(self, *arguments: str | Path, timeout: float, log: Path | None = None) -> str:
        """What ``lab`` prints. ``timeout`` is wall time in seconds. Raises StepError with the end of its output."""
        argv = [*self.prefix, sys.executable, "-m", "mock_device.commands.cli", *arguments]
        return run(argv, timeout=timeout, log=log, env={"LAB_CLUSTER": NAME}).decode()


def nodes_of(cluster: Cluster) -> list[NodeAccess]:
    """All nodes of ``cluster``."""
    return [cluster.node(node.name) for node in cluster.topology.nodes]


def strip(cluster: Cluster, *, with_images: bool) -> None:
    """Remove driver, kernel module and, ``with_images``, their images from a cluster of the lab. Raises StepError."""
    driver = current.driver()
    deploy.remove_driver(cluster, driver)
    PodLoader().remove(cluster)
    api = kubeclient.connect(cluster.kubeconfig)
    for name in dict.fromkeys((driver.namespace, names.NAMESPACE)):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        manifests.delete_objects(api, [namespace], timeout=Timeout.FOREIGN.seconds)

    def clean(node: NodeAccess) -> None:
        runtime = node_runtime.find(node)
        on_node(node, ["rm", "-rf", f"{runtime.kubelet_root}/plugins/{driver.name}"], timeout=Timeout.FOREIGN.seconds)
        if with_images:
            node_images.remove(node, runtime, _OURS)

    on_each(nodes_of(cluster), clean)


def state_of(cluster: Cluster) -> dict[str, list[str]]:
    """What attaching may change: objects of every kind, labels, images, files and modules of the nodes."""
    api = kubeclient.connect(cluster.kubeconfig)
    found = dict(_objects(api))
    for node, (labels, images_there, files) in on_each(nodes_of(cluster), lambda node: _node(api, node)).items():
        found |= {f"labels of {node}": labels, f"images on {node}": images_there, f"files on {node}": files}
    return found


def changes(before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]) -> list[str]:
    """Differences between two states, a line each."""
    lines = []
    for where in sorted(before.keys() | after.keys()):
        old, new = set(before.get(where, ())), set(after.get(where, ()))
        lines += [f"{where}: {name} is left" for name in sorted(new - old)]
        lines += [f"{where}: {name} is gone" for name in sorted(old - new)]
    return lines


def _objects(api: ApiClient) -> Iterator[tuple[str, list[str]]]:
    with manifests.dynamic_client(api) as dynamic:
        for resource in dynamic.resources.search():
            if resource.kind in _PASSING or resource.kind.endswith("List") or "list" not in (resource.verbs or ()):
                continue
            try:
                items: list[dict[str, Any]] = dynamic.get(resource).to_dict()["items"]
            except ApiException:
                # Listed, but not to be read: a version that is no longer served, for example.
                continue
            ids = [(item["metadata"].get("namespace") or "", item["metadata"]["name"]) for item in items]
            yield f"{resource.group_version} {resource.kind}", sorted("/".join(filter(None, parts)) for parts in ids)


def _node(api: ApiClient, node: NodeAccess) -> tuple[list[str], list[str], list[str]]:
    item: Any = client.CoreV1Api(api).read_node(node.name)
    labels = [f"{name}={value}" for name, value in sorted((item.metadata.labels or {}).items())]
    # An image that was pulled by name has its digest as another reference.
    there = [name for name in node_images.references(node, node_runtime.find(node)) if not name.startswith("sha256:")]
    return (
        labels,
        sorted(there),
        sorted(on_node(node, ["sh", "-c", _LOOK], timeout=Timeout.FOREIGN.seconds).splitlines()),
    )
