"""An ordinary user can run a cluster. Needed if tests run as root, as in CI; otherwise all tests show it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import PYTHONPATH, SUPPORT

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(400)]

NAMESPACES = [
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "--pid",
    "--fork",
    "--kill-child=SIGKILL",
    "--mount-proc",
]
TIMEOUT_SECONDS = 300


@pytest.mark.skipif(os.geteuid() != 0, reason="all tests run as an ordinary user already")
def test_ordinary_user_has_a_cluster_and_leaves_nothing(miswired: Path, tmp_path: Path) -> None:
    inside = SUPPORT / "ordinary_user_inside.py"
    argv = [*NAMESPACES, sys.executable, str(inside), str(miswired), str(tmp_path)]
    run = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads(run.stdout)
    status = report["status"]
    assert status["state"] == "running"
    (node,) = status["nodes"]
    assert (node["guest"], node["ready"], node["module"]) == ("running", "True", True)
    assert len(node["devices"]) == node["expected_devices"] == status["slices"]
    assert all(pod["ready"] for pod in status["pods"])
    assert status["complaints"] == [
        "miswired-node mock2 (0000:21:00.0): expected NUMA node 1 by topology miswired, sysfs says 0"
    ]
    assert report["supervisor's user"] == "nobody"
    assert report["user on a node"] == "root\n"
    assert report["nodes"] == f"node/{node['name']}\n"
    assert report["left"] == []
    kept = {"logs", "pki", "kubeconfig", "device-key", "drivers.json", "sockets", "spec.json", "topology.yaml"}
    assert set(report["files left"]) <= kept
