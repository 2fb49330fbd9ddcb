"""Suites that borrow clusters over a socket, and die."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fake_lab import SETS, FakeLab

from mock_device.acceptance.pool import Pool
from mock_device.acceptance.pool_server import DIED, Membership, PoolServer, address
from mock_device.lab.base.errors import StepError
from mock_device.topology.features import Feature

BORROWER = """\
import sys
from mock_device.acceptance.pool_server import Membership
member = Membership(sys.argv[1], "victim", "caller-1", "uri")
print(member.borrow("dense-1"), flush=True)
input()
"""


class Served:
    """A served pool, and the borrowers whose value sets it released in pabot."""

    def __init__(self) -> None:
        self.lab = FakeLab()
        self.pool = Pool(SETS, 2, "c", self.lab.start, self.lab.stop)
        self.released: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.suites: int | None = None
        self.server = PoolServer(self.pool, self.released.put, lambda: self.suites)


def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scene: Callable[[Served], Any]) -> None:
    async def run() -> None:
        served = Served()
        await served.server.start()
        try:
            await scene(served)
        finally:
            served.server.close()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asyncio.run(asyncio.wait_for(run(), 30))


def test_member_borrows_and_releases(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def member() -> list[object]:
        one = Membership(address(), "suite", "caller", "uri")
        answers: list[object] = [one.lacking([Feature.DENSE]), one.lacking([Feature.DENSE, Feature.TWO_NODES])]
        answers.append(one.borrow("dense-1"))
        one.release("broken")
        answers.append(one.borrow("dense-1"))
        one.release("")
        one.leave()
        return answers

    async def scene(served: Served) -> None:
        fits, lacks, first, second = await asyncio.to_thread(member)
        assert fits == ""
        assert str(lacks).startswith("no cluster of this pool offers dense, two-nodes; it has ")
        assert first == ("c1", "")
        assert second == ("c2", "c1 (dense), which suite suite left unhealthy: broken")
        assert [cluster.name for cluster in served.lab.running] == ["c2"]
        assert served.released.empty()

    serve(monkeypatch, tmp_path, scene)


def test_idle_clusters_end_for_a_suite_that_runs_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def member(value_set: str, alone: bool) -> None:
        one = Membership(address(), "suite", "caller", "uri")
        one.borrow(value_set, alone=alone)
        one.release("")
        one.leave()

    async def scene(served: Served) -> None:
        for value_set, alone, running in (
            ("numa-cluster-1", False, ["c1"]),
            ("dense-1", False, ["c1", "c2"]),
            ("numa-cluster-1", True, ["c1"]),
        ):
            await asyncio.to_thread(member, value_set, alone)
            assert [cluster.name for cluster in served.lab.running] == running

    serve(monkeypatch, tmp_path, scene)


def test_idle_clusters_end_when_all_suites_have_a_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def join(name: str) -> Membership:
        return Membership(address(), name, f"caller-{name}", "uri")

    async def scene(served: Served) -> None:
        def members() -> None:
            skipped, first = join("skipped"), join("first")
            skipped.leave()
            first.borrow("numa-cluster-1")
            first.release("")
            first.leave()
            assert [cluster.name for cluster in served.lab.running] == ["c1"], "a later suite may need it"
            served.suites = 4
            second, last = join("second"), join("last")
            second.borrow("numa-cluster-1")
            last.borrow("dense-1")
            assert [cluster.name for cluster in served.lab.running] == ["c1", "c2"]
            second.release("")
            assert [cluster.name for cluster in served.lab.running] == ["c2"]
            last.release("")
            assert not served.lab.running

        await asyncio.to_thread(members)

    serve(monkeypatch, tmp_path, scene)


def test_idle_clusters_end_when_the_last_suite_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def scene(served: Served) -> None:
        def members() -> None:
            served.suites = 2
            first, skipped = (Membership(address(), name, f"caller-{name}", "uri") for name in ("first", "skipped"))
            first.borrow("numa-cluster-1")
            first.release("")
            first.leave()
            assert [cluster.name for cluster in served.lab.running] == ["c1"], "the other suite may need it"
            skipped.leave()
            assert served.lab.emptied.wait(10)

        await asyncio.to_thread(members)

    serve(monkeypatch, tmp_path, scene)


def test_cluster_and_value_set_of_a_killed_member_are_released(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def scene(served: Served) -> None:
        victim = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", BORROWER, address()), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert victim.stdout is not None
        assert await victim.stdout.readline() == b"('c1', '')\n"
        victim.kill()
        borrower = await served.released.get()
        assert (borrower["caller"], borrower["uri"]) == ("caller-1", "uri")
        assert not served.lab.running
        assert [(item.cluster, item.suite, item.reason) for item in served.pool.retired] == [("c1", "victim", DIED)]
        await victim.wait()

    serve(monkeypatch, tmp_path, scene)


def test_errors_of_the_pool_reach_the_member(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def member() -> None:
        one = Membership(address(), "suite", "caller", "uri")
        with pytest.raises(StepError, match="the pool of clusters: no value set 'huge'"):
            one.borrow("huge")
        one.leave()

    async def scene(served: Served) -> None:
        await asyncio.to_thread(member)
        assert served.released.empty()

    serve(monkeypatch, tmp_path, scene)


def test_member_of_a_finished_run_gets_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(StepError, match="the pool of clusters is not running; the run .* is over"):
        Membership(address(), "suite", "caller", "uri")
