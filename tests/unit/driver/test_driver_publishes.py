"""A real API server accepts what the driver publishes, with feature gates on and off, like the fake one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.inside import report_of

from mock_device.lab.build.gobuild import build_embedded_k8s

TIMEOUT_SECONDS = 90


def run(folder: Path, gates: str) -> dict[str, Any]:
    """Report of ``driver_publishes_inside.py`` with these feature gates."""
    return report_of("driver_publishes_inside.py", build_embedded_k8s(), folder, gates, timeout=TIMEOUT_SECONDS)


@pytest.fixture(scope="module")
def gates_on(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("on"), "DRAPartitionableDevices=true,DRADeviceTaints=true")


@pytest.fixture(scope="module")
def gates_off(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    # DeviceTaintRules require the feature gate of taints.
    gates = "DRAPartitionableDevices=false,DRADeviceTaintRules=false,DRADeviceTaints=false"
    return run(tmp_path_factory.mktemp("off"), gates)


@pytest.mark.slow
class TestGatesOn:
    def test_pf_and_vfs_share_counters(self, gates_on: dict[str, Any]) -> None:
        found = gates_on["vfs"]
        assert found["devices"] == ["mock0", "mock0-vf0", "mock0-vf1", "mock1"]
        assert (found["counters"], found["complete"], found["writes"]) == (1, True, [5, 0, 0])
        assert (found["fields"], found["left out"]) == ([], [])

    def test_taint_is_written_once(self, gates_on: dict[str, Any]) -> None:
        assert (gates_on["taint"]["writes"], gates_on["taint"]["fields"]) == ([1, 0, 0], [])

    def test_memory_in_another_unit_is_written_once(self, gates_on: dict[str, Any]) -> None:
        found = gates_on["memory"]
        assert (found["memory"], found["writes"], found["fields"]) == (["1Pi"], [1, 0, 0], [])

    def test_devices_beyond_the_limits_are_left_out(self, gates_on: dict[str, Any]) -> None:
        found = gates_on["limits"]
        assert (found["devices"], found["left out"]) == (["mock2"], ["mock0", "mock1"])

    def test_names_are_accepted(self, gates_on: dict[str, Any]) -> None:
        found = gates_on["names"]
        for length in (63, 64, 106, 224, 253):
            assert found[f"node of {length}"] == gates_on["vfs"]["devices"]
        accepted = {found["event at -"], found["event at ."], found["event on node"], found["field manager"]}
        assert accepted == {""}


@pytest.mark.slow
class TestGatesOff:
    def test_vfs_are_published_without_their_pf(self, gates_off: dict[str, Any]) -> None:
        found = gates_off["vfs"]
        assert found["devices"] == ["mock0-vf0", "mock0-vf1", "mock1"]
        assert (found["counters"], found["complete"], found["writes"][1:]) == (0, True, [0, 0])
        assert (found["fields"], found["left out"]) == (["spec.sharedCounters"], ["mock0"])

    def test_dropped_taint_is_written_once_and_named(self, gates_off: dict[str, Any]) -> None:
        found = gates_off["taint"]
        assert (found["writes"], found["fields"]) == ([1, 0, 0], ["spec.devices[0].taints"])
