"""A control plane on the first node."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_supervisor import SPEC
from support.topologies import CLUSTER

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.spec import Access, ClusterPaths, K3sSpec
from mock_device.lab.controlplane.controlplane import Readiness
from mock_device.lab.supervisor import node_place
from mock_device.lab.supervisor.node_place import NodePlace

NAME = CLUSTER.nodes[0].name


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodePlace:
    monkeypatch.setattr(node_place, "_POLL_SECONDS", 0.01)
    return NodePlace(replace(SPEC, directory=str(tmp_path)), K3sSpec({}, {}, ""), CLUSTER)


def test_cluster_is_restored_when_the_api_server_answers(place: NodePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["connection refused", "not yet", ""]
    asked = []

    def probe(readiness: Readiness) -> str:
        asked.append(readiness.url)
        return answers.pop(0)

    monkeypatch.setattr(Readiness, "probe", probe)
    asyncio.run(place.resumed())
    assert asked == [f"https://{CLUSTER.nodes[0].address}:6443/readyz"] * 3


@pytest.fixture
def silent(place: NodePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodePlace:
    """A place whose API server does not answer."""
    monkeypatch.setattr(Readiness, "probe", lambda _: "connection refused")
    monkeypatch.setattr(node_place, "_RESUME_TIMEOUT_SECONDS", 0.0)
    place.create_pki()
    Access(16443, {node.name: 2201 for node in CLUSTER.nodes}, 5001).save(ClusterPaths(tmp_path).access)
    ClusterPaths(tmp_path).logs.mkdir()
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
    asyncio.run(place.end())
    place.save(folder)
    assert [path.name for path in folder.iterdir()] == ["pki"]
    assert (folder / "pki/server-ca.key").is_file()
