"""Robot Framework library: what pods, containers and node agents must not be able to do."""

from __future__ import annotations

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import identity, isolation, node_agents
from mock_device.checks.errors import CheckError, fail_if_any
from mock_device.checks.nodes import session
from mock_device.checks.objects import kube, runtime_handlers, slices
from mock_device.lab.base.timeouts import Timeout


@library(scope="GLOBAL", auto_keywords=False)
class SecurityLibrary:
    """Attempts what must be forbidden, and checks the refusal."""

    @keyword
    def container_should_have_no_device_of_its_own(self, pod: str) -> None:
        """Check that the container has no variable of the driver and no mount on ``/sys/class/mock-accel``."""
        api = session.current().api
        output = kube.execute(api, pod, ["sh", "-c", isolation.DEVICES_PROBE], Timeout.POD_COMMAND.nominal)
        _judge(f"pod {pod!r}", isolation.device_complaints(output))

    @keyword
    def get_runtimes_with_user_namespaces(self, node: str) -> list[str]:
        """OCI runtimes of ``node`` that support ``hostUsers: false``; the default one as ``${EMPTY}``, too."""
        found = runtime_handlers.of_node(session.current().api, node)
        logger.info(f"user namespaces by runtime of {node}: {found}")
        return [name for name, supported in found.items() if supported]

    @keyword
    def get_runtimes(self, node: str) -> list[str]:
        """OCI runtimes of ``node``; the default one as ``${EMPTY}``, too."""
        return list(runtime_handlers.of_node(session.current().api, node))

    @keyword
    def container_should_have_users_of_its_own(self, pod: str) -> None:
        """Check that root in the pod is another user on the node (user_namespaces(7), uid_map)."""
        output = kube.execute(
            session.current().api, pod, ["sh", "-c", isolation.USERS_PROBE], Timeout.POD_COMMAND.nominal
        )
        _judge(f"pod {pod!r}", isolation.user_complaints(output))

    @keyword
    def container_should_not_write_any_attribute(self, pod: str) -> None:
        """Check from inside the container that it can write no attribute of any device, nor add files in sysfs."""
        output = kube.execute(
            session.current().api, pod, ["sh", "-c", isolation.WRITE_PROBE], Timeout.POD_COMMAND.nominal
        )
        logger.info(output)
        _judge(f"pod {pod!r}", isolation.write_complaints(output))

    @keyword
    def node_agent_may_publish(self, agent: str, node: str) -> None:
        """Check that the agent of node ``agent`` may publish a device of ``node``, by a dry run."""
        identity.create_slice(identity.as_agent_of(session.current().api, agent), node)

    @keyword
    def node_agent_may_not_publish(self, agent: str | None, node: str) -> str:
        """Check that the agent of node ``agent``, or with ``None`` a token for no node, may not publish for ``node``.

        Returns the API server's reason.
        """
        api = identity.as_agent_of(session.current().api, agent)
        what = f"the node agent of {agent or 'no node'} publishes for {node}"
        return _logged(identity.refusal(what, lambda: identity.create_slice(api, node)))

    @keyword
    def node_agent_may_not_delete_slices_of(self, agent: str, node: str) -> str:
        """Check that the agent of node ``agent`` may not delete a ResourceSlice of ``node``. Returns the reason."""
        current = session.current()
        api = identity.as_agent_of(current.api, agent)
        names = [item.slice_name for item in slices.published(current.api) if item.node == node]
        if not names:
            raise CheckError(f"{node}: expected ResourceSlices, found none; look at: lab diagnose")
        what = f"the node agent of {agent} deletes {names[0]}"
        return _logged(identity.refusal(what, lambda: identity.delete_slice(api, names[0])))

    @keyword
    def node_agent_may_not_write_status_of_claim(self, agent: str, claim: str) -> str:
        """Check that the agent of node ``agent`` may not write ``status.devices`` of another node's claim.

        Returns the API server's reason.
        """
        current = session.current()
        api = identity.as_agent_of(current.api, agent)
        item = kube.get_claim(current.api, claim)
        what = f"the node agent of {agent} writes the status of claim {claim}"
        return _logged(identity.refusal(what, lambda: identity.write_claim_status(api, item)))

    @keyword
    def driver_may_write_status_of_claim(self, driver: str, claim: str) -> None:
        """Check that a driver called ``driver`` may write ``status.devices`` of ``claim``, by a dry run."""
        api = session.current().api
        item = kube.get_claim(api, claim)
        with identity.as_driver(api, driver) as other:
            identity.write_claim_status(other, item)

    @keyword
    def driver_may_not_write_status_of_claim(self, driver: str, claim: str) -> str:
        """Check that a driver called ``driver`` may not write ``status.devices`` of ``claim``.

        It has all rights for its own devices. Returns the API server's reason, which names the right that is missing.
        """
        api = session.current().api
        item = kube.get_claim(api, claim)
        what = f"driver {driver} writes the status of claim {claim}"
        with identity.as_driver(api, driver) as other:
            reason = identity.refusal(what, lambda: identity.write_claim_status(other, item))
        if "resourceclaims/driver" not in reason:
            raise CheckError(f"{what}: expected it to be refused because of resourceclaims/driver, found {reason}")
        return _logged(reason)

    @keyword
    def node_agent_should_have_no_other_rights(self, agent: str) -> None:
        """Check that the agent of node ``agent`` has only the rights that its manifest and Kubernetes give it.

        Kubernetes gives some to every service account.
        """
        api = session.current().api
        found = identity.rights(identity.as_agent_of(api, agent))
        found -= identity.rights_of(node_agents.rules()) | identity.rights(identity.as_default_account(api))
        if found:
            raise CheckError(
                f"node agent of {agent}: expected no right beyond its needs, found {', '.join(sorted(found))}"
            )

    @keyword
    def plugin_sockets_should_be_accessible_to_root_only(self, node: str) -> None:
        """Check on ``node`` that another user can neither read nor write the driver's sockets and checkpoint."""
        current = session.current()
        output = current.on_node(node, isolation.sockets_probe(current.runtime(node)))
        logger.info(output)
        _judge(node, isolation.socket_complaints(output))


def _judge(where: str, complaints: list[str]) -> None:
    fail_if_any(f"{where}: {complaint}" for complaint in complaints)


def _logged(text: str) -> str:
    logger.info(text)
    return text
