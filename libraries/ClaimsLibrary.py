"""Robot Framework library: claims, their status and their events."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import refusal
from mock_device.checks.layers import device_conditions
from mock_device.checks.nodes import session
from mock_device.checks.objects import claim_objects, claims, kube, namespaces, taint_rules
from mock_device.checks.objects.claim_forms import Toleration
from mock_device.checks.objects.claims import AlternativeRequests, DeviceClass, DeviceRequest
from mock_device.checks.objects.taint_rules import Effect
from mock_device.checks.waiting import until_no_complaints
from mock_device.lab.base.timeouts import Timeout


@library(scope="GLOBAL", auto_keywords=False)
class ClaimsLibrary:
    """Creates and deletes claims, and waits for their status and events."""

    @keyword
    def request_devices(
        self,
        name: str,
        count: int = 1,
        device_class: DeviceClass = DeviceClass.PF,
        numa_node: int | None = None,
        cel: str | None = None,
        admin_access: bool = False,
    ) -> DeviceRequest:
        """Return a request of ``count`` devices for `Create Claim`.

        If given, they are on ``numa_node`` and meet the CEL selector ``cel``. With
        ``admin_access`` they may be another claim's; use `Allow Admin Access` before.
        """
        selectors = [claims.numa_selector(numa_node)] if numa_node is not None else []
        if cel:
            selectors.append(cel)
        return DeviceRequest(name, count, device_class, tuple(selectors), admin_access)

    @keyword
    def request_all_devices(
        self,
        name: str,
        device_class: DeviceClass = DeviceClass.PF,
        cel: str | None = None,
        admin_access: bool = False,
    ) -> DeviceRequest:
        """Return a request for `Create Claim` of all devices of a node, of those that meet ``cel`` if it is given.

        Allocation mode All: without ``admin_access``, none of them may be another claim's.
        """
        selectors = (cel,) if cel else ()
        return DeviceRequest(name, 1, device_class, selectors, admin_access, every=True)

    @keyword
    def tolerate_taints_of_tests(
        self, request: DeviceRequest, effect: Effect | None = None, seconds: int | None = None
    ) -> DeviceRequest:
        """Return ``request``, which also takes devices with a taint of `Taint Devices By Rule`.

        With ``effect``, taints of that effect only. It tolerates NoExecute for ``seconds``, or as long as it lasts.
        """
        toleration = Toleration(taint_rules.KEY, "Exists", effect=effect.value if effect else "", seconds=seconds)
        return replace(request, tolerations=(*request.tolerations, toleration))

    @keyword
    def allow_admin_access(self) -> None:
        """Allow admin access to claims of the tests' namespace, until `Forbid Admin Access`."""
        namespaces.allow_admin_access(session.current().api, allowed=True)

    @keyword
    def forbid_admin_access(self) -> None:
        """Forbid admin access to claims of the tests' namespace, as by default: the API server refuses them."""
        namespaces.allow_admin_access(session.current().api, allowed=False)

    @keyword
    def request_first_available(self, name: str, *alternatives: DeviceRequest) -> AlternativeRequests:
        """Return a request for `Create Claim` that the first of ``alternatives`` with enough devices meets."""
        return AlternativeRequests(name, alternatives)

    @keyword
    def create_claim(
        self,
        name: str,
        *requests: DeviceRequest | AlternativeRequests,
        match_attribute: str | None = None,
        distinct_attribute: str | None = None,
    ) -> None:
        """Create a claim of one or more `Request Devices`, `Request All Devices` or `Request First Available`.

        All its devices have the same value of attribute ``match_attribute``, a name in the
        driver's domain (``model``) or a full name (``resource.kubernetes.io/pcieRoot``),
        and different values of ``distinct_attribute``.
        """
        body = claims.build(name, requests, match_attribute, kube.LABELS, distinct_attribute)
        kube.create_claim(session.current().api, body)
        logger.info(claims.describe(body))

    @keyword
    def create_claim_template(self, name: str, *requests: DeviceRequest | AlternativeRequests) -> None:
        """Create a ResourceClaimTemplate: each pod that names it gets its own claim."""
        kube.create_claim_template(session.current().api, claims.build_template(name, requests, None, kube.LABELS))

    @keyword
    def create_claim_should_be_refused(self, name: str, *requests: DeviceRequest, because: str) -> str:
        """Check that the API server refuses a claim with ``because`` in its reason, and return the reason."""
        return refusal(f"claim {name!r}", lambda: self.create_claim(name, *requests), because)

    @keyword(tags=["wait"])
    def claim_should_have_no_devices(self, name: str, timeout: timedelta = Timeout.CLAIM_STATE.nominal) -> None:
        """Wait until the claim has no devices, and no pod has reserved it.

        Kubernetes releases devices some time after their pod is gone.
        """
        expected = "no devices and no pods"
        kube.wait_claim(session.current().api, name, claims.allocation_complaints, timeout, expected)

    @keyword(tags=["wait"])
    def claim_should_report_condition(
        self, claim: str, kind: str, status: str, reason: str, timeout: timedelta = Timeout.CLAIM_REPORT.nominal
    ) -> None:
        """Wait until all devices in the claim's status have condition ``kind`` with ``status`` and ``reason``."""
        kube.wait_claim(
            session.current().api,
            claim,
            lambda item: device_conditions.condition_complaints(item, kind, status, reason),
            timeout,
            f"condition {kind} {status} because of {reason}",
        )

    @keyword
    def delete_claim(self, name: str) -> None:
        """Delete the claim without waiting; it is gone when no pod uses it."""
        kube.delete_claim(session.current().api, name)

    @keyword(tags=["wait"])
    def wait_until_claim_is_gone(self, name: str, timeout: timedelta = Timeout.DELETED.nominal) -> None:
        """Wait until a claim that is being deleted is gone."""
        claim_objects.wait_gone(session.current().api, name, timeout)

    @keyword(tags=["wait"])
    def claim_status_should_have_devices(self, claim: str, timeout: timedelta = Timeout.CLAIM_REPORT.nominal) -> None:
        """Wait until the claim's ``status.devices`` has an entry for each of its devices of the driver."""
        expected = "its devices in its status"
        kube.wait_claim(session.current().api, claim, claim_objects.status_complaints, timeout, expected)

    @keyword(tags=["wait"])
    def claim_should_have_event(
        self, claim: str, reason: str, text: str, timeout: timedelta = Timeout.CLAIM_REPORT.nominal
    ) -> None:
        """Wait until the claim has an event with ``reason``, and ``text`` in its message."""
        api = session.current().api
        until_no_complaints(
            lambda: kube.event_complaints(kube.events_of(api, kube.get_claim(api, claim)), reason, text),
            timeout,
            f"events of claim {claim}",
        )
