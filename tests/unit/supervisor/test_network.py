"""The cluster's network without guests: frames reach the right guests, in the form that their cards expect."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import SUPPORT

from mock_device.lab.base import namespaces
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.supervisor.network import BRIDGE_MAC

TIMEOUT_SECONDS = 60


@pytest.mark.slow
def test_frames_reach_the_right_guests(tmp_path: Path) -> None:
    if forbidden := namespaces.forbidden():
        pytest.skip(f"namespaces are not available here: {forbidden.found}")
    inside = SUPPORT / "network_inside.py"
    topology = PROJECT / "variables/topologies/numa-cluster.yaml"
    run = subprocess.run(
        [*namespaces.unshare(), sys.executable, str(inside), str(topology), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        # One answer only: no other device of the host answers for the bridge.
        "says who it is": [BRIDGE_MAC],
        "others hear the question": 1,
        "frames arrive in order": True,
        "frames in pieces arrive whole": True,
        "checksum of this machine's packets": "0xffff",
    }
