"""A fake cluster that exists: objects with their marks, images and folders on its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient

from mock_device.lab.base.errors import StepError
from mock_device.lab.build import chart
from mock_device.lab.build.chart import Values
from mock_device.lab.cluster import (
    attaching,
    deploy,
    detaching,
    discovery,
    image_loading,
    kmm,
    kmm_state,
    node_images,
    node_runtime,
)
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.kmm import KmmLoader
from mock_device.lab.kube import kubeclient, owned
from mock_device.lab.kube.object_id import ObjectId
from support.runtimes import RUNTIME
from support.topologies import CLUSTER

PROFILE = f"""\
kind: external
kubeconfig: kubeconfig
nodes: [{", ".join(f"{{name: {node.name}}}" for node in CLUSTER.nodes)}]
"""
KUBECONFIG = """\
current-context: one
clusters: [{name: c, cluster: {server: 'https://192.0.2.1:6443'}}]
users: [{name: u, user: {token: secret}}]
contexts: [{name: one, context: {cluster: c, user: u}}]
"""


class ForeignCluster:
    """Replaces what attaching and detaching do to a cluster, and records it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.objects: dict[ObjectId, str] = {}
        """Mark of each object; empty for one that somebody else made."""
        self.images: dict[str, set[str]] = {node.name: {"docker.io/library/other:1"} for node in CLUSTER.nodes}
        self.folders: set[str] = set()
        self.commands: list[tuple[str, str]] = []
        self.others_in: dict[str, list[str]] = {}
        self.fails_at = ""
        """Name of the object that the API server refuses."""
        self.profile = folder / "mine.yaml"
        self.profile.write_text(PROFILE)
        (folder / "kubeconfig").write_text(KUBECONFIG)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setattr(owned, "owners", self._owners)
        monkeypatch.setattr(owned, "apply", self._apply)
        monkeypatch.setattr(owned, "remove", self._remove)
        monkeypatch.setattr(owned, "others_in", lambda _, namespace, __: self.others_in.get(namespace, []))
        monkeypatch.setattr(kubeclient, "connect", lambda _: ApiClient())
        for wait in ("wait_daemonset", "wait_deployment"):
            monkeypatch.setattr(kubeclient, wait, lambda *_, **__: None)
        monkeypatch.setattr(deploy, "wait_published", lambda *_: None)
        monkeypatch.setattr(node_runtime, "find", lambda _: RUNTIME)
        monkeypatch.setattr(node_images, "references", lambda node, _: set(self.images[node.name]))
        monkeypatch.setattr(image_loading, "load", self._load)
        monkeypatch.setattr(node_images, "remove", self._remove_images)
        archives = {f"i/{name}:1": Path(name) for name in ("a", "b")}
        monkeypatch.setattr(attaching, "image_archives", lambda *_, **__: archives)
        for module in (attaching, detaching):
            monkeypatch.setattr(module, "on_node", self._on_node)
        monkeypatch.setattr(attaching, "runner", lambda _: lambda node, command: "end\n")
        monkeypatch.setattr(discovery, "discover", lambda name, *_, **__: EXTERNAL)
        monkeypatch.setattr(detaching, "remove_objects_of_tests", lambda _: None)
        self.has_kmm = False
        self.labels: set[str] = set()
        """Nodes with the label by which our Module selects them."""
        self.release: str | None = None
        """Label of the Helm release; None without a release."""
        self._fake_kmm(monkeypatch)
        for module in (attaching, detaching):
            monkeypatch.setattr(module, "Release", lambda *_: FakeRelease(self))
        monkeypatch.setattr(chart, "render", lambda _: RENDERED)
        monkeypatch.setattr(detaching, "users_of_devices", lambda _: list(self.users))
        self.users: list[str] = []

    def _fake_kmm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def install(_: KmmLoader, __: ApiClient, ___: Path, apply: kmm.Apply) -> None:
            apply([OPERATOR])

        def label(_: ApiClient, node: str, *, wanted: bool) -> None:
            (self.labels.add if wanted else self.labels.discard)(node)

        monkeypatch.setattr(kmm_state, "is_served", lambda _: self.has_kmm)
        monkeypatch.setattr(KmmLoader, "planned", lambda _: [OPERATOR])
        monkeypatch.setattr(KmmLoader, "install_operators", install)
        monkeypatch.setattr(kmm, "unlabelled", lambda _, nodes: [node for node in nodes if node not in self.labels])
        monkeypatch.setattr(kmm, "set_label", label)
        monkeypatch.setattr(kmm, "wait_loaded", lambda *_: None)

    def _owners(self, _: ApiClient, items: Iterable[ObjectId]) -> dict[ObjectId, str]:
        return {item: self.objects[item] for item in items if item in self.objects}

    def _apply(self, _: ApiClient, items: Iterable[dict[str, Any]], mark: str) -> None:
        for found in map(owned.id_of, items):
            if found.name == self.fails_at:
                raise StepError(f"{found}: the API server refuses it, 403: no")
            self.objects[found] = mark

    def _remove(self, _: ApiClient, items: Sequence[ObjectId], mark: str, __: float) -> list[ObjectId]:
        left = [item for item in items if item in self.objects and self.objects[item] != mark]
        for item in items:
            if self.objects.get(item) == mark:
                del self.objects[item]
        return left

    def _load(self, _: object, archive: Path, *, only: Sequence[str]) -> None:
        for node in only:
            self.images[node].add(f"i/{archive}:1")

    def _remove_images(self, node: NodeAccess, _: object, images: Sequence[str]) -> None:
        self.images[node.name] -= set(images)

    def _on_node(self, node: NodeAccess, command: Sequence[str], **_: object) -> str:
        self.commands.append((node.name, command[-1]))
        if command[-1].startswith("ls -d"):
            return "\n".join(sorted(self.folders))
        return "6.12.1-amd64"


EXTERNAL = "external: true\nnodes:\n" + "".join(
    f"  - {{name: {node.name}, numa: [{{node: 0, memory: 1G, cpus: 1, bus: 0}}]}}\n" for node in CLUSTER.nodes
)
"""A topology of the nodes without any device."""
OPERATOR = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "operator", "namespace": "kmm"},
    "spec": {"template": {"spec": {"containers": []}}},
}
"""KMM's only object."""
RENDERED = """\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: mock-accel-node-agent, namespace: mock-device}
"""
"""What the chart renders."""


class FakeRelease:
    """The Helm release of a ``ForeignCluster``."""

    def __init__(self, cluster: ForeignCluster) -> None:
        self._cluster = cluster

    def exists(self, label: str = "") -> bool:
        return self._cluster.release is not None and label in ("", self._cluster.release)

    def install(self, values: Values, timeout: float, *, label: str) -> None:
        assert values["module.loader"] == "none"
        assert timeout > 0
        self._cluster.release = label

    def uninstall(self, timeout: float) -> None:
        assert timeout > 0
        self._cluster.release = None
