"""Robot Framework library: claims, what the scheduler gave them, and the slices that it chose from."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import CheckError
from mock_device.checks.layers import device_conditions
from mock_device.checks.nodes import session
from mock_device.checks.objects import claims, kube, namespaces
from mock_device.checks.objects.claims import AlternativeRequests, DeviceClass, DeviceRequest
from mock_device.checks.waiting import until_no_complaints


@library(scope="GLOBAL", auto_keywords=False)
class ClaimsLibrary:
    """Makes claims, and compares what they got with the topology."""

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
        """A request for `Create Claim`: ``count`` devices, on ``numa_node`` and meeting ``cel`` if these are given.

        With ``admin_access`` they may be another claim's; `Allow Admin Access` comes first.
        """
        selectors = [claims.numa_selector(numa_node)] if numa_node is not None else []
        if cel:
            selectors.append(cel)
        return DeviceRequest(name, count, device_class, tuple(selectors), admin_access)

    @keyword
    def allow_admin_access(self) -> None:
        """Let claims of the tests' namespace ask for admin access; `Forbid Admin Access` takes it back."""
        namespaces.allow_admin_access(session.current().api, allowed=True)

    @keyword
    def forbid_admin_access(self) -> None:
        """Let the API server refuse claims of the tests' namespace that ask for admin access, as it does by default."""
        namespaces.allow_admin_access(session.current().api, allowed=False)

    @keyword
    def request_first_available(self, name: str, *alternatives: DeviceRequest) -> AlternativeRequests:
        """A request for `Create Claim`, met by the first of several `Request Devices` for which there are devices."""
        return AlternativeRequests(name, alternatives)

    @keyword
    def create_claim(
        self, name: str, *requests: DeviceRequest | AlternativeRequests, match_attribute: str | None = None
    ) -> None:
        """Make a claim of one or more `Request Devices` or `Request First Available`.

        All its devices get the same value of ``match_attribute``, a name of the
        driver's domain (``numaNode``) or a full one (``resource.kubernetes.io/pcieRoot``).
        """
        body = claims.build(name, requests, match_attribute, kube.LABELS)
        kube.create_claim(session.current().api, body)
        logger.info(claims.describe(body))

    @keyword
    def create_claim_template(self, name: str, *requests: DeviceRequest | AlternativeRequests) -> None:
        """Make a ResourceClaimTemplate, from which each pod that names it gets a claim of its own."""
        kube.create_claim_template(session.current().api, claims.build_template(name, requests, None, kube.LABELS))

    @keyword
    def create_claim_should_be_refused(self, name: str, *requests: DeviceRequest, because: str) -> str:
        """Check that the API server refuses a claim, with ``because`` among its reasons, and return what it says."""
        try:
            self.create_claim(name, *requests)
        except CheckError as error:
            if because in str(error):
                return str(error)
            raise CheckError(
                f"claim {name!r}: expected it to be refused because {because!r}, found: {error}"
            ) from error
        raise CheckError(f"claim {name!r}: expected the API server to refuse it because {because!r}, it was accepted")

    @keyword(tags=["wait"])
    def claim_should_have_no_devices(self, name: str, timeout: timedelta = timedelta(seconds=30)) -> None:
        """Wait until nothing is allocated to a claim of the tests, and no pod has it reserved.

        Kubernetes takes devices back some time after their pod is gone.
        """
        expected = "it to have no devices and no pods"
        kube.wait_claim(session.current().api, name, claims.allocation_complaints, timeout, expected)

    @keyword(tags=["wait"])
    def claim_should_report_condition(
        self, claim: str, kind: str, status: str, reason: str, timeout: timedelta = timedelta(minutes=5)
    ) -> None:
        """Wait until the driver says of all devices of the claim, in its status, condition ``kind`` with ``reason``."""
        kube.wait_claim(
            session.current().api,
            claim,
            lambda item: device_conditions.condition_complaints(item, kind, status, reason),
            timeout,
            f"condition {kind} {status} because of {reason}",
        )

    @keyword
    def delete_claim(self, name: str) -> None:
        """Delete the claim without waiting; it goes when no pod uses it."""
        kube.delete_claim(session.current().api, name)

    @keyword(tags=["wait"])
    def claim_should_have_event(
        self, claim: str, reason: str, text: str, timeout: timedelta = timedelta(minutes=5)
    ) -> None:
        """Wait for an event about the claim with that ``reason`` and ``text`` in its message."""
        api = session.current().api

        def complaints() -> list[str]:
            found = kube.events_of(api, kube.get_claim(api, claim))
            events = [f"{event.reason}: {event.message}" for event in found]
            if any(event.startswith(f"{reason}: ") and text in event for event in events):
                return []
            return [f"claim {claim!r}: expected an event {reason} with {text!r}, found {'; '.join(events) or 'none'}"]

        until_no_complaints(complaints, timeout, f"events of claim {claim}")
