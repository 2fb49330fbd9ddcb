"""Calls of a kubelet plugin over forwarded sockets: the real node agent, and an ssh that forwards on this machine."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dra_fakes.agents import running, until
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.sysfs import SysfsTree
from kubernetes.client import ApiClient
from mock_accel_dra.settings import AgentSettings
from support.fake_command import fake_command

from mock_device.checks.driver import plugin_answers, plugin_calls
from mock_device.checks.driver.plugin_answers import ClaimOnNode, Prepared
from mock_device.checks.errors import CheckError, SkipCheck
from mock_device.checks.objects import kube, slices
from mock_device.checks.objects.claim_forms import Result
from mock_device.checks.objects.slices import PublishedId
from mock_device.driver import current
from mock_device.lab.cluster.cluster import NodeAccess

DRIVER = current.driver().name
RESULT = {"request": "r", "driver": DRIVER, "pool": "node1/mock1", "device": "mock1"}
PAIR = ClaimOnNode("node1", "default", "pair", "uid-pair", (Result("r", DRIVER, "node1/mock1", "mock1"),))
ACCESS = NodeAccess("node1", "127.0.0.1", 2201, "root", Path("/pki/key"), Path("/pki/known_hosts"))
# -L LOCAL:REMOTE
SSH = [
    "import time",
    "local, _, remote = sys.argv[sys.argv.index('-L') + 1].partition(':')",
    "if not os.path.exists(remote): sys.exit(f'no socket {remote}')",
    "os.symlink(remote, local)",
    "time.sleep(60)",
]


class Node:
    """Stands for the session of a cluster with one node, whose kubelet has its folders in ``root``."""

    def __init__(self, root: Path, access: NodeAccess = ACCESS) -> None:
        self.cluster = SimpleNamespace(node=lambda _: access)
        self._root = root

    def runtime(self, _: str) -> Any:
        return SimpleNamespace(kubelet_root=str(self._root))

    def on_node(self, _: str, command: str) -> str:
        return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, timeout=10).stdout


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A node with a running node agent, and claim ``pair`` (uid ``uid-pair``) with its device mock1."""
    fake_command(monkeypatch, tmp_path, "ssh", SSH)
    # Not tmp_path: a socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="dra") as name:
        folder = Path(name)
        tree = SysfsTree(folder / "sys")
        tree.add("mock1", "0000:11:00.0")
        api = FakeApiServer()
        api.add_node("node1")
        api.add_claim("pair", [RESULT])
        settings = AgentSettings(
            node_name="node1",
            sysfs_root=tree.root,
            cdi_root=folder / "cdi",
            plugin_dir=folder / "plugins" / DRIVER,
            registry_dir=folder / "plugins_registry",
            rescan_interval=60.0,
            health_port=0,
        )
        with running(settings, api):
            until(lambda: [*settings.registry_dir.glob("*.sock")], "the registration socket")
            yield Node(folder)
        api.close()


def test_plugin_introduces_itself(node: Any) -> None:
    info = plugin_calls.info(node, "node1", DRIVER)
    assert plugin_answers.info_complaints(info, DRIVER) == []
    assert Path(info.endpoint).is_socket()
    assert 0 < info.seconds < 1


def test_prepare_answers_for_each_claim_and_is_repeatable(node: Any) -> None:
    with plugin_calls.plugin(node, "node1", DRIVER) as plugin:
        first, again = plugin.prepare([PAIR]), plugin.prepare([PAIR])
    assert plugin_answers.entry_complaints(first) == []
    assert plugin_answers.device_complaints(first) == []
    assert plugin_answers.differences(first, again) == []
    assert first.cdi == ("example.com/mock-accel=mock1",)


def test_unprepare_succeeds_twice(node: Any) -> None:
    with plugin_calls.plugin(node, "node1", DRIVER) as plugin:
        plugin.prepare([PAIR])
        assert [plugin.unprepare([PAIR]) for _ in range(2)] == [{"uid-pair": ""}] * 2


def test_health_is_the_first_report(node: Any) -> None:
    with plugin_calls.plugin(node, "node1", DRIVER) as plugin:
        assert plugin.health() == {PublishedId("node1/mock1", "mock1"): "Healthy"}


def test_refusal_is_the_reason_of_the_entry(node: Any) -> None:
    with plugin_calls.plugin(node, "node1", DRIVER) as plugin:
        other = replace(PAIR, uid="uid-of-another")
        found = plugin_calls.refusal("claim pair", lambda: plugin.prepare([other]))
    assert "expected uid uid-of-another, found uid-pair" in found


def test_refusal_may_be_an_error_of_the_call() -> None:
    def call() -> Prepared:
        raise plugin_calls.CallFailed("node1, NodePrepareResources: UNKNOWN: claim got replaced")

    assert "claim got replaced" in plugin_calls.refusal("claim pair", call)


def test_prepared_claim_is_no_refusal(node: Any) -> None:
    with (
        plugin_calls.plugin(node, "node1", DRIVER) as plugin,
        pytest.raises(CheckError, match="claim pair: expected the plugin to refuse, but it prepared example.com/mock"),
    ):
        plugin_calls.refusal("claim pair", lambda: plugin.prepare([PAIR]))


def test_sockets_of_killed_and_of_other_plugins_are_passed_over(node: Any) -> None:
    folder = Path(f"{node.runtime('node1').kubelet_root}/plugins_registry")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "zombie-reg.sock"))
    assert plugin_calls.info(node, "node1", DRIVER).name == DRIVER
    with pytest.raises(CheckError, match=rf"expected a registration socket of none\.example\.com .*{DRIVER}"):
        plugin_calls.info(node, "node1", "none.example.com")


def test_ssh_that_fails_says_why(node: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_command(monkeypatch, tmp_path, "ssh", ["sys.exit('port forwarding is disabled')"])
    with pytest.raises(CheckError, match=r"node1: ssh did not forward .*: port forwarding is disabled"):
        plugin_calls.info(node, "node1", DRIVER)


def test_node_with_sudo_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "plugins_registry").mkdir()
    (tmp_path / "plugins_registry" / "any-reg.sock").touch()
    with pytest.raises(SkipCheck, match="SSH forwards sockets of admin only"):
        plugin_calls.info(Node(tmp_path, replace(ACCESS, user="admin", sudo=True)), "node1", DRIVER)  # type: ignore[arg-type]


def test_allocated_claim_is_on_the_node_of_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = {
        "metadata": {"namespace": "default", "name": "pair", "uid": "uid-pair"},
        "spec": {},
        "status": {"allocation": {"devices": {"results": [RESULT, {**RESULT, "driver": "other"}]}}},
    }
    published = SimpleNamespace(pool="node1/mock1", node="node1")
    monkeypatch.setattr(kube, "get_claim", lambda *_: claim)
    monkeypatch.setattr(slices, "published", lambda _: [published])
    assert plugin_calls.claim_on_node(ApiClient(), "pair") == PAIR
    assert plugin_calls.unallocated_on_node(ApiClient(), "pair", "node2") == replace(PAIR, node="node2", results=())
    monkeypatch.setattr(slices, "published", lambda _: [])
    with pytest.raises(CheckError, match="expected a ResourceSlice of pool node1/mock1, found none"):
        plugin_calls.claim_on_node(ApiClient(), "pair")
    claim["status"] = {}
    with pytest.raises(CheckError, match="claim 'pair': expected devices of the driver, found none"):
        plugin_calls.claim_on_node(ApiClient(), "pair")
