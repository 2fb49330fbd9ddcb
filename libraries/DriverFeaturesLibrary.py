"""Robot Framework library: optional features of the driver (docs/driver.md)."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword, library

from mock_device.checks.errors import fail_if_any
from mock_device.checks.nodes import session
from mock_device.checks.objects import claim_forms, kube, shares
from mock_device.checks.objects.claims import DeviceRequest
from mock_device.driver import current
from mock_device.lab.base.timeouts import Timeout
from mock_device.topology import Function


@library(scope="GLOBAL", auto_keywords=False)
class DriverFeaturesLibrary:
    """Shares of devices, and the metadata of devices in containers."""

    @keyword
    def request_share_of_device(self, name: str, device: Function, parts: int) -> DeviceRequest:
        """Return a request for `Create Claim` of ``parts`` sixteenths of the memory of ``device``."""
        selector = f'{current.driver().in_cel("uuid")} == "{device.uuid}"'
        return DeviceRequest(name, selectors=(selector,), capacity=(("memory", shares.memory(device, parts)),))

    @keyword
    def claims_should_share_a_device(self, *claims: str) -> None:
        """Check that the claims have shares of one device, each with a ``shareID`` of its own."""
        api = session.current().api
        fail_if_any(shares.sharing_complaints([claim_forms.parse(kube.get_claim(api, name)) for name in claims]))

    @keyword(tags=["wait"])
    def claim_should_report_its_share(self, claim: str, timeout: timedelta = Timeout.CLAIM_REPORT.nominal) -> None:
        """Wait until ``status.devices`` of the claim has its share, by its id, and says that it is ready."""
        kube.wait_claim(
            session.current().api,
            claim,
            lambda item: shares.status_complaints(claim_forms.parse(item), item.get("status", {}).get("devices") or []),
            timeout,
            "its share in status.devices",
        )

    @keyword(tags=["wait"])
    def claim_should_wait_for_attachment(self, claim: str, timeout: timedelta = Timeout.CLAIM_REPORT.nominal) -> None:
        """Wait until the claim is allocated to devices that must be attached first, and check that none is."""
        kube.wait_claim(
            session.current().api,
            claim,
            lambda item: shares.attachment_complaints(claim_forms.parse(item)),
            timeout,
            "an allocation with binding conditions",
        )

    @keyword
    def window_of_pod_should_be(
        self, pod: str, device: Function, parts: int, timeout: timedelta = Timeout.JOB.nominal
    ) -> None:
        """Check that a job pod can read ``parts`` sixteenths of the window of ``device``, and no more."""
        output = kube.execute(session.current().api, pod, ["sh", "-c", "mock-accel dump | wc -c"], timeout)
        fail_if_any(
            f"pod {pod}: {complaint}" for complaint in shares.window_complaints(output, shares.window(device, parts))
        )

    @keyword
    def container_should_find_metadata(
        self, pod: str, claim: str, request: str, timeout: timedelta = Timeout.POD_COMMAND.nominal
    ) -> None:
        """Check that the file with attributes in the pod's container describes the devices of ``request``."""
        api = session.current().api
        text = kube.execute(api, pod, ["cat", shares.metadata_path(claim, request)], timeout)
        devices = [device for device in kube.devices_of_pod(api, pod) if device.request == request]
        fail_if_any(f"pod {pod}: {item}" for item in shares.metadata_complaints(text, claim, devices))
