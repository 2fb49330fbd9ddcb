"""Seeds one fault, runs the tests that must notice it, and judges them."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path

from kubernetes.client import ApiException
from suites_notice.seeding.catalogue import Fault, Verdict, judge
from suites_notice.seeding.red_run import RedRun
from suites_notice.seeding.seeder import Seeder
from support import DATA

from mock_device.checks.errors import CheckError
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster.cluster import Cluster

TOPOLOGIES = DATA / "topologies"


class Trial:
    """One fault, tried on one cluster."""

    def __init__(self, fault: Fault, cluster: Cluster, folder: Path) -> None:
        """``folder`` is that of ``Seeder``."""
        self._fault = fault
        self._cluster = cluster
        self._folder = folder
        self._run: RedRun | None = None
        self._cancelled = False

    def verdict(self) -> Verdict:
        """Seed the fault, run its tests, and remove it; the teardown of the failed test runs after that.

        After a fault that could not be seeded or removed there is no verdict,
        and the cluster must not be used any more.
        """
        seeder = Seeder(self._cluster.name, self._folder)
        try:
            return self._try(seeder)
        except (CheckError, StepError, ApiException, OSError, subprocess.SubprocessError, AssertionError) as error:
            return Verdict(self._fault, "no verdict", str(error))
        finally:
            seeder.close()

    def _try(self, seeder: Seeder) -> Verdict:
        # A suite with a topology of the fault starts a cluster of its own.
        elsewhere = self._fault.kind == "topology"
        with ExitStack() as stack:
            with nullcontext() if elsewhere else seeder.seeded(self._fault):
                run = stack.enter_context(closing(self._start(elsewhere)))
                run.wait_red()
            verdict = judge(self._fault, run.finish())
        seeder.wait_healthy()
        return verdict

    def _start(self, elsewhere: bool) -> RedRun:
        options = [part for test in self._fault.tests for part in ("--test", test)]
        if elsewhere:
            options += ["--variable", f"TOPOLOGY:{TOPOLOGIES / self._fault.change}.yaml"]
        variables = {"LAB_CLUSTER": self._cluster.name}
        self._run = RedRun(self._fault.suite, self._fault.name, *options, variables=variables)
        if self._cancelled:
            self._run.kill()
        return self._run

    def cancel(self) -> None:
        """End the tests at once, from another thread; the cluster must not be used any more."""
        self._cancelled = True
        if self._run:
            self._run.kill()
