"""Robot Framework library: devices that the scheduler has allocated to claims and pods."""

from __future__ import annotations

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import CheckError, fail_if_any
from mock_device.checks.layers import allocation
from mock_device.checks.nodes import session
from mock_device.checks.objects import kube
from mock_device.checks.objects.claims import AllocatedDevice, DeviceClass
from mock_device.topology import Function


@library(scope="GLOBAL", auto_keywords=False)
class AllocationLibrary:
    """Reads the devices of claims and pods, and compares them with the topology."""

    @keyword
    def get_devices_of_pod(self, pod: str, request: str | None = None) -> list[AllocatedDevice]:
        """Return the devices of the pod's claims, or of one ``request`` of them."""
        devices = kube.devices_of_pod(session.current().api, pod)
        logger.info("\n".join(f"{device} for claim {device.claim}, request {device.request}" for device in devices))
        return [device for device in devices if request is None or device.request == request]

    @keyword
    def get_allocated_devices(self) -> list[AllocatedDevice]:
        """Return the devices of all claims of the cluster."""
        return kube.allocated_devices(session.current().api)

    @keyword
    def pod_should_have_devices(self, pod: str, count: int) -> None:
        """Check that the pod's claims have ``count`` devices together."""
        _check(pod, allocation.wrong_count(self.get_devices_of_pod(pod), count))

    @keyword
    def devices_of_pod_should_be(self, pod: str, *functions: Function, request: str | None = None) -> None:
        """Check that the pod, or one ``request`` of it, has exactly the devices ``functions`` of the topology."""
        _check(pod, allocation.other_devices(self.get_devices_of_pod(pod, request), functions))

    @keyword
    def devices_of_pod_should_be_of_class(
        self, pod: str, device_class: DeviceClass, count: int, request: str | None = None
    ) -> None:
        """Check by the topology that the pod, or one ``request`` of it, has ``count`` PFs (or VFs) and nothing else."""
        devices = self.get_devices_of_pod(pod, request)
        _check(pod, allocation.wrong_class(session.current().topology, devices, device_class, count))

    @keyword
    def pod_should_not_have_parent_and_child(self, pod: str) -> None:
        """Check by the topology that no device of the pod is a VF of another one."""
        _check(pod, allocation.vfs_with_parent(session.current().topology, self.get_devices_of_pod(pod)))

    @keyword
    def alternative_of_pod_should_be(self, pod: str, request: str, alternative: str) -> None:
        """Check that the scheduler took ``alternative`` of a `Request First Available` for the pod."""
        _check(pod, allocation.wrong_alternative(self.get_devices_of_pod(pod, request), alternative))

    @keyword
    def pods_should_have_different_devices(self, *pods: str) -> None:
        """Check that no device belongs to more than one of ``pods``."""
        _check(None, allocation.shared_devices({pod: self.get_devices_of_pod(pod) for pod in pods}))

    @keyword
    def pods_should_have_the_same_devices(self, *pods: str) -> None:
        """Check that all ``pods`` have the same devices."""
        _check(None, allocation.different_devices({pod: self.get_devices_of_pod(pod) for pod in pods}))

    @keyword
    def devices_of_pod_should_share_attribute(self, pod: str, attribute: str) -> None:
        """Check that ResourceSlices publish one value of ``attribute`` for all devices of the pod."""
        _check(pod, allocation.different_attribute(self.get_devices_of_pod(pod), attribute))

    @keyword(name="Devices Of Pod Should Be Under One PCIe Root")
    def devices_of_pod_should_be_under_one_pcie_root(self, pod: str) -> str:
        """Check by the topology that all devices of the pod are under one PCIe root, and return it."""
        topology = session.current().topology
        roots = allocation.pcie_roots(topology, self.get_devices_of_pod(pod))
        _check(pod, allocation.not_one("PCIe root", roots, topology))
        return next(iter(roots.values()))

    @keyword
    def devices_of_pod_should_be_on_bus(self, pod: str, bus: str) -> None:
        """Check by the topology that all devices of the pod are on PCI bus ``bus`` (``0000:12``)."""
        _check(pod, allocation.on_other_bus(session.current().topology, self.get_devices_of_pod(pod), bus))

    @keyword(name="Devices Of Pod Should Be On One NUMA Node")
    def devices_of_pod_should_be_on_one_numa_node(self, pod: str) -> int:
        """Check by the topology that all devices of the pod are on one NUMA node, and return it."""
        topology = session.current().topology
        found = allocation.numa_nodes(topology, self.get_devices_of_pod(pod))
        _check(pod, allocation.not_one("NUMA node", found, topology))
        return next(iter(found.values()))

    @keyword(name="Devices Of Pod Should Be On Different NUMA Nodes")
    def devices_of_pod_should_be_on_different_numa_nodes(self, pod: str) -> None:
        """Check by the topology that no two devices of the pod are on the same NUMA node."""
        topology = session.current().topology
        _check(
            pod, allocation.not_different("NUMA node", allocation.numa_nodes(topology, self.get_devices_of_pod(pod)))
        )

    @keyword(name="Devices Of Pod Should Be On NUMA Node")
    def devices_of_pod_should_be_on_numa_node(self, pod: str, numa_node: int, request: str | None = None) -> None:
        """Check by the topology that all devices of the pod, or of one ``request``, are on ``numa_node``."""
        devices = self.get_devices_of_pod(pod, request)
        if not devices:
            raise CheckError(f"pod {pod!r}: expected devices for request {request!r}, found none")
        _check(pod, allocation.wrong_numa_nodes(session.current().topology, devices, numa_node))

    @keyword
    def no_device_should_be_allocated_twice(self) -> None:
        """Check that no device is allocated to more than one claim of the cluster."""
        api = session.current().api
        devices = kube.allocated_devices(api)
        logger.info(f"{len(devices)} devices are allocated")
        _check(None, allocation.allocated_twice(devices))


def _check(pod: str | None, complaints: list[str]) -> None:
    """Raise CheckError if there are ``complaints``, a line each, about one ``pod`` or several."""
    subject = f"pod {pod!r}: " if pod else ""
    fail_if_any(subject + complaint for complaint in complaints)
