"""Robot Framework library: the cluster that a suite runs on."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import timedelta

from robot import result, running
from robot.api import SkipExecution, logger
from robot.api.deco import keyword, library
from robot.libraries.BuiltIn import BuiltIn
from robot.utils import timestr_to_secs

from mock_device.acceptance.pool_server import Membership
from mock_device.acceptance.suite_tags import needed, needed_of_kubernetes, runs_alone
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import session
from mock_device.checks.nodes.node_shell import NodeShell
from mock_device.checks.nodes.session import Session
from mock_device.checks.objects.pod_claims import EXTENDED_RESOURCE_PREFIX
from mock_device.checks.waiting import until_no_complaints
from mock_device.diagnosis import health
from mock_device.driver import current
from mock_device.driver.description import Driver, MissingOfferError
from mock_device.lab.base import timeouts
from mock_device.lab.base.defaults import DEFAULT_PROFILE
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster import client
from mock_device.lab.cluster.client import NoTopologyError
from mock_device.lab.cluster.cluster import Cluster, MissingCapabilityError
from mock_device.lab.kube import features
from mock_device.lab.kube.features import MissingFeatureError
from mock_device.topology.features import Feature


@library(scope="GLOBAL", auto_keywords=False, listener="SELF")
class ClusterLibrary:
    """Borrows a cluster for a suite, and returns it."""

    ROBOT_LISTENER_API_VERSION = 3

    def __init__(self) -> None:
        self._membership: Membership | None = None
        self._value_set = ""
        self._replaces = ""
        self._alone = False
        self._test_timeouts: list[tuple[running.TestCase, str]] = []

    def _start_suite(self, data: running.TestSuite, _: result.TestSuite) -> None:
        """Note whether the suite runs alone, and the time-outs of its tests, before its setup borrows a cluster."""
        self._alone = runs_alone(data)
        self._test_timeouts = [(test, test.timeout) for test in data.tests if test.timeout]

    def _start_test(self, data: running.TestCase, _: result.TestCase) -> None:
        """Skip a test that needs what the cluster lacks; show others to those who watch the cluster."""
        if session.active():
            _skip_without_what_it_needs(data)
            with contextlib.suppress(StepError):
                session.current().cluster.report_activity(
                    f"robot: {data.parent.name if data.parent else ''} / {data.name}"
                )

    @keyword
    def start_session(self, topology: str, *features: Feature) -> None:
        """Borrow a cluster and use it in all keywords until `End Session`.

        ``topology`` is a name in ``variables/topologies`` or the path of a file; if
        empty, any topology with all ``features``. Uses the cluster of ``lab up`` if
        that fits; otherwise it starts one by ``${PROFILE}``, which ends with this
        process. If ``${PROFILE}`` describes a cluster that exists, it is that one,
        which must be attached. Skips the suite when the topology lacks a feature.

        ``${DRIVER}`` names the DRA driver, of ``variables/drivers`` or by the path of a
        file; if empty, the cluster's own. Sets ``${DRIVER_NAME}``, and by meanings such as
        ``numa_node`` the dictionaries ``&{ATTRIBUTE}`` with names of the driver's
        attributes, ``&{CEL}`` with expressions of them and of capacities, and
        ``&{DEVICE_CLASS}`` with its DeviceClasses. ``&{EXTENDED_RESOURCE}`` has the names of
        extended resources that the classes give, and ``by_class`` that of the class of PFs;
        ``${AGENT_WORKLOAD}`` is the DaemonSet of its node agents.
        """
        builtin = BuiltIn()
        profile = str(builtin.get_variable_value("${PROFILE}") or DEFAULT_PROFILE)
        driver = builtin.get_variable_value("${DRIVER}") or None
        try:
            cluster = client.borrow(topology or None, features, f"robot: {_suite()}", profile, driver)
        except NoTopologyError as error:
            raise SkipExecution(str(error)) from error
        self._begin(cluster)

    @keyword
    def join_pool(self, pool: str, *features: Feature) -> None:
        """Become a member of the run's pool of clusters, until `Leave Pool`.

        Skips the suite when no cluster of the pool has all ``features``.
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
        """Borrow the cluster of an acquired value set, and use it in all keywords. Starts it if necessary.

        For a suite with the tag ``alone``, clusters that no suite uses end first.
        """
        if self._membership is None:
            raise CheckError("no pool has been joined: use 'Borrow Cluster Of Pool'")
        name, self._replaces = self._membership.borrow(value_set, alone=self._alone)
        self._value_set = value_set
        self._begin(client.attach(name, f"robot: {_suite()}"))

    def _begin(self, cluster: Cluster) -> None:
        """Use ``cluster`` in all keywords. Its profile may make all time-outs longer, also those of the tests."""
        session.begin(Session(cluster, NodeShell))
        _set_names_of_driver(current.driver())
        for test, nominal in self._test_timeouts:
            test.timeout = _multiplied(nominal)

    @keyword
    def leave_pool(self) -> None:
        """End the membership of `Join Pool`, if there is one."""
        if self._membership:
            membership, self._membership = self._membership, None
            membership.leave()

    @keyword
    def end_session(self) -> None:
        """Close all connections and return the cluster. Does nothing without a session.

        Before, it checks the cluster's health, and that all devices are free. Log
        and report show the complaints; with complaints, a pool retires the cluster.
        """
        if not session.active():
            return
        complaint = "; ".join(health.complaints_of(session.current(), all_free=True))
        if complaint:
            BuiltIn().set_suite_metadata("Cluster left unhealthy", complaint)
            logger.warn(f"{_suite()} leaves cluster {session.current().cluster.name} unhealthy: {complaint}")
        session.end()
        if self._membership and self._value_set:
            self._value_set = ""
            self._membership.release(complaint)

    @keyword
    def show_cluster_in_report(self) -> None:
        """Show the suite's cluster in log and report: as metadata of the suite, and as a tag of each test.

        For a suite's setup.
        """
        cluster = session.current().cluster
        builtin = BuiltIn()
        place = f", value set {self._value_set}" if self._value_set else ""
        builtin.set_suite_metadata("Cluster", f"{cluster.name} (topology {cluster.topology.name}{place})")
        builtin.set_suite_metadata("Cluster logs", str(cluster.log_dir))
        builtin.set_suite_metadata("Driver", current.driver().name)
        if self._replaces:
            builtin.set_suite_metadata("Cluster replaces", self._replaces)
        builtin.set_tags(f"cluster:{cluster.name}")
        logger.info(f"{cluster.topology.path}\nkubeconfig: {cluster.kubeconfig}")

    @keyword(tags=["wait"])
    def cluster_should_be_healthy(self, timeout: timedelta = Timeout.HEALTHY.nominal) -> None:
        """Wait until the cluster is healthy, as `lab status` judges it; fails with all that is wrong.

        Guests, nodes, kernel module, driver pods, and every device of the
        topology in sysfs and in the ResourceSlices.
        """
        found = session.current()
        until_no_complaints(lambda: health.complaints_of(found), timeout, "the cluster is not healthy")


def _set_names_of_driver(driver: Driver) -> None:
    """Set suite variables with the names by which the suites use the driver."""
    builtin = BuiltIn()
    builtin.set_suite_variable("${DRIVER_NAME}", driver.name)
    builtin.set_suite_variable("&{ATTRIBUTE}", *_by_meaning(driver.attributes))
    builtin.set_suite_variable("&{CEL}", *_by_meaning(driver.cel))
    classes = {"pf": driver.device_class("pf"), **driver.device_classes}
    builtin.set_suite_variable("&{DEVICE_CLASS}", *_by_meaning(classes))
    resources = {"by-class": f"{EXTENDED_RESOURCE_PREFIX}{classes['pf']}", **driver.extended_resources}
    builtin.set_suite_variable("&{EXTENDED_RESOURCE}", *_by_meaning(resources))
    builtin.set_suite_variable("${AGENT_WORKLOAD}", driver.node_agent.workload)


def _by_meaning(names: Mapping[str, str]) -> list[str]:
    """Items of a dictionary variable: ``numa_node=...``."""
    return [f"{meaning.replace('-', '_')}={name}" for meaning, name in names.items()]


def _skip_without_what_it_needs(test: running.TestCase) -> None:
    """Replace the steps of ``test`` by a skip with the reason if its cluster or its driver lacks what it needs."""
    used = session.current()
    try:
        needs = needed(test.tags)
        used.cluster.check_offers(needs.capabilities)
        current.driver().check_offers(needs.offers)
        if wanted := needed_of_kubernetes(test.tags):
            features.check(used.kubernetes, wanted)
    except StepError as error:
        skips = isinstance(error, MissingCapabilityError | MissingFeatureError | MissingOfferError)
        reason, step = str(error), "Skip" if skips else "Fail"
    else:
        return
    test.setup = test.teardown = None
    test.body.clear()
    test.body.create_keyword(step, args=[reason])


def _multiplied(timeout: str) -> str:
    """Time-out of a test as wall time, from what its suite says."""
    if timeouts.factor() == 1:
        return timeout
    nominal = timedelta(seconds=timestr_to_secs(BuiltIn().replace_variables(timeout)))
    return f"{timeouts.seconds(nominal):.0f}s"


def _suite() -> str:
    return str(BuiltIn().get_variable_value("${SUITE_NAME}"))
