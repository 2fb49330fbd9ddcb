"""A control plane on the first node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from support.fake_supervisor import SPEC
from support.topologies import CLUSTER

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.processes import Children
from mock_device.lab.base.spec import Access, ClusterPaths, K3sSpec
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.controlplane.components import Readiness
from mock_device.lab.supervisor import node_place
from mock_device.lab.supervisor.node_place import NodePlace

NAME = CLUSTER.nodes[0].name


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodePlace:
    monkeypatch.setattr(node_place, "_POLL_SECONDS", 0.01)
    return with_dns(tmp_path, "traefik,coredns", "coredns")


def with_dns(tmp_path: Path, disabled: str, *programs: str) -> NodePlace:
    """A place with ``programs``, whose k3s does not deploy the components ``disabled``."""
    for folder in ("bin", "data", "logs"):
        (tmp_path / folder).mkdir()
    for name in programs:
        program = tmp_path / "bin" / name
        program.write_text("#!/bin/sh\nexec sleep 60\n")
        program.chmod(0o755)
    spec = replace(SPEC, directory=str(tmp_path), binaries=str(tmp_path / "bin"))
    children = Children(tmp_path / "logs", lambda child: pytest.fail(f"{child.name} ended"))
    return NodePlace(spec, K3sSpec({"disable": [disabled]}, {}), CLUSTER, children)


def test_cluster_is_restored_when_the_api_server_answers(place: NodePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["connection refused", "not yet", ""]
    asked = []

    def probe(readiness: Readiness) -> str:
        asked.append(readiness.url)
        return answers.pop(0)

    monkeypatch.setattr(Readiness, "probe", probe)
    place.create_pki()
    asyncio.run(until_ended(place, place.resumed))
    assert asked == [f"https://{CLUSTER.nodes[0].address}:6443/readyz"] * 3


async def until_ended(place: NodePlace, *steps: Callable[[], Awaitable[None]]) -> None:
    for step in steps:
        await step()
    await place.end()


def started(place: NodePlace, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Start the place, whose API server answers; whether the first objects have the DNS service."""
    objects: list[bool] = []
    monkeypatch.setattr(Readiness, "probe", lambda _: "")
    monkeypatch.setattr(node_place, "bootstrap", lambda *_, dns, **__: objects.append(dns))
    place.create_pki()
    asyncio.run(until_ended(place, place.start, place.complete))
    return objects


def test_start_is_complete_when_the_controllers_run(silent: NodePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def probe(readiness: Readiness) -> str:
        asked.append(readiness.url)
        return "" if readiness.url.endswith("/readyz") else "answered 404"

    monkeypatch.setattr(Readiness, "probe", probe)
    monkeypatch.setattr(Timeout.NODE_CONTROL_PLANE, "nominal", timedelta(seconds=0))
    monkeypatch.setattr(node_place, "run", lambda *_, **__: b"")
    with pytest.raises(StepError, match=f"the controllers on {NAME} do not run after 0 s: answered 404"):
        asyncio.run(silent.complete())
    assert asked == [f"https://{CLUSTER.nodes[0].address}:6443/api/v1/namespaces/default/serviceaccounts/default"]


def test_dns_server_of_this_machine_asks_the_api_server_on_the_node(
    place: NodePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert started(place, monkeypatch) == [True]
    assert (tmp_path / "logs/coredns.log").is_file()
    kubeconfig = yaml.safe_load((tmp_path / "data/control-plane/coredns.kubeconfig").read_text())
    assert kubeconfig["clusters"][0]["cluster"]["server"] == f"https://{CLUSTER.nodes[0].address}:6443"
    assert (
        f"kubeconfig {tmp_path}/data/control-plane/coredns.kubeconfig"
        in (tmp_path / "data/control-plane/Corefile").read_text()
    )


@pytest.mark.parametrize(("disabled", "program"), [("traefik", "coredns"), ("coredns", "etcd")])
def test_dns_server_is_that_of_k3s_unless_it_is_disabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disabled: str, program: str
) -> None:
    assert started(with_dns(tmp_path, disabled, program), monkeypatch) == [False]
    assert not (tmp_path / "logs/coredns.log").exists()


@pytest.fixture
def silent(place: NodePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodePlace:
    """A place whose API server does not answer."""
    monkeypatch.setattr(Readiness, "probe", lambda _: "connection refused")
    monkeypatch.setattr(Timeout.NODE_CONTROL_PLANE_RESTORED, "nominal", timedelta(seconds=0))
    place.create_pki()
    Access(16443, {node.name: 2201 for node in CLUSTER.nodes}, 5001).save(ClusterPaths(tmp_path).access)
    return place


def test_api_server_that_does_not_answer_is_an_error_with_its_journal(
    silent: NodePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def journal(argv: Sequence[str], **_: object) -> bytes:
        asked.extend(argv)
        return b"etcd ended: exit status 1\n"

    monkeypatch.setattr(node_place, "run", journal)
    message = f"the API server on {NAME} is not ready after 0 s: connection refused\n  log: .*/k3s-{NAME}.log"
    with pytest.raises(StepError, match=message):
        asyncio.run(silent.resumed())
    assert (tmp_path / f"logs/k3s-{NAME}.log").read_text() == "etcd ended: exit status 1\n"
    assert f"root@{CLUSTER.nodes[0].address}" in asked
    assert "HostKeyAlias=[127.0.0.1]:2201" in asked


def test_console_is_named_when_the_node_does_not_answer_either(
    silent: NodePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise StepError("no route to host")

    monkeypatch.setattr(node_place, "run", refuse)
    with pytest.raises(StepError, match=f"log: .*/console-{NAME}.log"):
        asyncio.run(silent.resumed())


def test_only_certificates_are_saved_beside_the_guests(place: NodePlace, tmp_path: Path) -> None:
    place.create_pki()
    folder = tmp_path / "golden"
    folder.mkdir()
    place.save(folder)
    assert [path.name for path in folder.iterdir()] == ["pki"]
    assert (folder / "pki/server-ca.key").is_file()
