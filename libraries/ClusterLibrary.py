"""Robot Framework library: the cluster that a suite runs on."""

from __future__ import annotations

import contextlib

from robot import result, running
from robot.api import SkipExecution, logger
from robot.api.deco import keyword, library
from robot.libraries.BuiltIn import BuiltIn

from mock_device.acceptance.pool_server import Membership
from mock_device.acceptance.suite_tags import runs_alone
from mock_device.checks.errors import CheckError
from mock_device.checks.health import health_complaints
from mock_device.checks.nodes import session
from mock_device.checks.nodes.node_shell import NodeShell
from mock_device.checks.nodes.session import Session
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import client
from mock_device.lab.cluster.client import NoTopologyError
from mock_device.topology.features import Feature


@library(scope="GLOBAL", auto_keywords=False, listener="SELF")
class ClusterLibrary:
    """Borrows a cluster for a suite, gives it back, and tells what its topology has."""

    ROBOT_LISTENER_API_VERSION = 3

    def __init__(self) -> None:
        self._membership: Membership | None = None
        self._value_set = ""
        self._replaces = ""
        self._alone = False

    def _start_suite(self, data: running.TestSuite, _: result.TestSuite) -> None:
        """Know what the suite needs before its setup borrows a cluster."""
        self._alone = runs_alone(data)

    def _start_test(self, data: running.TestCase, _: result.TestCase) -> None:
        """Let those who watch the cluster see which test runs."""
        if session.active():
            with contextlib.suppress(StepError):
                session.current().cluster.report_activity(
                    f"robot: {data.parent.name if data.parent else ''} / {data.name}"
                )

    @keyword
    def start_session(self, topology: str, *features: Feature) -> None:
        """Borrow a cluster and use it in all keywords until `End Session`.

        ``topology`` is a name in ``variables/topologies`` or the path of a file;
        empty, any that has all ``features`` will do. The cluster of ``lab up``
        serves if it fits; otherwise one is started, which ends with this
        process. The suite is skipped when the topology lacks a feature.
        """
        try:
            cluster = client.borrow(topology or None, features, f"robot: {_suite()}")
        except NoTopologyError as error:
            raise SkipExecution(str(error)) from error
        session.begin(Session(cluster, NodeShell))

    @keyword
    def join_pool(self, pool: str, *features: Feature) -> None:
        """Become a member of the run's pool of clusters, until `Leave Pool`.

        The suite is skipped when no cluster of the pool has all ``features``.
        """
        builtin = BuiltIn()
        caller, uri = builtin.get_variable_value("${CALLER_ID}"), builtin.get_variable_value("${PABOTLIBURI}")
        if not caller or not uri:
            raise CheckError("a pool needs pabot, which sets ${CALLER_ID} and ${PABOTLIBURI}; run: make acceptance")
        self._membership = Membership(pool, _suite(), caller, uri)
        if reason := self._membership.lacking(features):
            raise SkipExecution(reason)

    @keyword
    def start_session_on_value_set(self, value_set: str) -> None:
        """Borrow the cluster of an acquired value set, started if need be, and use it in all keywords.

        For a suite with the tag ``alone`` the clusters that no suite has end.
        """
        if self._membership is None:
            raise CheckError("no pool has been joined: use 'Borrow Cluster Of Pool'")
        name, self._replaces = self._membership.borrow(value_set, alone=self._alone)
        self._value_set = value_set
        session.begin(Session(client.attach(name, f"robot: {_suite()}"), NodeShell))

    @keyword
    def leave_pool(self) -> None:
        """End the membership of `Join Pool`, if there is one."""
        if self._membership:
            membership, self._membership = self._membership, None
            membership.leave()

    @keyword
    def end_session(self) -> None:
        """Close all connections and give the cluster back. Without a session, nothing happens.

        Looks first whether the cluster is healthy and all its devices are free.
        If it is not, log and report say so, and a cluster of a pool is retired.
        """
        if not session.active():
            return
        complaint = "; ".join(health_complaints(session.current().cluster))
        if complaint:
            BuiltIn().set_suite_metadata("Cluster left unhealthy", complaint)
            logger.warn(f"{_suite()} leaves cluster {session.current().cluster.name} unhealthy: {complaint}")
        session.end()
        if self._membership and self._value_set:
            self._value_set = ""
            self._membership.release(complaint)

    @keyword
    def show_cluster_in_report(self) -> None:
        """Say in log and report on which cluster the suite runs: as metadata of the suite, and as a tag of each test.

        For use in a suite's setup.
        """
        cluster = session.current().cluster
        builtin = BuiltIn()
        place = f", value set {self._value_set}" if self._value_set else ""
        builtin.set_suite_metadata("Cluster", f"{cluster.name} (topology {cluster.topology.name}{place})")
        builtin.set_suite_metadata("Cluster logs", str(cluster.log_dir))
        if self._replaces:
            builtin.set_suite_metadata("Cluster replaces", self._replaces)
        builtin.set_tags(f"cluster:{cluster.name}")
        logger.info(f"{cluster.topology.path}\nkubeconfig: {cluster.kubeconfig}")


def _suite() -> str:
    return str(BuiltIn().get_variable_value("${SUITE_NAME}"))
