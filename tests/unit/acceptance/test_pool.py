"""Which suite gets which cluster of a pool, and when clusters start and end."""

from __future__ import annotations

import asyncio
import configparser
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support.fake_lab import SETS, FakeLab

from mock_device.acceptance.pool import Pool, ValueSet, lacking, resource_file
from mock_device.lab.base.errors import StepError
from mock_device.topology.features import Feature


def play(scene: Callable[[Pool, FakeLab], Coroutine[Any, Any, None]], capacity: int = 2) -> FakeLab:
    async def run() -> None:
        await scene(Pool(SETS, capacity, "c", lab.start, lab.stop), lab)

    lab = FakeLab()
    asyncio.run(asyncio.wait_for(run(), 20))
    return lab


def test_value_sets_offer_what_their_topology_has() -> None:
    assert [str(item) for item in SETS] == [
        "numa-cluster-1 (numa, sriov, two-nodes)",
        "numa-cluster-2 (numa, sriov, two-nodes)",
        "dense-1 (dense, numa)",
    ]


def test_resource_file_has_a_distinct_section_per_value_set() -> None:
    config = configparser.ConfigParser()
    config.read_string(resource_file(SETS))
    assert config.sections() == [item.name for item in SETS]
    assert len({tuple(config[name].items()) for name in config.sections()}) == len(SETS)
    assert config["dense-1"]["tags"] == "dense, numa"


def test_missing_features_are_reported() -> None:
    assert lacking(SETS, [Feature.NUMA, Feature.SRIOV]) == ""
    assert lacking(SETS, []) == ""
    found = lacking(SETS, [Feature.DENSE, Feature.SRIOV])
    assert found.startswith("no cluster of this pool offers dense, sriov; it has numa-cluster-1 (")


def test_cluster_starts_when_borrowed_and_is_reused() -> None:
    async def scene(pool: Pool, lab: FakeLab) -> None:
        assert not lab.running
        assert await pool.borrow("numa-cluster-1", "a") == ("c1", None)
        await pool.release("numa-cluster-1")
        assert await pool.borrow("numa-cluster-1", "b") == ("c1", None)
        assert pool.state() == {"numa-cluster-1": "b", "numa-cluster-2": "", "dense-1": ""}

    play(scene)


def test_idle_cluster_ends_for_a_cluster_of_another_value_set() -> None:
    async def scene(pool: Pool, lab: FakeLab) -> None:
        await pool.borrow("numa-cluster-1", "a")
        await pool.borrow("numa-cluster-2", "b")
        await pool.release("numa-cluster-2")
        await pool.release("numa-cluster-1")
        assert await pool.borrow("dense-1", "c") == ("c3", None)
        assert [cluster.name for cluster in lab.running] == ["c1", "c3"]

    assert play(scene).most == 2


def test_capacity_is_not_exceeded() -> None:
    async def scene(pool: Pool, _: FakeLab) -> None:
        await pool.borrow("numa-cluster-1", "a")
        with pytest.raises(StepError, match="1 clusters are already borrowed"):
            await pool.borrow("dense-1", "b")
        await pool.release("numa-cluster-1")
        assert (await pool.borrow("dense-1", "b"))[0] == "c3"

    assert play(scene, capacity=1).most == 1


def test_unhealthy_cluster_is_retired_and_the_next_suite_informed() -> None:
    async def scene(pool: Pool, lab: FakeLab) -> None:
        await pool.borrow("numa-cluster-1", "a")
        await pool.release("numa-cluster-1", "node2 is not Ready")
        assert not lab.running
        (retired,) = pool.retired
        assert str(retired) == "c1 (numa-cluster), which suite a left unhealthy: node2 is not Ready"
        assert await pool.borrow("numa-cluster-1", "b") == ("c2", retired)
        await pool.release("numa-cluster-1")
        assert await pool.borrow("numa-cluster-1", "c") == ("c2", None)

    play(scene)


def test_cluster_that_died_while_idle_is_replaced() -> None:
    async def scene(pool: Pool, lab: FakeLab) -> None:
        await pool.borrow("numa-cluster-1", "a")
        await pool.release("numa-cluster-1")
        lab.running[0].is_alive = False
        name, replaces = await pool.borrow("numa-cluster-1", "b")
        assert name == "c2"
        assert replaces is not None
        assert "its supervisor is gone" in replaces.reason

    play(scene)


def test_failed_start_leaves_the_value_set_free() -> None:
    async def scene(pool: Pool, lab: FakeLab) -> None:
        lab.fails = True
        with pytest.raises(StepError, match="it does not start"):
            await pool.borrow("dense-1", "a")
        lab.fails = False
        assert (await pool.borrow("dense-1", "b"))[0] == "c2"

    play(scene)


def test_borrowed_and_unknown_value_sets_are_refused() -> None:
    async def scene(pool: Pool, _: FakeLab) -> None:
        await pool.borrow("dense-1", "a")
        with pytest.raises(StepError, match="dense-1 is already borrowed by suite a"):
            await pool.borrow("dense-1", "b")
        with pytest.raises(StepError, match="no value set 'huge'; the pool has numa-cluster-1"):
            await pool.borrow("huge", "b")

    play(scene)


def test_starting_cluster_of_a_dead_suite_goes_to_the_next_suite() -> None:
    async def scene(pool: Pool, lab: FakeLab) -> None:
        lab.go.clear()
        borrowing = asyncio.create_task(pool.borrow("dense-1", "a"))
        await asyncio.sleep(0)
        borrowing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await borrowing
        lab.go.set()
        assert (await pool.borrow("dense-1", "b"))[0] == "c1"

    assert play(scene).most == 1


def test_close_ends_running_and_starting_clusters() -> None:
    async def scene(pool: Pool, lab: FakeLab) -> None:
        await pool.borrow("numa-cluster-1", "a")
        lab.go.clear()
        borrowing = asyncio.create_task(pool.borrow("dense-1", "b"))
        while not pool._places["dense-1"].starting:
            await asyncio.sleep(0)
        await pool.close()
        assert not lab.running
        assert lab.stopped == ["c2"]
        with pytest.raises(StepError):
            await borrowing

    play(scene)


def test_names_of_value_sets_are_unique() -> None:
    assert len({item.name for item in SETS}) == len(SETS)
    assert isinstance(SETS[0], ValueSet)


def test_cluster_that_does_not_end_is_named_at_the_end() -> None:
    async def scene(pool: Pool, lab: FakeLab) -> None:
        await pool.borrow("numa-cluster-1", "a")
        await pool.borrow("dense-1", "b")
        lab.running[0].refuses = True
        assert await pool.close() == ["cluster 'c1' has not ended after 30 s"]
        assert [cluster.name for cluster in lab.running] == ["c1"]

    play(scene)
