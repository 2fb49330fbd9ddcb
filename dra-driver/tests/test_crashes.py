"""The real program, killed at every write of prepare and unprepare: no claim is lost, no device allocated twice."""

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
from mock_accel_dra import cdi, failpoints
from mock_accel_dra.settings import AgentSettings
from mock_accel_dra.state import State

from mock_device.topology import Node

_DEADLINE_SECONDS = 20
_MOST_POINTS = 60
CLAIM = ("default", "pair", "uid-pair")
OTHER = ("default", "other", "uid-other")
NOTHING: tuple[set[str], set[str], set[str]] = (set(), set(), set())


class NodeRig:
    """A node on which the driver dies and restarts."""

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
        parameters = {"apiVersion": "mock-accel.example.com/v1alpha1", "kind": "MockAccelConfig", "mode": "Shared"}
        opaque = {"driver": "mock-accel.example.com", "parameters": {**parameters, "maxJobs": 4}}
        config = [{"source": "FromClaim", "requests": ["mock1"], "opaque": opaque}]
        api.add_claim("pair", [self._result("mock1"), self._result("mock2")], config=config)
        api.add_claim("other", [self._result("mock2")])
        sysfs.reset_settings("mock1")

    def _result(self, device: str) -> dict[str, str]:
        pool = f"{self.settings.node_name}/{device}"
        return {"request": device, "driver": "mock-accel.example.com", "pool": pool, "device": device}

    @contextmanager
    def driver(self, failpoint: int = 0) -> Iterator[subprocess.Popen[str]]:
        """The program; it dies at failpoint number ``failpoint`` (0: never)."""
        if not self.sysfs.status("mock1"):  # the module resets them when the device is freed
            self.sysfs.reset_settings("mock1")
        flags = ["sysfs-root", "cdi-root", "plugin-dir", "registry-dir"]
        argv = [sys.executable, "-m", "mock_accel_dra", "node-agent", "--api-server", self.api.url]
        argv += ["--node-name", self.settings.node_name, "--health-port=0", "--kernel-events=false"]
        argv += [f"--{flag}={getattr(self.settings, flag.replace('-', '_'))}" for flag in flags]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        if failpoint:
            environment["FAILPOINT"] = str(failpoint)
        process = subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=_DEADLINE_SECONDS)

    def call(self, unprepare: bool, claim: tuple[str, str, str]) -> str:
        """Error in the driver's answer, empty for success. Raises grpc.RpcError if the driver died."""
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
def rig(plug: Callable[..., SysfsTree], run_dir: Path, api: FakeApiServer, node: Node) -> NodeRig:
    return NodeRig(plug(), run_dir, api, node.name)


PREPARED = ({"mock1", "mock2"}, {"mock1", "mock2"}, {"uid-pair"})


@pytest.mark.slow
@pytest.mark.parametrize("unprepare", [False, True], ids=["prepare", "unprepare"])
def test_killed_at_every_write(rig: NodeRig, unprepare: bool) -> None:
    killed = 0
    for point in range(1, _MOST_POINTS):
        if unprepare:
            with rig.driver():
                assert rig.call(False, CLAIM) == ""
        with rig.driver(failpoint=point) as process:
            try:
                rig.call(unprepare, CLAIM)
                survived = True
            except grpc.RpcError:
                assert process.wait(_DEADLINE_SECONDS) == failpoints.EXIT_CODE
                survived = False
                killed += 1
        with rig.driver():
            # The kubelet repeats the call, or asks for the same device for another claim.
            if rig.used() == PREPARED:
                assert "still prepared for claim default/pair" in rig.call(False, OTHER)
            assert rig.call(False, CLAIM) == ""
            assert rig.used() == PREPARED
            assert rig.sysfs.settings("mock1") == ("shared", "4", "0")
            assert rig.call(True, CLAIM) == ""
            assert rig.used() == NOTHING
        left = [*rig.settings.cdi_root.glob(".*"), *rig.settings.plugin_dir.glob(".*")]
        assert not left, f"failpoint {point} leaves a temporary file behind"
        if survived:
            break
    else:
        raise AssertionError(f"still killed at failpoint {_MOST_POINTS}")
    assert killed >= 10


def test_failpoint_must_be_a_number(rig: NodeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = [sys.executable, "-m", "mock_accel_dra", "node-agent", "--api-server", rig.api.url, "--node-name=n"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "FAILPOINT": "soon"}
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert "FAILPOINT: expected a number from 1, found 'soon'" in ended.stderr
