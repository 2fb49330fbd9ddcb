"""The key ``window`` of a topology."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.schema_check import objections

from mock_device import topology
from mock_device.topology import schema

TEXT = """\
nodes:
  - name: node1
    address: 192.168.122.211
    numa:
      - node: 0
        memory: 1G
        cpus: 1
        bus: 0x10
        slots:
          - functions:
              - {uuid: PF, memory: 16G, window: 64K}
              - {uuid: VF, memory: 2G, vf: true}
          - functions:
              - {uuid: PF1, memory: 16G}
"""


def load(tmp_path: Path, text: str) -> topology.Topology:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    return topology.load(path)


def test_vfs_have_the_window_of_their_pf(tmp_path: Path) -> None:
    found = {function.name: function.window for function in load(tmp_path, TEXT).nodes[0].functions}
    assert found == {"mock0": 64 << 10, "mock0_vf0": 64 << 10, "mock1": 1 << 20}
    assert objections(schema.PATH, TEXT) == []


@pytest.mark.parametrize(("text", "size"), [("4K", 4 << 10), ("16M", 16 << 20), ("16MiB", 16 << 20), ("4096", 4096)])
def test_smallest_and_largest_window(tmp_path: Path, text: str, size: int) -> None:
    assert load(tmp_path, TEXT.replace("64K", text)).nodes[0].functions[0].window == size


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("3M", "mock0: window must be a power of two from 4K to 16M, found '3M'"),
        ("32M", "mock0: window must be a power of two from 4K to 16M, found '32M'"),
        ("2048", "mock0: window must be a power of two from 4K to 16M, found 2048"),
        ("big", "mock0: window: expected a size such as 16G or 512M, found 'big'"),
        ("0", "mock0: window: expected a size such as 16G or 512M, found '0'"),
    ],
)
def test_bad_window_is_refused_with_its_line(tmp_path: Path, value: str, reason: str) -> None:
    with pytest.raises(topology.TopologyError) as caught:
        load(tmp_path, TEXT.replace("64K", value))
    assert str(caught.value) == f"{tmp_path}/t.yaml:11: {reason}"


@pytest.mark.parametrize("value", ["big", "0", "[]"])
def test_schema_refuses_what_is_no_size(value: str) -> None:
    assert objections(schema.PATH, TEXT.replace("64K", value))


def test_window_of_a_vf_is_refused(tmp_path: Path) -> None:
    with pytest.raises(topology.TopologyError) as caught:
        load(tmp_path, TEXT.replace("vf: true", "vf: true, window: 64K"))
    reason = "window is a key of a PF; its VFs have the same window"
    assert str(caught.value).startswith(f"{tmp_path}/t.yaml:12: ") and str(caught.value).endswith(reason)
