"""Robot Framework library: nodes and pods of the cluster."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import CheckError
from mock_device.checks.layers import device_conditions
from mock_device.checks.nodes import session
from mock_device.checks.objects import churn, kube, namespaces, pods
from mock_device.checks.objects.claims import DeviceClass, function_of
from mock_device.checks.objects.pod_claims import EXTENDED_RESOURCE_PREFIX
from mock_device.checks.waiting import Deadline
from mock_device.lab.base.paths import PROJECT

EXAMPLES = PROJECT / "docs" / "examples"


@library(scope="GLOBAL", auto_keywords=False)
class KubernetesLibrary:
    """Makes pods, waits for them, looks into them, and takes them away.

    Everything is made in namespace ``default`` with a label, by which
    `Delete Everything Made By Tests` finds it again. Timeouts are wall time.
    """

    @keyword
    def apply_example(self, name: str) -> None:
        """Apply ``docs/examples/<name>.yaml`` as a reader of it would."""
        path = EXAMPLES / f"{name}.yaml"
        if not path.is_file():
            there = ", ".join(sorted(example.stem for example in EXAMPLES.glob("*.yaml"))) or "none"
            raise CheckError(f"there is no example {path}; there are {there}")
        logger.info(", ".join(kube.apply_manifest(session.current().api, path.read_text())))

    @keyword
    def create_pod(
        self,
        name: str,
        *claims: str,
        node: str | None = None,
        template: str | None = None,
        host_users: bool = True,
        restart: bool = False,
    ) -> None:
        """Make a pod with one idle container that has all devices of ``claims``.

        With ``template``, it has those of a claim that is made from that template
        as well. With ``node``, the scheduler may put it on that node only. Without
        ``host_users`` it has a user namespace of its own. With ``restart`` its
        container is started again after it ended, as after a reboot of the node.
        """
        body = pods.build(name, claims, node, kube.LABELS, template=template, host_users=host_users, restart=restart)
        kube.create_pod(session.current().api, body)

    @keyword
    def create_pod_with_containers(self, name: str, **containers: str) -> None:
        """Make a pod with several idle containers, each given as ``container=claim``, of which it has the devices."""
        claims = list(dict.fromkeys(containers.values()))
        used = {container: [claim] for container, claim in containers.items()}
        kube.create_pod(session.current().api, pods.build(name, claims, None, kube.LABELS, containers=used))

    @keyword
    def create_pod_with_extended_resource(self, name: str, device_class: DeviceClass, count: int) -> None:
        """Make a pod that asks for ``count`` devices of a DeviceClass without a claim, as for an extended resource.

        Its name is ``deviceclass.resource.kubernetes.io/`` with that of the class. The scheduler makes the claim.
        """
        resources = {f"{EXTENDED_RESOURCE_PREFIX}{device_class.value}": count}
        kube.create_pod(session.current().api, pods.build(name, [], None, kube.LABELS, resources=resources))

    @keyword(tags=["wait"])
    def pod_should_be_running(self, name: str, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Wait until the pod runs and its containers are ready.

        Fails with the scheduler's reason, what its claims ask for, how many
        devices are free, and the pod's last event.
        """
        pod = kube.wait_pod(session.current().api, name, pods.runs, timeout, "Running")
        logger.info(f"{name} runs on {pod['spec']['nodeName']}")

    @keyword(tags=["wait"])
    def pods_should_be_running(self, *names: str, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Wait until all pods run; like `Pod Should Be Running`, with ``timeout`` for all of them together."""
        deadline = Deadline(timeout)
        for name in names:
            self.pod_should_be_running(name, deadline.left())

    @keyword(tags=["wait"])
    def pod_should_stay_pending(
        self,
        name: str,
        because: str = "cannot allocate all claims",
        timeout: timedelta = timedelta(seconds=60),
    ) -> str:
        """Wait until the scheduler says that it has no place for the pod, and return its reason.

        ``because`` must be part of the reason. A pod that is scheduled instead fails.
        """

        def decided(pod: kube.Object) -> bool:
            return because in (pods.unschedulable_reason(pod) or "") or bool(pod["spec"].get("nodeName"))

        expected = f"Pending because {because!r}"
        pod = kube.wait_pod(session.current().api, name, decided, timeout, expected)
        if place := pod["spec"].get("nodeName"):
            raise CheckError(f"pod {name!r}: expected it to be {expected}, but the scheduler put it on {place}")
        reason = pods.unschedulable_reason(pod) or ""
        logger.info(f"{name} waits: {reason}")
        return reason

    @keyword(tags=["wait"])
    def delete_pod(self, name: str, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Delete the pod and wait until it is gone, its devices given back."""
        kube.delete_pod(session.current().api, name, timeout)

    @keyword
    def execute_in_pod(self, name: str, *command: str, timeout: timedelta = timedelta(seconds=60)) -> str:
        """Run a command (not a shell line) in the pod's container and return what it prints; fails when it does."""
        return kube.execute(session.current().api, name, list(command), timeout)

    @keyword
    def container_should_see_exactly_its_devices(
        self, pod: str, container: str | None = None, timeout: timedelta = timedelta(seconds=60)
    ) -> None:
        """Check from inside the container: environment, ``/sys/class/mock-accel``, and where its links lead.

        Names, UUIDs, PCI addresses, NUMA nodes and parents of VFs must be those
        that the topology has for the devices that the container uses, and no other
        device may show. ``container`` may be left out when the pod has only one.
        """
        current = session.current()
        devices = kube.devices_of_pod(current.api, pod, container)
        functions = [function_of(current.topology, device) for device in devices]
        output = kube.execute(current.api, pod, ["sh", "-c", pods.PROBE], timeout, container)
        logger.info(output)
        node = current.topology.node(devices[0].node)
        where = f"pod {pod}, container {container}" if container else f"pod {pod}"
        if complaints := pods.view_complaints(pods.parse_view(output), node, functions):
            raise CheckError("\n".join(f"{where}: {complaint}" for complaint in complaints))

    @keyword(tags=["wait"])
    def delete_everything_made_by_tests(self, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Delete pods, claims and templates that this or an earlier run made, and wait until they are gone."""
        kube.delete_everything(session.current().api, timeout)

    @keyword
    def start_deleting_pod(self, name: str) -> None:
        """Delete the pod without waiting."""
        kube.start_deleting_pod(session.current().api, name)

    @keyword
    def delete_pod_by_force(self, name: str) -> None:
        """Let the API server forget the pod at once, while its container may still run."""
        kube.start_deleting_pod(session.current().api, name, by_force=True)

    @keyword(tags=["wait"])
    def wait_until_pod_is_gone(self, name: str, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Wait until a pod that is being deleted is gone."""
        kube.wait_pod_gone(session.current().api, name, timeout)

    @keyword
    def create_and_delete_pods_with_claims(self, count: int, node: str) -> None:
        """Make ``count`` pods with a claim each for ``node``, one after the other, and delete each soon."""
        ran = churn.churn(session.current().api, count, node)
        logger.info(f"{ran} of {count} pods had got to run")

    @keyword(tags=["wait"])
    def run_pod_in_namespace(
        self, namespace: str, name: str, node: str, timeout: timedelta = timedelta(minutes=10)
    ) -> None:
        """Make ``namespace`` with a claim and a pod for ``node`` that uses it, and wait until that runs."""
        namespaces.run_in_namespace(session.current().api, namespace, name, node, timeout)

    @keyword(tags=["wait"])
    def delete_namespace(self, name: str, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Delete a namespace with all in it, and wait until it is gone."""
        namespaces.delete_namespace(session.current().api, name, timeout)

    @keyword(tags=["wait"])
    def pod_should_report_health(self, pod: str, health: str, timeout: timedelta = timedelta(minutes=5)) -> None:
        """Wait until the pod's status says ``health`` of all its devices: Healthy, Unhealthy or Unknown."""

        def done(item: kube.Object) -> bool:
            return set(device_conditions.device_health(item)) == {health}

        kube.wait_pod(session.current().api, pod, done, timeout, f"with devices that are {health}")
