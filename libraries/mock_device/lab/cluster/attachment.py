"""An attachment in progress: its cluster, its record, and what both attaching and detaching do with them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mock_device.lab.base import progress
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster.attached import AttachedPaths, ExternalCluster, Record
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.ssh import on_each
from mock_device.lab.kube import kubeclient, owned

Result = TypeVar("Result")
CDI_FOLDER = "/var/run/cdi"


class Attachment:
    """An attachment in progress."""

    def __init__(self, cluster: ExternalCluster, paths: AttachedPaths, record: Record) -> None:
        self.cluster = cluster
        self.paths = paths
        self.record = record
        self.inventory = cluster.inventory
        self._lock = threading.Lock()
        self.api = kubeclient.connect(cluster.kubeconfig)

    @property
    def label(self) -> str:
        """Label of a Helm release that this attachment has made."""
        return f"{owned.MARK}={self.record.mark}"

    def on_every_node(self, work: Callable[[NodeAccess], Result]) -> dict[str, Result]:
        """Do ``work`` for all nodes in parallel. Raises StepError with the nodes for which it failed, and why."""
        return on_each(self.inventory.nodes, work)

    def make(self, items: Iterable[dict[str, Any]]) -> None:
        """Make those of ``items`` that do not exist, recorded before. Raises StepError."""
        wanted = {owned.id_of(item): item for item in items}
        theirs = [item for item, mark in owned.owners(self.api, wanted).items() if mark != self.record.mark]
        if taken := [item for item in theirs if item.kind != "Namespace"]:
            raise StepError(f"{', '.join(map(str, taken))}: exists already, and this attachment has not made it")
        for namespace in theirs:
            del wanted[namespace]
        with self.recording() as record:
            record.objects += [item for item in wanted if item not in record.objects]
        owned.apply(self.api, list(wanted.values()), self.record.mark)

    @contextmanager
    def recording(self) -> Iterator[Record]:
        """Change the record, and save it; for one thread at a time."""
        with self._lock:
            yield self.record
            self.paths.save(self.record)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        with progress.step(title, self.paths.logs):
            yield
