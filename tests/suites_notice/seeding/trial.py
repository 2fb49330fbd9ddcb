"""Seeds one fault, runs the tests that must notice it, and judges them."""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from pathlib import Path

from kubernetes.client import ApiException
from suites_notice.seeding.catalogue import Fault, Verdict, judge
from suites_notice.seeding.seeder import Seeder
from support import DATA
from support.suite_run import run_suite

from mock_device.checks.errors import CheckError
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster.cluster import Cluster

TOPOLOGIES = DATA / "topologies"


def try_fault(fault: Fault, cluster: Cluster, folder: Path) -> Verdict:
    """Seed ``fault`` into ``cluster``, run its tests there, and remove it again.

    ``folder`` is that of ``Seeder``. After a fault that could not be seeded or
    removed there is no verdict, and the cluster must not be used any more.
    """
    options = [part for test in fault.tests for part in ("--test", test)]
    variables = {"LAB_CLUSTER": cluster.name}
    if fault.kind == "topology":
        # The suite starts a cluster of its own.
        options += ["--variable", f"TOPOLOGY:{TOPOLOGIES / fault.change}.yaml"]
    seeder = Seeder(cluster.name, folder)
    try:
        with nullcontext() if fault.kind == "topology" else seeder.seeded(fault):
            verdict = judge(fault, run_suite(fault.suite, fault.name, *options, variables=variables))
        seeder.wait_healthy()
    except (CheckError, StepError, ApiException, OSError, subprocess.SubprocessError, AssertionError) as error:
        return Verdict(fault, "no verdict", str(error))
    finally:
        seeder.close()
    return verdict
