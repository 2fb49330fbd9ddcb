"""Robot Framework library: pods and namespaces of tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import CheckError, fail_if_any
from mock_device.checks.layers import device_conditions
from mock_device.checks.layers.allocation import function_of
from mock_device.checks.nodes import cdi_edits, session
from mock_device.checks.objects import churn, clean_up, kube, namespaces, pod_claims, pods, runtime_handlers
from mock_device.checks.waiting import Deadline
from mock_device.driver import current
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.timeouts import Timeout

EXAMPLES = PROJECT / "docs" / "examples"


@library(scope="GLOBAL", auto_keywords=False)
class KubernetesLibrary:
    """Creates pods, waits for them, looks into their containers, and deletes them.

    Objects are in the namespace of the kubeconfig's context, ``default`` on the lab's own clusters. They have a
    label, by which `Delete Everything Made By Tests` finds them. Timeouts are wall time.
    """

    @keyword
    def apply_example(self, name: str) -> None:
        """Apply ``docs/examples/<name>.yaml``, as a reader does."""
        path = EXAMPLES / f"{name}.yaml"
        if not path.is_file():
            there = ", ".join(sorted(example.stem for example in EXAMPLES.glob("*.yaml"))) or "none"
            raise CheckError(f"expected an example {name!r}, found {there} in {EXAMPLES}")
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
        as_root: bool = False,
        runtime: str | None = None,
        group: str | None = None,
    ) -> None:
        """Create a pod with one idle container that uses all devices of ``claims``.

        With ``template``, it also uses a claim that is created from that template.
        With ``node``, the scheduler must place it there. Without ``host_users``, it
        has its own user namespace. With ``restart``, its container restarts whenever
        it ends, for example after a reboot of the node. With ``as_root`` it runs as
        user 0, without the restrictions that other pods of tests have. ``runtime`` is
        an OCI runtime that the node has beside its default. ``group`` is the pod's
        PodGroup, with which it shares the claim from ``template`` if the group names it, too.
        """
        api = session.current().api
        body = pods.build(
            name,
            claims,
            node,
            kube.LABELS,
            template=template,
            host_users=host_users,
            restart=restart,
            as_root=as_root,
            runtime_class=runtime_handlers.apply_class(api, runtime) if runtime else None,
            group=group,
        )
        kube.create_pod(api, body)

    @keyword
    def create_pod_with_containers(self, name: str, **containers: str) -> None:
        """Create a pod with several idle containers, given as ``container=claim``; each uses its claim's devices.

        With ``container=claim/request`` it uses those of one request.
        """
        claims = list(dict.fromkeys(claim.partition("/")[0] for claim in containers.values()))
        used = {container: [claim] for container, claim in containers.items()}
        kube.create_pod(session.current().api, pods.build(name, claims, None, kube.LABELS, containers=used))

    @keyword
    def create_pod_with_init_container(self, name: str, claim: str) -> None:
        """Create a pod whose init container ``first`` and container ``main`` both use the devices of ``claim``.

        The init container logs what it sees of them, and ends.
        """
        body = pods.build(name, [claim], None, kube.LABELS)
        pods.add_init_container(body, "first", claim, cdi_edits.CONTAINER_PROBE)
        kube.create_pod(session.current().api, body)

    @keyword
    def create_pod_with_extended_resource(
        self, name: str, resource: str, count: int, containers: Sequence[str] = ("main",)
    ) -> None:
        """Create a pod whose ``containers`` request ``count`` each of the extended ``resource``, without a claim.

        A DeviceClass offers it by its own name for it (``&{EXTENDED_RESOURCE}``), or as
        ``deviceclass.resource.kubernetes.io/CLASS``. The scheduler creates the claim.
        """
        used: dict[str, list[str]] = {container: [] for container in containers}
        body = pods.build(name, [], None, kube.LABELS, containers=used, resources={resource: count})
        kube.create_pod(session.current().api, body)

    @keyword
    def pod_should_name_no_claim(self, name: str) -> None:
        """Check that no claim is in the pod's specification: the scheduler made its claims from extended resources."""
        fail_if_any(f"pod {name!r}: {complaint}" for complaint in pod_claims.named_complaints(_pod(name)))

    @keyword(tags=["wait"])
    def pod_should_be_running(self, name: str, timeout: timedelta = Timeout.POD.nominal) -> None:
        """Wait until the pod runs and its containers are ready.

        Fails with the scheduler's reason, the requests of its claims, the number of
        free devices, and the pod's last event.
        """
        pod = kube.wait_pod(session.current().api, name, pods.runs, timeout, "Running")
        logger.info(f"{name} runs on {pod['spec']['nodeName']}")

    @keyword(tags=["wait"])
    def pods_should_be_running(self, *names: str, timeout: timedelta = Timeout.POD.nominal) -> None:
        """Wait until all pods run, as `Pod Should Be Running` does, within one ``timeout`` for all of them."""
        deadline = Deadline(timeout)
        for name in names:
            self.pod_should_be_running(name, deadline.left())

    @keyword(tags=["wait"])
    def pod_should_stay_pending(
        self,
        name: str,
        because: str = "cannot allocate all claims",
        timeout: timedelta = Timeout.POD_PENDING.nominal,
    ) -> str:
        """Wait until the scheduler reports that it cannot place the pod, and return its reason.

        The reason must contain ``because``. Fails when the pod is placed instead.
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
    def delete_pod(self, name: str, timeout: timedelta = Timeout.DELETED.nominal) -> None:
        """Delete the pod, and wait until it is gone."""
        kube.delete_pod(session.current().api, name, timeout)

    @keyword
    def execute_in_pod(self, name: str, *command: str, timeout: timedelta = Timeout.POD_COMMAND.nominal) -> str:
        """Run ``command``, its arguments in separate cells, in the pod's container, and return its output."""
        return kube.execute(session.current().api, name, list(command), timeout)

    @keyword
    def container_should_see_exactly_its_devices(
        self, pod: str, container: str | None = None, timeout: timedelta = Timeout.POD_COMMAND.nominal
    ) -> None:
        """Check from inside the container its environment, ``/sys/class/mock-accel`` and the targets of its links.

        They must show exactly the container's devices, with the topology's names,
        UUIDs, PCI addresses, NUMA nodes and parents of VFs. ``container`` is optional
        for a pod with one container.

        What the driver does not promise is not judged: variables that it does not
        describe (``environment``), and the view of sysfs (``sysfs-view``).
        """
        used = session.current()
        devices = kube.devices_of_pod(used.api, pod, container)
        if not current.driver().offers & {"environment", "sysfs-view"}:
            logger.info(f"{current.driver().name} promises nothing of what a container sees")
            return
        functions = [function_of(used.topology, device) for device in devices]
        output = kube.execute(used.api, pod, ["sh", "-c", pods.probe()], timeout, container)
        logger.info(output)
        node = used.topology.node(devices[0].node)
        where = f"pod {pod}, container {container}" if container else f"pod {pod}"
        complaints = pods.view_complaints(pods.parse_view(output), node, functions)
        fail_if_any(f"{where}: {complaint}" for complaint in complaints)

    @keyword(tags=["wait"])
    def delete_everything_made_by_tests(self, timeout: timedelta = Timeout.DELETED.nominal) -> None:
        """Delete all that tests of this run and of earlier runs made, and wait until it is gone."""
        clean_up.delete_everything(session.current().api, timeout)

    @keyword
    def start_deleting_pod(self, name: str) -> None:
        """Delete the pod, without waiting until it is gone."""
        kube.start_deleting_pod(session.current().api, name)

    @keyword
    def delete_pod_by_force(self, name: str) -> None:
        """Delete the pod with grace period 0: the API server forgets it at once, while its container may still run."""
        kube.start_deleting_pod(session.current().api, name, by_force=True)

    @keyword(tags=["wait"])
    def wait_until_pod_is_gone(self, name: str, timeout: timedelta = Timeout.DELETED.nominal) -> None:
        """Wait until a pod that is being deleted is gone."""
        kube.wait_pod_gone(session.current().api, name, timeout)

    @keyword
    def create_and_delete_pods_with_claims(self, count: int, node: str) -> None:
        """Create ``count`` pods with a claim each for ``node``, one by one, and delete each soon after."""
        ran = churn.churn(session.current().api, count, node)
        logger.info(f"{ran} of {count} pods were running when they were deleted")

    @keyword
    def pod_should_not_have_event(self, name: str, reason: str) -> None:
        """Check that the pod has had no event with ``reason``."""
        api = session.current().api
        events = kube.events_of(api, kube.get_pod(api, name))
        found = [f"{event.reason}: {event.message}" for event in events if event.reason == reason]
        fail_if_any(found, f"pod {name!r}: expected no event {reason}, found:")

    @keyword(tags=["wait"])
    def run_pod_in_namespace(
        self, namespace: str, name: str, node: str, timeout: timedelta = Timeout.POD.nominal
    ) -> None:
        """Create ``namespace`` with a claim and a pod for ``node`` that uses it, and wait until the pod runs."""
        namespaces.run_in_namespace(session.current().api, namespace, name, node, timeout)

    @keyword(tags=["wait"])
    def delete_namespace(self, name: str, timeout: timedelta = Timeout.DELETED.nominal) -> None:
        """Delete a namespace with everything in it, and wait until it is gone."""
        namespaces.delete_namespace(session.current().api, name, timeout)

    @keyword(tags=["wait"])
    def pod_should_report_health(
        self, pod: str, health: str, message: str = "", timeout: timedelta = Timeout.CLAIM_REPORT.nominal
    ) -> None:
        """Wait until the pod's status reports ``health`` (Healthy, Unhealthy or Unknown) for all its devices.

        With ``message``, the status must also have that text in the message of each device.
        """

        def done(item: kube.Object) -> bool:
            says = all(message in text for text in device_conditions.device_messages(item))
            return says and set(device_conditions.device_health(item)) == {health}

        about = f" ({message})" if message else ""
        kube.wait_pod(session.current().api, pod, done, timeout, f"with devices that are {health}{about}")


def _pod(name: str) -> kube.Object:
    return kube.get_pod(session.current().api, name)
