"""Runs some of Kubernetes' own tests of DRA on a real control plane whose nodes are objects only.

Arguments: folder of the control plane's programs, folder of the tests' programs, folder for files, regular expression
on the names of the tests. The last line of the output is JSON: ``problem`` of the run, ``said`` (its progress), and
``tests``, the state of each test that ran, by name.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from kubernetes.client import ApiClient

from mock_device.acceptance import ginkgo_report, kubernetes_e2e
from mock_device.acceptance.ginkgo_report import State
from mock_device.lab.base import progress
from mock_device.lab.controlplane.pki import Identity
from support.scheduler_inside import add_nodes, on_control_plane

SECONDS = 120.0


def run(programs: Path, folder: Path, focus: str, admin: Identity) -> dict[str, Any]:
    add_nodes(admin)
    results = folder / "results"
    results.mkdir()
    said: list[str] = []
    argv = kubernetes_e2e.suite_command(
        programs, results, folder / "kubeconfig", [f"--focus={focus}"], processes=2, minutes=SECONDS / 60
    )
    with patch.object(progress, "say", said.append):
        problem = kubernetes_e2e.run_suite(argv, results, 2 * SECONDS)
    report = ginkgo_report.read(results / kubernetes_e2e.REPORT)
    return {
        "problem": "; ".join([*report.problems, problem]).strip("; "),
        "said": said,
        "junit": (results / "junit.xml").is_file(),
        "tests": {
            test.name: f"{test.state} {test.message}"[:300] for test in report.tests if test.state != State.NOT_RUN
        },
    }


def main(binaries: Path, programs: Path, folder: Path, focus: str) -> None:
    def work(_: ApiClient, admin: Identity) -> dict[str, Any]:
        return run(programs, folder, focus, admin)

    print(json.dumps(asyncio.run(on_control_plane(binaries, folder, work))))


if __name__ == "__main__":
    _, binaries, programs, folder, focus = sys.argv
    main(Path(binaries), Path(programs), Path(folder), focus)
