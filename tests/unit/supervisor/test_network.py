"""The cluster's network without guests: frames reach the right guests, in the form that their cards expect."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.inside import report_of

from mock_device.lab.base.paths import PROJECT
from mock_device.lab.supervisor.network import BRIDGE_MAC

TIMEOUT_SECONDS = 60


@pytest.mark.slow
def test_frames_reach_the_right_guests(tmp_path: Path) -> None:
    topology = PROJECT / "variables/topologies/numa-cluster.yaml"
    assert report_of("network_inside.py", topology, tmp_path, timeout=TIMEOUT_SECONDS) == {
        # One answer only: no other device of the host answers for the bridge.
        "says who it is": [BRIDGE_MAC],
        "others hear the question": 1,
        "frames arrive in order": True,
        "frames in pieces arrive whole": True,
        "checksum of this machine's packets": "0xffff",
    }
