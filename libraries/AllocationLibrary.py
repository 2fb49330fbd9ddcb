"""Robot Framework library: devices that the scheduler has allocated to claims and pods."""

from __future__ import annotations

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import session
from mock_device.checks.nodes.device_selection import bus_of
from mock_device.checks.objects import claims, kube
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
        devices = kube.devices_of_pod(session.current().api, pod)
        if len(devices) != count:
            listing = ", ".join(str(device) for device in devices)
            raise CheckError(f"pod {pod!r}: expected {count} devices, found {len(devices)}: {listing}")

    @keyword
    def devices_of_pod_should_be(self, pod: str, *functions: Function, request: str | None = None) -> None:
        """Check that the pod, or one ``request`` of it, has exactly the devices ``functions`` of the topology."""
        devices = self.get_devices_of_pod(pod, request)
        if complaints := claims.other_devices(devices, functions):
            expected = ", ".join(f"{function.name} ({function.bdf})" for function in functions)
            raise CheckError(f"pod {pod!r}: expected devices {expected}: {'; '.join(complaints)}")

    @keyword
    def devices_of_pod_should_be_of_class(
        self, pod: str, device_class: DeviceClass, count: int, request: str | None = None
    ) -> None:
        """Check by the topology that the pod, or one ``request`` of it, has ``count`` PFs (or VFs) and nothing else."""
        topology = session.current().topology
        devices = self.get_devices_of_pod(pod, request)
        is_vf = device_class is DeviceClass.VF
        wrong = [device for device in devices if claims.function_of(topology, device).is_vf != is_vf]
        if wrong or len(devices) != count:
            listing = ", ".join(map(str, devices)) or "none"
            raise CheckError(f"pod {pod!r}: expected {count} {device_class.name}s by the topology, found {listing}")

    @keyword
    def pod_should_not_have_parent_and_child(self, pod: str) -> None:
        """Check by the topology that no device of the pod is a VF of another one."""
        topology = session.current().topology
        devices = kube.devices_of_pod(session.current().api, pod)
        names = {device.name for device in devices}
        wrong = [device for device in devices if claims.function_of(topology, device).parent in names]
        if wrong:
            listing = ", ".join(map(str, devices))
            raise CheckError(f"pod {pod!r}: expected no VF together with its parent, found {wrong[0]} in {listing}")

    @keyword
    def alternative_of_pod_should_be(self, pod: str, request: str, alternative: str) -> None:
        """Check that the scheduler took ``alternative`` of a `Request First Available` for the pod."""
        found = {device.alternative for device in self.get_devices_of_pod(pod, request)}
        if found != {alternative}:
            listing = ", ".join(sorted(found)) or "no device"
            raise CheckError(f"pod {pod!r}, request {request!r}: expected alternative {alternative}, found {listing}")

    @keyword
    def pods_should_have_different_devices(self, *pods: str) -> None:
        """Check that no device belongs to more than one of ``pods``."""
        api = session.current().api
        owners: dict[tuple[str, str], list[str]] = {}
        for pod in pods:
            for device in kube.devices_of_pod(api, pod):
                owners.setdefault(device.key, []).append(pod)
        if shared := {key: names for key, names in owners.items() if len(names) > 1}:
            listing = "; ".join(f"{' '.join(key)}: {', '.join(names)}" for key, names in shared.items())
            raise CheckError(f"expected different devices for all pods, found {listing}")

    @keyword
    def pods_should_have_the_same_devices(self, *pods: str) -> None:
        """Check that all ``pods`` have the same devices."""
        api = session.current().api
        found = {pod: {device.key for device in kube.devices_of_pod(api, pod)} for pod in pods}
        if len(set(map(frozenset, found.values()))) != 1:
            listing = "; ".join(
                f"{pod}: {', '.join(' '.join(key) for key in sorted(keys))}" for pod, keys in found.items()
            )
            raise CheckError(f"expected the same devices for all pods, found {listing}")

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

    @keyword(name="Devices Of Pod Should Be Under One PCIe Root")
    def devices_of_pod_should_be_under_one_pcie_root(self, pod: str) -> str:
        """Check by the topology that all devices of the pod are under one PCIe root, and return it."""
        current = session.current()
        devices = kube.devices_of_pod(current.api, pod)
        places = {
            str(device): current.topology.node(device.node).pcie_root_of(claims.function_of(current.topology, device))
            for device in devices
        }
        roots = set(places.values())
        if len(roots) != 1:
            listing = ", ".join(f"{device} under {root}" for device, root in places.items())
            raise CheckError(
                f"pod {pod!r}: expected its devices under one PCIe root, found {listing} "
                f"by topology {current.topology.name}"
            )
        return roots.pop()

    @keyword
    def devices_of_pod_should_be_on_bus(self, pod: str, bus: str) -> None:
        """Check by the topology that all devices of the pod are on PCI bus ``bus`` (``0000:12``)."""
        topology = session.current().topology
        wrong = [
            device
            for device in kube.devices_of_pod(session.current().api, pod)
            if bus_of(claims.function_of(topology, device)) != bus
        ]
        if wrong:
            listing = ", ".join(map(str, wrong))
            raise CheckError(
                f"pod {pod!r}: expected all devices on bus {bus} by topology {topology.name}, found {listing}"
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
            raise CheckError(f"pod {pod!r}: expected devices for request {request!r}, found none")
        if complaints := claims.wrong_numa_nodes(current.topology, devices, numa_node):
            raise CheckError("\n".join(f"pod {pod!r}: {complaint}" for complaint in complaints))

    @keyword
    def no_device_should_be_given_twice(self) -> None:
        """Check that no device is allocated to more than one claim of the cluster."""
        api = session.current().api
        devices = kube.allocated_devices(api)
        logger.info(f"{len(devices)} devices are allocated")
        if found := claims.given_twice(devices):
            raise CheckError("\n".join(found))
