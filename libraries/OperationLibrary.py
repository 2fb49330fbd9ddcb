"""Robot Framework library: health and metrics over HTTP, for suites that use RequestsLibrary."""

from __future__ import annotations

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import driver, metrics, operation
from mock_device.checks.driver.driver import Component
from mock_device.checks.driver.operation import HttpAccess
from mock_device.checks.errors import fail_if_any
from mock_device.checks.nodes import session
from mock_device.checks.objects import others


@library(scope="GLOBAL", auto_keywords=False)
class OperationLibrary:
    """Returns addresses of the cluster's programs, and checks their answers. RequestsLibrary sends the requests."""

    @keyword(name="Get API Server Access")
    def get_api_server_access(self) -> HttpAccess:
        """Return the API server's URL on loopback, and the files of the kubeconfig's certificates and key."""
        return operation.access(session.current().api)

    @keyword
    def get_proxy_path(self, component: Component, node: str | None = None) -> str:
        """Return the API server's proxy path to the pod of ``component`` (on ``node``), to precede ``/healthz``."""
        return operation.proxy_path(driver.pod_of(session.current().api, component, node))

    @keyword
    def all_checks_should_be_ok(self, answer: str) -> None:
        """Check that the API server's verbose ``answer`` lists checks, each ok, and reports success."""
        _judge(operation.check_complaints(answer))

    @keyword
    def node_agent_should_count(self, figures: str, node: str, allocated: int = 0) -> None:
        """Check that ``figures`` of a node agent count all PFs of ``node``, ``allocated`` of them as allocated.

        PFs that other users of the cluster hold count as well.
        """
        current = session.current()
        shape = current.topology.node(node)
        held = {key.name for key in others.held(current.api) if key.node == node}
        more = sum(pf.name in held for pf in shape.pfs)
        _judge(operation.agent_complaints(figures, shape, allocated + more))

    @keyword
    def controller_should_count_all_devices(self, figures: str) -> None:
        """Check that ``figures`` of the controller count all PFs of each node of the topology."""
        _judge(operation.controller_complaints(figures, session.current().topology))

    @keyword
    def get_number_of_prepared_claims(self, figures: str) -> int:
        """Return how many claims a node agent has prepared since its start, by its ``figures``."""
        return metrics.parse(figures, metrics.CLAIMS, operation="prepare", result="ok").count

    @keyword
    def get_number_of_failed_requests(self, figures: str) -> int:
        """Return how many requests to the API server failed, by the ``figures`` of a node agent or the controller."""
        return int(metrics.parse_value(figures, metrics.API_ERRORS))


def _judge(complaints: list[str]) -> None:
    fail_if_any(complaints)
    logger.info("as expected")
