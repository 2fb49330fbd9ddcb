"""A caller of the driver's socket that names another uid: the real node agent, over a real socket."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from dra_fakes.agents import running, until
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.sysfs import SysfsTree
from kubernetes.client import ApiClient
from mock_accel_dra.settings import AgentSettings

from mock_device.checks.driver import driver, prepare_call
from mock_device.checks.errors import CheckError
from mock_device.checks.objects import kube
from mock_device.driver import current


@pytest.fixture
def agent_container(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands in the node agent's container run here, beside a node agent with claim ``pair`` (uid ``uid-pair``)."""
    with tempfile.TemporaryDirectory(prefix="dra") as name:
        folder = Path(name)
        tree = SysfsTree(folder / "sys")
        tree.add("mock1", "0000:11:00.0")
        api = FakeApiServer()
        api.add_node("node1")
        ours = current.driver().name
        api.add_claim("pair", [{"request": "r", "driver": ours, "pool": "node1/mock1", "device": "mock1"}])
        settings = AgentSettings(
            node_name="node1",
            sysfs_root=tree.root,
            cdi_root=folder / "cdi",
            plugin_dir=folder / "p",
            registry_dir=folder / "r",
            rescan_interval=60.0,
            health_port=0,
        )

        def execute(_: ApiClient, pod: str, command: list[str], *rest: object, **__: object) -> str:
            assert pod == "agent-of-node1"
            program = command[2].replace("/var/lib/kubelet/plugins/{driver}", str(settings.plugin_dir))
            argv = [sys.executable, "-c", program, *command[3:]]
            return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout

        monkeypatch.setattr(kube, "execute", execute)
        monkeypatch.setattr(kube, "namespace_of_tests", lambda _: "default")
        monkeypatch.setattr(driver, "pod_of", lambda _, component, node: f"agent-of-{node}")
        with running(settings, api):
            until(settings.service_socket.exists, "the service's socket")
            yield
        api.close()


@pytest.mark.usefixtures("agent_container")
def test_refusal_of_another_uid_is_returned() -> None:
    found = prepare_call.refusal(ApiClient(), "node1", "pair", "uid-of-another")
    assert found == "claim default/pair was replaced: expected uid uid-of-another, found uid-pair"


@pytest.mark.usefixtures("agent_container")
def test_prepared_claim_is_an_error() -> None:
    expected = (
        "node agent of node1, prepare claim pair for uid uid-pair: expected the refusal of that uid, found it prepared"
    )
    with pytest.raises(CheckError, match=expected):
        prepare_call.refusal(ApiClient(), "node1", "pair", "uid-pair")


@pytest.mark.usefixtures("agent_container")
def test_other_refusals_are_errors() -> None:
    with pytest.raises(CheckError, match="expected the refusal of that uid, found claim default/none cannot be read"):
        prepare_call.refusal(ApiClient(), "node1", "none", "uid-1")
