"""Robot Framework library: the cluster that a suite runs on."""

from __future__ import annotations

from lab import client
from lab.status import as_text
from node_shell import NodeShell
from robot.api import SkipExecution, logger
from robot.api.deco import keyword, library
from robot.libraries.BuiltIn import BuiltIn
from scenario import CheckError, session
from scenario.features import Feature, missing
from scenario.session import Session
from topology import Topology


@library(scope="GLOBAL", auto_keywords=False)
class ClusterLibrary:
    """Borrows a cluster for a suite, gives it back, and tells what its topology has."""

    @keyword
    def start_session(self, topology: str, *features: Feature) -> None:
        """Borrow a cluster with ``topology`` and use it in all keywords until `End Session`.

        ``topology`` is a name in ``variables/topologies`` or the path of a file.
        The cluster of ``lab up`` serves if it has that topology; otherwise one is
        started, which ends with this process. A suite whose ``features`` the
        topology lacks is skipped.
        """
        cluster = client.borrow(topology)
        if lacking := missing(cluster.topology, features):
            cluster.release()
            raise SkipExecution(f"no {', '.join(lacking)} in topology {cluster.topology.name}")
        session.begin(Session(cluster, NodeShell))

    @keyword
    def end_session(self) -> None:
        """Close all connections and give the cluster back. Without a session, nothing happens."""
        session.end()

    @keyword
    def show_cluster_in_report(self) -> None:
        """Say in log and report on which cluster the suite runs: as metadata of the suite, and as a tag of each test.

        For use in a suite's setup.
        """
        cluster = session.current().cluster
        builtin = BuiltIn()
        builtin.set_suite_metadata("Cluster", f"{cluster.name} (topology {cluster.topology.name})")
        builtin.set_suite_metadata("Cluster logs", str(cluster.log_dir))
        builtin.set_tags(f"cluster:{cluster.name}")
        logger.info(f"{cluster.topology.path}\nkubeconfig: {cluster.kubeconfig}")

    @keyword
    def log_cluster_status(self) -> None:
        """Write guests, nodes, module, devices and driver pods into the log."""
        logger.info(as_text(session.current().cluster.status()))

    @keyword
    def get_node_names(self) -> list[str]:
        """Names of the cluster's nodes, in the order of the topology."""
        return session.current().node_names

    @keyword(name="Get NUMA Nodes")
    def get_numa_nodes(self, node: str) -> list[int]:
        """NUMA nodes of ``node`` that have devices, by the topology."""
        found = [numa.id for numa in _topology().node(node).numa_nodes if numa.slots]
        if not found:
            raise CheckError(f"topology {_topology().name} has no devices on {node}")
        return found

    @keyword(name="Count PFs On NUMA Node")
    def count_pfs_on_numa_node(self, node: str, numa_node: int) -> int:
        """How many physical functions ``node`` has on ``numa_node``, by the topology."""
        functions = _topology().node(node).functions
        return sum(function.numa_node == numa_node and not function.is_vf for function in functions)


def _topology() -> Topology:
    return session.current().topology
