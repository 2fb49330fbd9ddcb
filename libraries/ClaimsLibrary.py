"""Robot Framework library: claims, what the scheduler gave them, and the slices that it chose from."""

from __future__ import annotations

from judgement import report
from robot.api import logger
from robot.api.deco import keyword, library
from scenario import CheckError, agreement, claims, kube, session
from scenario.claims import AllocatedDevice, DeviceClass, DeviceRequest
from scenario.observe import read_devices


@library(scope="GLOBAL", auto_keywords=False)
class ClaimsLibrary:
    """Makes claims, and compares what they got with the topology."""

    @keyword(name="ResourceSlices Should Agree With Topology On NUMA Nodes")
    def slices_should_agree_with_topology(self) -> None:
        """Check that every device is published once, with the NUMA node that the topology gives it.

        Both the driver's attribute and the standard one are compared. Fails only
        for devices that are right in sysfs; skips when others are wrong there
        already.
        """
        current = session.current()
        found = read_devices(current)
        published = kube.published(current.api)
        layers = [
            agreement.pci_bus(current.topology, found),
            agreement.sysfs(found),
            agreement.slices(published),
        ]
        report(agreement.judge(current.topology, layers))

    @keyword
    def request_devices(
        self,
        name: str,
        count: int = 1,
        device_class: DeviceClass = DeviceClass.PF,
        numa_node: int | None = None,
        cel: str | None = None,
    ) -> DeviceRequest:
        """A request for `Create Claim`: ``count`` devices, on ``numa_node`` and meeting ``cel`` if these are given."""
        selectors = [claims.numa_selector(numa_node)] if numa_node is not None else []
        if cel:
            selectors.append(cel)
        return DeviceRequest(name, count, device_class, tuple(selectors))

    @keyword
    def create_claim(self, name: str, *requests: DeviceRequest, match_attribute: str | None = None) -> None:
        """Make a claim of one or more `Request Devices`.

        All its devices get the same value of ``match_attribute``, a name of the
        driver's domain (``numaNode``) or a full one (``resource.kubernetes.io/pcieRoot``).
        """
        body = claims.build(name, requests, match_attribute, kube.LABELS)
        kube.create_claim(session.current().api, body)
        logger.info(claims.describe(body))

    @keyword
    def get_devices_of_pod(self, pod: str, request: str | None = None) -> list[AllocatedDevice]:
        """Devices of the pod's claims; with ``request``, those of that request only."""
        devices = kube.devices_of_pod(session.current().api, pod)
        logger.info("\n".join(f"{device} for claim {device.claim}, request {device.request}" for device in devices))
        return [device for device in devices if request is None or device.request == request]

    @keyword
    def get_allocated_devices(self) -> list[AllocatedDevice]:
        """Devices that any claim in the cluster has."""
        current = session.current()
        published = kube.published(current.api)
        return [device for item in kube.all_claims(current.api) for device in claims.allocated(item, published)]

    @keyword
    def pod_should_have_devices(self, pod: str, count: int) -> None:
        """Check how many devices the pod's claims have."""
        devices = kube.devices_of_pod(session.current().api, pod)
        if len(devices) != count:
            listing = ", ".join(str(device) for device in devices)
            raise CheckError(f"pod {pod!r}: expected {count} devices, found {len(devices)}: {listing}")

    @keyword
    def devices_of_pod_should_share_attribute(self, pod: str, attribute: str) -> None:
        """Check that ResourceSlices publish one value of ``attribute`` for all devices of the pod."""
        devices = kube.devices_of_pod(session.current().api, pod)
        values = {device.published.attribute(attribute) for device in devices}
        if len(values) != 1 or None in values:
            listing = ", ".join(f"{device}: {device.published.attribute(attribute)}" for device in devices)
            raise CheckError(
                f"pod {pod!r}: expected one value of attribute {attribute} for all devices, found {listing}"
            )

    @keyword(name="Devices Of Pod Should Be On One NUMA Node")
    def devices_of_pod_should_be_on_one_numa_node(self, pod: str) -> int:
        """Check by the topology that all devices of the pod are on one NUMA node, and return it."""
        current = session.current()
        devices = kube.devices_of_pod(current.api, pod)
        places = [(device, claims.function_of(current.topology, device).numa_node) for device in devices]
        numa_nodes = {numa_node for _, numa_node in places}
        if len(numa_nodes) != 1:
            listing = ", ".join(f"{device} on {numa_node}" for device, numa_node in places)
            raise CheckError(
                f"pod {pod!r}: expected its devices on one NUMA node, found {listing} "
                f"by topology {current.topology.name}"
            )
        return numa_nodes.pop()

    @keyword(name="Devices Of Pod Should Be On NUMA Node")
    def devices_of_pod_should_be_on_numa_node(self, pod: str, numa_node: int, request: str | None = None) -> None:
        """Check by the topology that all devices of the pod, or of one ``request``, are on ``numa_node``."""
        current = session.current()
        devices = self.get_devices_of_pod(pod, request)
        if not devices:
            raise CheckError(f"pod {pod!r}: no device for request {request!r}")
        if complaints := claims.wrong_numa_nodes(current.topology, devices, numa_node):
            raise CheckError("\n".join(f"pod {pod!r}: {complaint}" for complaint in complaints))
