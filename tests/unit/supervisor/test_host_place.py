"""The control plane on this machine: its upgrade."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_supervisor import SPEC
from support.topologies import CLUSTER

from mock_device.lab.controlplane.components import Component, Readiness
from mock_device.lab.supervisor import host_place
from mock_device.lab.supervisor.host_place import HostPlace

READY = Readiness("https://127.0.0.1:1", None, 1.0)


class Plane:
    """A fake control plane: its components are the words that describe it."""

    made: list[tuple[str, str, str, str]] = []  # noqa: RUF012 - emptied by each test

    def __init__(
        self, binaries: Path, data: Path, pki: Any, gates: str, proxy_node: str, internet: bool, served: str
    ) -> None:
        assert not internet
        self.made.append((str(binaries), gates, served, proxy_node))
        self._binaries = binaries

    def prepare(self) -> None: ...

    def components(self) -> list[Component]:
        def component(name: str, *after: str, needed: bool = True) -> Component:
            return Component(name, [str(self._binaries / name)], READY, after, needed_by_nodes=needed)

        late = component("kube-proxy", "kube-apiserver", needed=False)
        return [component("etcd"), component("kube-apiserver", "etcd"), late]


class Children:
    """Processes that start and end at once, and what happened to them in order."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def start(self, name: str, argv: Sequence[str], *, cwd: Path, env: Any) -> None:
        self.done.append(f"start {argv[0]}")

    async def end(self, name: str, number: int) -> None:
        self.done.append(f"end {name} {signal.Signals(number).name}")

    def __getitem__(self, name: str) -> str:
        return name


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Children:
    children = Children()

    async def ready(component: Component, child: Any) -> None:
        assert child == component.name
        children.done.append(f"{child} is ready")

    monkeypatch.setattr(Plane, "made", [])
    monkeypatch.setattr(host_place, "ControlPlane", Plane)
    monkeypatch.setattr(host_place, "wait_ready", ready)
    monkeypatch.setattr(host_place, "bootstrap", lambda pki, *, dns: children.done.append("first objects"))
    return children


def test_upgrade_starts_the_new_programs_on_the_data_of_the_old_ones(children: Children, tmp_path: Path) -> None:
    old = replace(SPEC, directory=str(tmp_path), binaries="/old", feature_gates="A=true")
    new = replace(old, binaries="/new", feature_gates="B=true", runtime_config="some/v1=true")
    processes: Any = children
    place = HostPlace(old, CLUSTER, processes)

    async def work() -> None:
        await place.start()
        await place.complete()
        children.done.append("upgrade")
        await place.upgrade(new)

    asyncio.run(work())
    before, after = children.done[: children.done.index("upgrade")], children.done[children.done.index("upgrade") + 1 :]
    assert "first objects" in before
    assert after == [
        "end kube-proxy SIGKILL",
        "end kube-apiserver SIGKILL",
        "end etcd SIGTERM",
        "start /new/etcd",
        "etcd is ready",
        "start /new/kube-apiserver",
        "kube-apiserver is ready",
        "start /new/kube-proxy",
        "kube-proxy is ready",
    ]
    assert Plane.made[1] == ("/new", "B=true", "some/v1=true", CLUSTER.nodes[0].name)
    assert Plane.made[0][:3] == ("/old", "A=true", "")
