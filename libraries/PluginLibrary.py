"""Robot Framework library: the kubelet plugin of any DRA driver, called as the kubelet does."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import plugin_answers, plugin_calls
from mock_device.checks.driver.plugin_answers import Info, Prepared
from mock_device.checks.errors import CheckError, SkipCheck, fail_if_any
from mock_device.checks.nodes import cdi_edits, session
from mock_device.checks.objects import claim_objects, kube, pod_claims, pods, slices
from mock_device.driver import current as drivers
from mock_device.lab.base.timeouts import Timeout


@library(scope="GLOBAL", auto_keywords=False)
class PluginLibrary:
    """Calls the sockets of the driver's kubelet plugin on a node, and compares its answers with the contract.

    The plugin cannot tell these calls from the kubelet's. It needs nothing for them.
    """

    @keyword
    def get_plugin_info(self, node: str) -> Info:
        """Ask the plugin on ``node`` how it introduces itself to the kubelet."""
        info = plugin_calls.info(session.current(), node, drivers.driver().name)
        logger.info(info)
        return info

    @keyword
    def plugin_info_should_be_complete(self, info: Info) -> None:
        """Check type, name, endpoint and services of `Get Plugin Info`."""
        fail_if_any(plugin_answers.info_complaints(info, drivers.driver().name))

    @keyword
    def call_should_have_taken_at_most(self, answer: Info | Prepared, limit: timedelta) -> None:
        """Check how long the plugin took for an answer. ``limit`` is of the kubelet: no factor multiplies it."""
        logger.info(f"{answer.seconds:.3f} s")
        if answer.seconds > limit.total_seconds():
            raise CheckError(
                f"expected an answer within {limit.total_seconds():g} s, the kubelet's limit, "
                f"found {answer.seconds:.1f} s; look at the log of the driver's pod"
            )

    @keyword
    def prepare_claims_of_pod(self, pod: str) -> Prepared:
        """Ask the plugin to prepare all claims of a pod in one call, as the kubelet does again after its restart."""
        api = session.current().api
        return _prepare(pods.claim_names(kube.get_pod(api, pod)))

    @keyword
    def each_claim_should_have_an_entry(self, prepared: Prepared) -> None:
        """Check that the answer has an entry without an error for each claim of the call, and no other entry."""
        fail_if_any(plugin_answers.entry_complaints(prepared))

    @keyword
    def prepared_devices_should_be_those_allocated(self, prepared: Prepared) -> None:
        """Check that the answer has pool, device and request of what the scheduler has allocated, and nothing else."""
        fail_if_any(plugin_answers.device_complaints(prepared))

    @keyword
    def answers_should_be_the_same(self, first: Prepared, again: Prepared) -> None:
        """Check that a second answer for the same claims has the same devices, requests and CDI devices."""
        fail_if_any(plugin_answers.differences(first, again))

    @keyword(name="CDI Devices Should Exist")
    def cdi_devices_should_exist(self, prepared: Prepared) -> None:
        """Check that a CDI file of the node defines each CDI device of the answer. Skips if the answer has none."""
        if not prepared.cdi:
            raise SkipCheck("not offered: the driver's answers have no CDI devices")
        fail_if_any(plugin_answers.cdi_complaints(prepared, _edits_on(prepared.claims[0].node)))

    @keyword
    def container_should_have_what_cdi_adds(self, pod: str, container: str) -> None:
        """Check that a container has variables, device nodes and mounts of its claims' CDI devices, not of others.

        Of a container that has ended, such as an init container, made by `Create Pod With Init Container`, the log
        tells it. Skips if the CDI devices add nothing that a container can see.
        """
        current = session.current()
        item = kube.get_pod(current.api, pod)
        prepared = self.prepare_claims_of_pod(pod)
        edits = _edits_on(prepared.claims[0].node)
        used = pod_claims.uses(item, container)
        own, others = plugin_answers.cdi_by_use(prepared, used)
        mine = [edits[name] for name in own if name in edits]
        if not any(part.environment or part.paths for part in mine):
            raise SkipCheck("not offered: the driver's CDI devices add nothing that a container can see")
        seen = cdi_edits.parse_container(container, _look_inside(item, pod, container))
        theirs = [edits[name] for name in others if name in edits]
        where = f"pod {pod}, container {container}"
        fail_if_any(f"{where}: {complaint}" for complaint in cdi_edits.container_complaints(seen, mine, theirs))

    @keyword
    def prepare_should_be_refused(self, claim: str) -> str:
        """Check that the plugin does not prepare ``claim``, and return its reason."""
        return _logged(plugin_calls.refusal(f"claim {claim!r}", lambda: _prepare([claim])))

    @keyword
    def prepare_of_another_uid_should_be_refused(self, claim: str) -> str:
        """Ask the plugin to prepare ``claim`` with the uid of a claim that does not exist, and return its reason.

        The kubelet does so for a claim that was deleted and created again meanwhile.
        """
        current = session.current()
        other = replace(plugin_calls.claim_on_node(current.api, claim), uid=str(uuid.uuid4()))
        with plugin_calls.plugin(current, other.node, drivers.driver().name) as plugin:
            return _logged(plugin_calls.refusal(f"claim {claim!r}, uid {other.uid}", lambda: plugin.prepare([other])))

    @keyword
    def prepare_without_allocation_should_be_refused(self, claim: str, node: str) -> str:
        """Ask the plugin on ``node`` to prepare ``claim``, which is not allocated, and return its reason."""
        current = session.current()
        waiting = plugin_calls.unallocated_on_node(current.api, claim, node)
        with plugin_calls.plugin(current, node, drivers.driver().name) as plugin:
            return _logged(plugin_calls.refusal(f"claim {claim!r}", lambda: plugin.prepare([waiting])))

    @keyword
    def unprepare_claim(self, claim: str) -> None:
        """Ask the plugin to unprepare an allocated claim, and check that it succeeds."""
        self._unprepare(plugin_calls.claim_on_node(session.current().api, claim))

    @keyword
    def unprepare_of_unknown_claim_should_succeed(self, node: str) -> None:
        """Ask the plugin on ``node`` to unprepare a claim that never existed: that is no error."""
        namespace = kube.namespace_of_tests(session.current().api)
        self._unprepare(plugin_answers.ClaimOnNode(node, namespace, "never-existed", str(uuid.uuid4()), ()))

    @keyword
    def remember_claim(self, claim: str) -> plugin_answers.ClaimOnNode:
        """Return an allocated claim as the kubelet knows it, for `Unprepare Remembered Claim`."""
        return plugin_calls.claim_on_node(session.current().api, claim)

    @keyword
    def unprepare_remembered_claim(self, claim: plugin_answers.ClaimOnNode) -> None:
        """Ask the plugin to unprepare a claim of `Remember Claim`, which may be gone, and check that it succeeds."""
        self._unprepare(claim)

    def _unprepare(self, claim: plugin_answers.ClaimOnNode) -> None:
        with plugin_calls.plugin(session.current(), claim.node, drivers.driver().name) as plugin:
            errors = plugin.unprepare([claim])
        fail_if_any(plugin_answers.unprepare_complaints(claim, errors))

    @keyword
    def allocate_devices_of_another_claim(self, claim: str, other: str) -> None:
        """Write into the status of ``claim`` the allocation of claim ``other``, as a broken scheduler would.

        Both must have requests of the same names.
        """
        claim_objects.copy_allocation(session.current().api, other, claim)

    @keyword
    def plugin_should_report_health_of_published_devices(self, node: str) -> None:
        """Check that the plugin's first report of health has all devices that it publishes for ``node``."""
        current = session.current()
        with plugin_calls.plugin(current, node, drivers.driver().name) as plugin:
            reported = plugin.health()
        logger.info(reported)
        published = [item.published_id for item in slices.published(current.api) if item.node == node]
        fail_if_any(plugin_answers.health_complaints(reported, published))


def _prepare(claims: Sequence[str]) -> Prepared:
    """Ask the plugin to prepare allocated ``claims`` of one node in one call, and return its answer."""
    current = session.current()
    named = [plugin_calls.claim_on_node(current.api, claim) for claim in claims]
    if not named:
        raise CheckError("expected a pod with claims, found none")
    with plugin_calls.plugin(current, named[0].node, drivers.driver().name) as plugin:
        prepared = plugin.prepare(named)
    logger.info(prepared)
    return prepared


def _edits_on(node: str) -> dict[str, cdi_edits.Edits]:
    """What the CDI devices of a node add, by their IDs."""
    return cdi_edits.parse_files(node, session.current().on_node(node, cdi_edits.FILES_PROBE))


def _look_inside(item: kube.Object, pod: str, container: str) -> str:
    """Output of CONTAINER_PROBE: of a running container by a command, of an init container from its log."""
    api = session.current().api
    if container in pods.init_container_names(item):
        return kube.log_of(api, pod, container)
    return kube.execute(api, pod, ["sh", "-c", cdi_edits.CONTAINER_PROBE], Timeout.POD_COMMAND.nominal, container)


def _logged(text: str) -> str:
    logger.info(text)
    return text
