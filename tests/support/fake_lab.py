"""Fake clusters for pool tests."""

from __future__ import annotations

import threading
from pathlib import Path

from mock_device.acceptance.pool import value_sets
from mock_device.lab.base.errors import StepError
from mock_device.topology import Topology
from support.topologies import CLUSTER, DENSE

SETS = value_sets([CLUSTER, DENSE], 2)


class FakeCluster:
    def __init__(self, lab: FakeLab, name: str) -> None:
        self.name = name
        self.log_dir = Path("/logs", name)
        self.is_alive = True
        self.refuses = False
        self._lab = lab

    def alive(self) -> bool:
        return self.is_alive

    def release(self) -> None:
        if self.refuses:
            raise StepError(f"cluster {self.name!r} has not ended after 30 s")
        self._lab.running.remove(self)
        if not self._lab.running:
            self._lab.emptied.set()


class FakeLab:
    """Starts fake clusters at once, or when ``go`` is set."""

    def __init__(self) -> None:
        self.running: list[FakeCluster] = []
        self.most = 0
        self.emptied = threading.Event()
        """Set when the last cluster has ended."""
        self.go = threading.Event()
        self.go.set()
        self.stopped: list[str] = []
        self.fails = False

    def start(self, name: str, _: Topology) -> FakeCluster:
        if not self.go.wait(10) or self.fails:
            raise StepError("it does not start")
        self.running.append(cluster := FakeCluster(self, name))
        self.most = max(self.most, len(self.running))
        return cluster

    def stop(self, name: str) -> None:
        self.stopped.append(name)
        self.fails = True
        self.go.set()
