"""Shell completion, and types of shared options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import pytest
from support.fake_supervisor import FakeSupervisor
from support.topologies import CLUSTER

from mock_device.commands import cli, options
from mock_device.lab.base.spec import ClusterPaths
from mock_device.lab.base.variables import profile_names, topology_names

Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Complete:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def completions(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("_LAB_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        assert cli.main([]) == 0
        return [line.partition(",")[2] for line in capsys.readouterr().out.splitlines() if line]

    return completions


def test_commands_topologies_and_profiles_are_completed(complete: Complete) -> None:
    assert complete("lab cl") == ["clusters"]
    assert complete("lab up --topology ") == topology_names()
    assert complete("lab up --topology numa-c") == ["numa-cluster"]
    assert complete("lab up --topology ./mine") == ["./mine"]
    assert complete("lab up --profile ") == profile_names()
    assert complete("lab build no") == ["node-image"]
    assert complete("lab cache pr") == ["prune"]


def test_running_clusters_and_their_nodes_are_completed(complete: Complete) -> None:
    assert complete("lab ssh --name some ") == []
    fake = FakeSupervisor("some")
    try:
        paths = ClusterPaths.of("some")
        paths.root.mkdir(parents=True)
        paths.topology.write_text(CLUSTER.text)
        nodes = [node.name for node in CLUSTER.nodes]
        assert complete("lab down --name so") == ["some"]
        assert complete("lab ssh --name some ") == nodes
        assert complete(f"lab slices --name some --node {nodes[1]}") == [nodes[1]]
        devices = [function.name for function in CLUSTER.nodes[1].functions]
        assert complete(f"lab devices --name some {nodes[1]} ") == devices
        assert complete(f"lab fault --name some {nodes[1]} mock1") == [name for name in devices if "mock1" in name]
        assert complete("lab fault --name some node9 ") == []
        assert complete(f"lab fault --name some {nodes[1]} mock1 aer") == ["aer-correctable", "aer-fatal"]
        paths.topology.write_text("nodes: 7")
        assert complete("lab devices --name some ") == []
    finally:
        fake.end()


def test_number_must_be_in_its_range() -> None:
    assert (options.number(1)("300"), options.number(1, 8)(8)) == (300, 8)
    for text, convert in (("0", options.number(1)), ("9", options.number(1, 8)), ("x", options.number(1))):
        with pytest.raises(click.BadParameter, match=rf"expected a number from 1( to 8)?, found '{text}'"):
            convert(text)
