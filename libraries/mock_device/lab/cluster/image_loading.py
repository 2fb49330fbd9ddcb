"""Puts container images into the stores of a cluster's nodes."""

from __future__ import annotations

import shlex
import shutil
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import image_pull
from mock_device.lab.build.thin_image import write_thin
from mock_device.lab.cluster import node_runtime
from mock_device.lab.cluster.node_runtime import NodeRuntime
from mock_device.lab.cluster.ssh import on_each, on_node

if TYPE_CHECKING:
    from mock_device.lab.cluster.cluster import Cluster, NodeAccess

# CRI-O has no client of its own that imports images.
_CRIO_LOAD = (
    "if command -v podman >/dev/null; then podman load; "
    "elif command -v skopeo >/dev/null; then file=$(mktemp) && cat >$file && "
    "skopeo copy --insecure-policy oci-archive:$file {name}; code=$?; rm -f $file; exit $code; "
    "else echo 'expected podman or skopeo beside CRI-O, found neither' >&2; exit 1; fi"
)


@dataclass(frozen=True)
class Loaded:
    """An image that a node has now."""

    node: str
    image: str
    transferred: int
    """Bytes of layers that the node did not have."""
    seconds: float


def load(cluster: Cluster, source: str | Path, name: str = "", *, only: Collection[str] | None = None) -> list[Loaded]:
    """Put an image on every node: a docker archive, an OCI archive or layout, or a reference pulled on this machine.

    An archive may be compressed by gzip, and may be a pipe, such as ``<(podman save …)``. ``name`` replaces the name
    of a single image, ``only`` names the nodes that get it. Each node has a log file of its own. Raises StepError with
    the nodes that failed, and why.
    """
    nodes = [cluster.node(node.name) for node in cluster.topology.nodes if only is None or node.name in only]
    with tempfile.TemporaryDirectory(prefix="mock-device-") as temporary:
        folder = Path(temporary)
        path, name = _fetched(cluster, source, folder, name)
        stores = on_each(nodes, _look)
        thin = folder / "image.tar"
        # One archive for all nodes, without the layers that each of them has.
        written = write_thin(path, thin, frozenset.intersection(*(store.layers for store in stores.values())), name)

        def import_on(node: NodeAccess) -> float:
            begin = time.monotonic()
            command = ["sh", "-c", import_command(stores[node.name].runtime, written.names)]
            log = cluster.log_dir / f"load-image-{node.name}.log"
            on_node(node, command, timeout=Timeout.IMAGE_LOAD.seconds, log=log, stdin=thin)
            return time.monotonic() - begin

        seconds = on_each(nodes, import_on)
    return [Loaded(node, image, written.size, took) for node, took in seconds.items() for image in written.names]


def _fetched(cluster: Cluster, source: str | Path, folder: Path, name: str) -> tuple[Path, str]:
    """The image as a file or folder, and its name if the image itself does not have it."""
    path = Path(source)
    if path.is_fifo():
        # The archive is read more than once.
        with path.open("rb") as pipe, (folder / "whole.tar").open("wb") as whole:
            shutil.copyfileobj(pipe, whole)
        return folder / "whole.tar", name
    if path.exists():
        return path, name
    text = str(source)
    if not image_pull.is_reference(text):
        raise StepError(
            f"no image archive or layout {text}, and no reference of an image; the driver's archive: make build-image"
        )
    pulled = image_pull.pull(text, folder, cluster.log_dir / "load-image-pull.log")
    return pulled, name or image_pull.without_transport(text)


@dataclass(frozen=True)
class _Store:
    runtime: NodeRuntime
    layers: frozenset[str]
    """Digests of what containerd has; empty with CRI-O, which cannot import a thin image."""


def _look(node: NodeAccess) -> _Store:
    runtime = node_runtime.find(node)
    if not runtime.ctr:
        return _Store(runtime, frozenset())
    listed = on_node(node, [*runtime.ctr, "content", "ls", "-q"], timeout=Timeout.IMAGE_LAYERS.seconds)
    return _Store(runtime, frozenset(listed.split()))


def import_command(runtime: NodeRuntime, names: Sequence[str]) -> str:
    """Shell command that imports the OCI archive on its standard input into the store that the kubelet uses."""
    if not runtime.ctr:
        return _CRIO_LOAD.format(name=shlex.quote(f"containers-storage:{names[0]}"))
    # Without sync, a power cut within half a minute would leave the files that containerd unpacked empty.
    return f"{shlex.join(runtime.ctr)} images import - && sync"
