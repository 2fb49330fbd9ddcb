"""Robot Framework library: features of Kubernetes around devices, each with a feature gate of its own."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import CheckError, fail_if_any
from mock_device.checks.nodes import session
from mock_device.checks.objects import kube, pod_groups, pool_status, slices, taint_rules
from mock_device.checks.objects.taint_rules import Effect
from mock_device.checks.waiting import until_no_complaints
from mock_device.lab.base import timeouts
from mock_device.lab.base.timeouts import Timeout
from mock_device.topology import DeviceId, Function


@library(scope="GLOBAL", auto_keywords=False)
class FeaturesLibrary:
    """Taints devices by rules, counts them by pools, and lets groups of pods share a claim."""

    @keyword
    def taint_devices_by_rule(
        self, rule: str, effect: Effect, node: str | None = None, device: Function | None = None
    ) -> None:
        """Create a DeviceTaintRule for ``device`` of ``node``, or for all devices of the driver."""
        api = session.current().api
        chosen = None
        if node and device:
            wanted = DeviceId(node, device.name)
            found = [item.published_id for item in slices.published(api) if item.id == wanted]
            if not found:
                raise CheckError(f"{wanted}: expected a ResourceSlice, found none; look at: lab slices {node}")
            chosen = found[0]
        taint_rules.create(api, taint_rules.build(rule, effect, chosen))

    @keyword
    def delete_taint_rule(self, rule: str) -> None:
        """Delete a rule of `Taint Devices By Rule`: its taint is gone at once."""
        taint_rules.delete(session.current().api, rule)

    @keyword(tags=["wait"])
    def taint_rule_should_report(
        self, rule: str, status: str, reason: str, timeout: timedelta = Timeout.EVICTION.nominal
    ) -> None:
        """Wait until the rule has condition EvictionInProgress with ``status`` and ``reason``."""
        api = session.current().api
        until_no_complaints(
            lambda: taint_rules.condition_complaints(taint_rules.get(api, rule), status, reason),
            timeout,
            f"DeviceTaintRule {rule!r}",
        )

    @keyword(tags=["wait"])
    def pod_should_be_evicted(self, pod: str, timeout: timedelta = Timeout.EVICTION.nominal) -> None:
        """Wait until Kubernetes deletes the pod because of a taint of its device; then it has ended, or soon does."""
        eviction = taint_rules.wait_evicted(session.current().api, pod, timeout)
        logger.info(f"{pod} was deleted at {eviction.at.isoformat()}: {eviction.reason}")

    @keyword(tags=["wait"])
    def pod_should_be_evicted_after(
        self, pod: str, rule: str, seconds: int, timeout: timedelta = Timeout.EVICTION.nominal
    ) -> None:
        """Like `Pod Should Be Evicted`, and not earlier than ``seconds`` after the taint of ``rule`` was added.

        By the API server's clock. ``timeout`` begins when that time is over.
        """
        api = session.current().api
        whole = timeout + timeouts.exactly(timedelta(seconds=seconds))
        eviction = taint_rules.wait_evicted(api, pod, whole)
        passed = (eviction.at - taint_rules.time_added(taint_rules.get(api, rule))).total_seconds()
        logger.info(f"{pod} was deleted {passed:.0f} s after the taint was added")
        if passed < seconds:
            raise CheckError(
                f"pod {pod!r}: expected it to be evicted {seconds} s after the taint, found {passed:.0f} s"
            )

    @keyword
    def pod_should_not_be_evicted(self, pod: str) -> None:
        """Check that the pod exists, and that nothing has deleted it."""
        eviction = taint_rules.eviction_of(kube.get_pod(session.current().api, pod))
        if eviction:
            raise CheckError(
                f"pod {pod!r}: expected it to stay, found that it was deleted: {eviction.reason or 'by hand'}"
            )

    @keyword(tags=["wait"])
    def pool_status_should_agree(self, request: str, timeout: timedelta = Timeout.POOL_STATUS.nominal) -> None:
        """Ask Kubernetes for the state of the driver's pools, and compare it with slices, claims and taint rules.

        ``request`` is the name of the ResourcePoolStatusRequest, which is answered once.
        """
        fail_if_any(pool_status.judge(session.current().api, request, timeout))

    @keyword
    def create_pod_group(self, name: str, template: str, at_once: int) -> None:
        """Create a PodGroup with a claim from `Create Claim Template`, under the template's name.

        Kubernetes places its pods only when ``at_once`` of them find room.
        """
        pod_groups.create(session.current().api, pod_groups.build(name, template, at_once))

    @keyword
    def delete_pod_group(self, name: str) -> None:
        """Delete a PodGroup; Kubernetes deletes its claim."""
        pod_groups.delete(session.current().api, name)

    @keyword(tags=["wait"])
    def claim_of_group_should_be_reserved_for_it(
        self, group: str, template: str, timeout: timedelta = Timeout.CLAIM_STATE.nominal
    ) -> None:
        """Wait until the claim that the group has from ``template`` is reserved for the group, and for no pod."""
        api = session.current().api
        claim = pod_groups.wait_claim(api, group, template, timeout)
        kube.wait_claim(
            api, claim, lambda item: pod_groups.reservation_complaints(item, group), timeout, f"a claim of {group}"
        )
