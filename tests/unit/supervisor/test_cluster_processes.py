"""Processes of a cluster: certificates, device servers, plugging."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from mock_accel_server import control
from mock_accel_server.control import ControlServer
from support.fake_supervisor import SPEC
from support.topologies import CLUSTER

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.processes import Child
from mock_device.lab.base.spec import Access, ClusterPaths, K3sSpec
from mock_device.lab.controlplane.pki import create_pki
from mock_device.lab.controlplane.sshkeys import create_ssh_keys
from mock_device.lab.guest.monitor import MonitorError
from mock_device.lab.supervisor.cluster_processes import ClusterProcesses

NODES = [node.name for node in CLUSTER.nodes]


@pytest.fixture
def paths(tmp_path: Path) -> ClusterPaths:
    paths = ClusterPaths(tmp_path / "some")
    paths.data.mkdir(parents=True)
    paths.logs.mkdir()
    Access(16443, {NODES[0]: 2201, NODES[1]: 2202}, 5001).save(paths.access)
    return paths


def processes(paths: ClusterPaths, golden: Path | None = None, k3s: K3sSpec | None = None) -> ClusterProcesses:
    spec = replace(SPEC, topology=str(CLUSTER.path), directory=str(paths.root), golden=str(golden or ""), k3s=k3s)

    def ended(child: Child) -> None:
        raise AssertionError(child.name)

    def stopped(node: str, status: str) -> None:
        raise AssertionError(f"{node}: {status}")

    return ClusterProcesses(spec, CLUSTER, ended, stopped)


def make_certificates(found: ClusterProcesses) -> None:
    (step,) = (step for step in found.steps() if step.name == "certificates and keys")

    async def work() -> None:
        await step.work()

    asyncio.run(work())


def test_clients_get_what_they_need_to_reach_the_cluster(paths: ClusterPaths) -> None:
    make_certificates(processes(paths))
    kubeconfig = yaml.safe_load(paths.kubeconfig.read_text())
    assert kubeconfig["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:16443"
    hosts = (paths.pki / "known_hosts").read_text().splitlines()
    assert [host.split()[0] for host in hosts] == ["[127.0.0.1]:2201", "[127.0.0.1]:2202"]


def test_each_guest_gets_its_own_boot_configuration(paths: ClusterPaths) -> None:
    make_certificates(processes(paths))
    found = {folder.stem: {file.name for file in folder.iterdir()} for folder in paths.data.glob("*.credentials")}
    assert found == {node: {"hostname", "network", "ssh-key", "files"} for node in NODES}
    for node in NODES:
        assert (paths.data / f"{node}.credentials" / "hostname").read_text().endswith(f"hostname={node}")


def test_restored_cluster_has_the_certificates_it_was_saved_with(paths: ClusterPaths, tmp_path: Path) -> None:
    golden = tmp_path / "golden"
    create_pki(golden / "pki", [(node.name, node.address) for node in CLUSTER.nodes])
    create_ssh_keys(golden / "pki", NODES)
    make_certificates(processes(paths, golden))
    for name in ("ca.crt", "admin.key", "id_ed25519"):
        assert (paths.pki / name).read_bytes() == (golden / "pki" / name).read_bytes()


def test_control_plane_on_a_node_has_its_api_server_there(paths: ClusterPaths, tmp_path: Path) -> None:
    k3s = K3sSpec({"disable": ["traefik"]}, {})
    found = processes(paths, k3s=k3s)
    assert found.api_address == CLUSTER.nodes[0].address
    assert processes(paths).api_address == "192.168.122.1"
    make_certificates(found)
    # Clients trust the authority of servers, and the API server trusts that of clients.
    kubeconfig = yaml.safe_load(paths.kubeconfig.read_text())
    trusted = base64.b64decode(kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"])
    assert trusted == (paths.pki / "server-ca.crt").read_bytes()
    assert (paths.pki / "join-secret").stat().st_mode & 0o777 == 0o600
    secret = (paths.pki / "join-secret").read_text()
    assert len(secret) == 48
    shutil.copytree(paths.pki, tmp_path / "golden/pki")
    shutil.rmtree(paths.root)
    paths.data.mkdir(parents=True)
    paths.logs.mkdir()
    Access(16443, {NODES[0]: 2201, NODES[1]: 2202}, 5001).save(paths.access)
    make_certificates(processes(paths, tmp_path / "golden", k3s))
    assert (paths.pki / "join-secret").read_text() == secret


def test_guests_start_before_the_control_plane(paths: ClusterPaths, tmp_path: Path) -> None:
    booted = [step.name for step in processes(paths).steps()]
    restored = [step.name for step in processes(paths, tmp_path).steps()]
    assert booted[-3:] == ["guests", "control plane", "services"]
    assert restored[-3:] == ["guests", "control plane, and memory of the guests", "resume of the guests"]
    assert booted[:5] == restored[:5]
    assert not [step for step in processes(paths).steps() if step.golden]


@pytest.mark.parametrize(("line", "found"), [(b"", "''"), (b"Traceback\n", r"'Traceback\\n'")])
def test_device_server_that_is_not_ready_is_an_error_with_its_log(paths: ClusterPaths, line: bytes, found: str) -> None:
    cluster = processes(paths)

    async def start(name: str, *_: object, **__: object) -> Any:
        output = asyncio.StreamReader()
        output.feed_data(line)
        output.feed_eof()
        return SimpleNamespace(process=SimpleNamespace(stdout=output), log=paths.logs / f"{name}.log")

    cluster.children.start = start  # type: ignore[method-assign]
    message = rf"devices-{NODES[0]}: expected 'ready', found {found}\n  log: .*/devices-{NODES[0]}\.log"
    with pytest.raises(StepError, match=message):
        asyncio.run(cluster.start_device_server(CLUSTER.nodes[0]))


def test_devices_sign_with_a_secret_of_the_cluster(paths: ClusterPaths, tmp_path: Path) -> None:
    golden = tmp_path / "golden"
    create_pki(golden / "pki", [(node.name, node.address) for node in CLUSTER.nodes])
    create_ssh_keys(golden / "pki", NODES)
    make_certificates(processes(paths, golden))
    secret = paths.device_key.read_bytes()
    assert (len(secret), len(bytes.fromhex(secret.decode()))) == (64, 32)
    assert paths.device_key.stat().st_mode & 0o777 == 0o600
    shutil.rmtree(paths.pki)
    shutil.rmtree(paths.data)
    paths.data.mkdir()
    make_certificates(cluster := processes(paths, golden))
    assert paths.device_key.read_bytes() != secret
    commands: list[list[str]] = []

    async def start(_: str, argv: list[str], **__: object) -> Any:
        commands.append(argv)
        output = asyncio.StreamReader()
        output.feed_data(b"ready\t6\tnode\n")
        return SimpleNamespace(process=SimpleNamespace(stdout=output))

    cluster.children.start = start  # type: ignore[method-assign,assignment]
    asyncio.run(cluster.start_device_server(CLUSTER.nodes[0]))
    (argv,) = commands
    assert argv[argv.index("--key-file") + 1] == str(paths.device_key)


@pytest.fixture
def served(paths: ClusterPaths, monkeypatch: pytest.MonkeyPatch) -> ClusterProcesses:
    """A cluster whose first node has a device server that runs."""
    paths.sockets.mkdir()
    monkeypatch.chdir(paths.sockets)
    Path(NODES[0]).mkdir()
    cluster = processes(paths)
    child = SimpleNamespace(process=SimpleNamespace(returncode=None), log=paths.logs / "devices.log")
    monkeypatch.setattr(cluster, "children", {f"devices-{NODES[0]}": child})
    return cluster


def test_device_server_is_asked_by_its_control_socket(served: ClusterProcesses) -> None:
    def answer(line: bytes) -> bytes:
        return (
            b'{"ok": true}' if json.loads(line) == {"device": "mock0", "fault": "die"} else b'{"error": "expected x"}'
        )

    server = ControlServer(Path(NODES[0], control.NAME), answer)
    try:
        node = CLUSTER.nodes[0]
        assert asyncio.run(served.ask_device_server(node, {"device": "mock0", "fault": "die"})) == {"ok": True}
        with pytest.raises(StepError, match=rf"^device server of {NODES[0]}/control.sock: expected x$"):
            asyncio.run(served.ask_device_server(node, {}))
    finally:
        server.close()


def test_device_server_that_does_not_answer(served: ClusterProcesses) -> None:
    with pytest.raises(StepError, match="expected an answer of the device server: No such file or directory"):
        asyncio.run(served.ask_device_server(CLUSTER.nodes[0], {"list": True}))
    served.children[f"devices-{NODES[0]}"].process.returncode = -9  # type: ignore[misc]
    with pytest.raises(
        StepError, match=rf"devices-{NODES[0]} has ended; start the cluster again: .*\n  log: .*devices"
    ):
        asyncio.run(served.ask_device_server(CLUSTER.nodes[0], {"list": True}))


def test_errors_of_unknown_slots_and_nodes_list_the_known_ones(paths: ClusterPaths) -> None:
    cluster = processes(paths)
    with pytest.raises(MonitorError, match="has no slot behind root port 'rp99'; it has rp11, rp12, rp21, rp22"):
        asyncio.run(cluster.plug(NODES[0], "rp99", True))
    with pytest.raises(KeyError, match=f"no node 'node9' in topology numa-cluster; it has {', '.join(NODES)}"):
        cluster.monitor("node9")
