"""Images onto nodes: which archive, which store, whose output."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.image_files import LAYERS, Layout, digest, named
from support.topologies import CLUSTER

from mock_device.lab.base.errors import StepError
from mock_device.lab.build import image_pull
from mock_device.lab.cluster import image_loading, node_runtime
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.image_loading import import_command, load
from mock_device.lab.cluster.node_runtime import Kind, NodeRuntime

NODES = [node.name for node in CLUSTER.nodes]
K3S = NodeRuntime(
    kind=Kind.CONTAINERD,
    socket="/run/k3s/containerd/containerd.sock",
    binary="/usr/local/bin/k3s",
    config="/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    service="k3s.service",
    kubelet_service="k3s.service",
    kubelet_root="/var/lib/kubelet",
    ctr=("env", "CONTAINERD_ADDRESS=/run/k3s/containerd/containerd.sock", "k3s", "ctr", "--namespace", "k8s.io"),
    crictl=(),
)
CRIO = NodeRuntime(
    kind=Kind.CRIO,
    socket="/run/crio/crio.sock",
    binary="/usr/bin/crio",
    config="/etc/crio/crio.conf",
    service="crio.service",
    kubelet_service="kubelet.service",
    kubelet_root="/var/lib/kubelet",
    ctr=(),
    crictl=(),
)


class FakeNodes:
    """Nodes whose stores have ``present``; each import is recorded with the size of what it reads."""

    def __init__(self, runtimes: Sequence[NodeRuntime] = (K3S, K3S), present: Sequence[Sequence[bytes]] = ((), ())):
        self.runtimes = dict(zip(NODES, runtimes, strict=True))
        self.present = dict(zip(NODES, present, strict=True))
        self.imports: dict[str, tuple[str, int]] = {}
        self.fails: Callable[[str, Path], None] = lambda *_: None

    def find(self, node: NodeAccess) -> NodeRuntime:
        return self.runtimes[node.name]

    def on_node(
        self, node: NodeAccess, command: Sequence[str], *, timeout: float, log: Path | None = None, stdin: Any = None
    ) -> str:
        assert timeout > 0
        if "content" in command:
            return "".join(f"{digest(layer)}\n" for layer in self.present[node.name])
        assert log is not None
        self.fails(node.name, log)
        self.imports[node.name] = (command[-1], stdin.stat().st_size)
        return ""


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeNodes]:
    def make(*args: Any) -> FakeNodes:
        fake = FakeNodes(*args)
        monkeypatch.setattr(node_runtime, "find", fake.find)
        monkeypatch.setattr(image_loading, "on_node", fake.on_node)
        return fake

    return make


@pytest.fixture
def cluster(tmp_path: Path) -> Any:
    class Cluster:
        topology = CLUSTER
        log_dir = tmp_path

        def node(self, name: str) -> NodeAccess:
            return NodeAccess(name, "127.0.0.1", 22, "root", tmp_path, tmp_path)

    return Cluster()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    layout = Layout()
    return layout.write(tmp_path / "image.tar", named(layout.image(), full="localhost/app:1"))


def test_image_goes_to_the_store_of_the_kubelet(nodes: Callable[..., FakeNodes], cluster: Any, archive: Path) -> None:
    fake = nodes()
    loaded = load(cluster, archive)
    assert [(one.node, one.image, one.transferred) for one in loaded] == [
        (name, "localhost/app:1", sum(map(len, LAYERS))) for name in NODES
    ]
    address = "env CONTAINERD_ADDRESS=/run/k3s/containerd/containerd.sock k3s ctr --namespace k8s.io"
    assert {command for command, _ in fake.imports.values()} == {f"{address} images import - && sync"}


def test_only_some_nodes_get_the_image(nodes: Callable[..., FakeNodes], cluster: Any, archive: Path) -> None:
    fake = nodes((K3S, K3S), ((), LAYERS))
    loaded = load(cluster, archive, only=[NODES[1]])
    assert [(one.node, one.transferred) for one in loaded] == [(NODES[1], 0)]
    assert fake.imports.keys() == {NODES[1]}


def test_layers_that_all_nodes_have_stay_here(nodes: Callable[..., FakeNodes], cluster: Any, archive: Path) -> None:
    nodes((K3S, K3S), (LAYERS, LAYERS[:1]))
    assert {one.transferred for one in load(cluster, archive)} == {len(LAYERS[1])}


def test_crio_gets_whole_images(nodes: Callable[..., FakeNodes], cluster: Any, archive: Path) -> None:
    fake = nodes((K3S, CRIO), (LAYERS, LAYERS))
    assert {one.transferred for one in load(cluster, archive)} == {sum(map(len, LAYERS))}
    assert "podman load" in fake.imports[NODES[1]][0]


def test_crio_without_a_tool_is_explained() -> None:
    assert "expected podman or skopeo beside CRI-O, found neither" in import_command(CRIO, ["localhost/app:1"])


def test_failed_load_names_each_node_and_its_own_log(
    nodes: Callable[..., FakeNodes], cluster: Any, archive: Path
) -> None:
    fake, logs = nodes(), {}

    def fails(node: str, log: Path) -> None:
        logs[node] = log
        raise StepError(f"ctr: no space left on {node}", log)

    fake.fails = fails
    with pytest.raises(StepError) as caught:
        load(cluster, archive)
    assert len(set(logs.values())) == len(NODES)
    assert str(caught.value) == "\n".join(
        f"{name}: ctr: no space left on {name}\n  log: {logs[name]}" for name in NODES
    )


def test_image_may_come_from_a_pipe(
    nodes: Callable[..., FakeNodes], cluster: Any, archive: Path, tmp_path: Path
) -> None:
    import os

    fake = nodes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(archive.read_bytes(),))
    writer.start()
    load(cluster, pipe)
    writer.join()
    assert fake.imports.keys() == set(NODES)


def test_reference_is_pulled_on_this_machine(
    nodes: Callable[..., FakeNodes], cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes()
    asked = []

    def pull(reference: str, folder: Path, log: Path) -> Path:
        asked.append((reference, log.name))
        layout = Layout()
        return layout.write(folder / "pulled", named(layout.image(), ref="latest"))

    monkeypatch.setattr(image_pull, "pull", pull)
    assert {one.image for one in load(cluster, "docker-daemon:app:1")} == {"docker.io/library/app:1"}
    assert asked == [("docker-daemon:app:1", "load-image-pull.log")]


@pytest.mark.parametrize("source", ["missing.tar", "./app", "/nowhere/app", "App:1"])
def test_neither_file_nor_reference_is_refused(cluster: Any, source: str) -> None:
    with pytest.raises(StepError, match=f"no image archive or layout {source}, and no reference of an image"):
        load(cluster, source)
