"""The real program, killed at every write of prepare and unprepare, loses nothing and gives nothing away twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.kubelet import FakeKubelet
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import cdi, faults
from mock_accel_dra.settings import AgentSettings
from mock_accel_dra.state import State

from mock_device.topology import Node

_DEADLINE_SECONDS = 20
_MOST_POINTS = 60
CLAIM = ("default", "pair", "uid-pair")
OTHER = ("default", "other", "uid-other")
NOTHING: tuple[set[str], set[str], set[str]] = (set(), set(), set())


class NodeRoom:
    """A node on which the driver dies and comes back."""

    def __init__(self, sysfs: SysfsTree, folder: Path, api: FakeApiServer, node: str) -> None:
        self.sysfs = sysfs
        self.api = api
        self.settings = AgentSettings(
            node_name=node,
            sysfs_root=sysfs.root,
            cdi_root=folder / "cdi",
            plugin_dir=folder / "p",
            registry_dir=folder / "r",
        )
        for name, device in (("pair", "mock1"), ("other", "mock2")):
            results = [self._result(device)] + ([self._result("mock2")] if name == "pair" else [])
            api.add_claim(name, results)

    def _result(self, device: str) -> dict[str, str]:
        pool = f"{self.settings.node_name}/{device}"
        return {"request": "r", "driver": "mock-accel.example.com", "pool": pool, "device": device}

    @contextmanager
    def driver(self, fault_at: int = 0) -> Iterator[subprocess.Popen[str]]:
        """The program; it dies at its point ``fault_at``."""
        flags = ["sysfs-root", "cdi-root", "plugin-dir", "registry-dir"]
        argv = [sys.executable, "-m", "mock_accel_dra", "node-agent", "--api-server", self.api.url]
        argv += ["--node-name", self.settings.node_name, "--health-port=0", "--kernel-events=false"]
        argv += [f"--{flag}={getattr(self.settings, flag.replace('-', '_'))}" for flag in flags]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        if fault_at:
            environment["FAULT_AT"] = str(fault_at)
        process = subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=_DEADLINE_SECONDS)

    def call(self, unprepare: bool, claim: tuple[str, str, str]) -> str:
        """Error of the driver's answer, empty for success. Raises grpc.RpcError when it died."""
        with FakeKubelet(self.settings.service_socket) as kubelet:
            answers = kubelet.unprepare([claim]) if unprepare else kubelet.prepare([claim])
            return str(answers[claim[2]].error)

    def used(self) -> tuple[set[str], set[str], set[str]]:
        """Devices with status 1, devices with a CDI file, recorded claims."""
        recorded = {claim.uid for claim in State.load(self.settings.state_file).claims()}
        return (
            {name for name in self.sysfs.names() if self.sysfs.status(name)},
            cdi.names(self.settings.cdi_root),
            recorded,
        )


@pytest.fixture
def room(plug: Callable[..., SysfsTree], run_dir: Path, api: FakeApiServer, node: Node) -> NodeRoom:
    return NodeRoom(plug(), run_dir, api, node.name)


PREPARED = ({"mock1", "mock2"}, {"mock1", "mock2"}, {"uid-pair"})


@pytest.mark.slow
@pytest.mark.parametrize("unprepare", [False, True], ids=["prepare", "unprepare"])
def test_killed_at_every_write(room: NodeRoom, unprepare: bool) -> None:
    killed = 0
    for point in range(1, _MOST_POINTS):
        if unprepare:
            with room.driver():
                assert room.call(False, CLAIM) == ""
        with room.driver(fault_at=point) as process:
            try:
                room.call(unprepare, CLAIM)
                survived = True
            except grpc.RpcError:
                assert process.wait(_DEADLINE_SECONDS) == faults.EXIT_CODE
                survived = False
                killed += 1
        with room.driver():
            # The kubelet asks again, or for something else that must not be given twice.
            if room.used() == PREPARED:
                assert "still prepared for claim default/pair" in room.call(False, OTHER)
            assert room.call(False, CLAIM) == ""
            assert room.used() == PREPARED
            assert room.call(True, CLAIM) == ""
            assert room.used() == NOTHING
        left = [*room.settings.cdi_root.glob(".*"), *room.settings.plugin_dir.glob(".*")]
        assert not left, f"point {point} leaves a half-written file for ever"
        if survived:
            break
    else:
        raise AssertionError(f"still killed at point {_MOST_POINTS}")
    assert killed >= 10


def test_fault_must_be_a_number(room: NodeRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = [sys.executable, "-m", "mock_accel_dra", "node-agent", "--api-server", room.api.url, "--node-name=n"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "FAULT_AT": "soon"}
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert "FAULT_AT: expected a number from 1, found 'soon'" in ended.stderr
