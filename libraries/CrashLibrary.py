"""Robot Framework library: lets parts of a node die and come back, and checks that nothing is lost."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import crashes, driver
from mock_device.checks.errors import CheckError
from mock_device.checks.layers import device_conditions
from mock_device.checks.nodes import session
from mock_device.checks.objects import coming_and_going, kube
from mock_device.checks.waiting import until_no_complaints


@library(scope="GLOBAL", auto_keywords=False)
class CrashLibrary:
    """For suites that prove that the driver survives."""

    @keyword(tags=["wait"])
    def kill_node_agent(self, node: str, timeout: timedelta = timedelta(minutes=15)) -> None:
        """kill -9 of the node agent's process on ``node``, and wait until the kubelet has started it again."""
        crashes.kill_agent(session.current(), node, timeout)

    @keyword(tags=["wait"])
    def restart_kubelet(self, node: str, timeout: timedelta = timedelta(minutes=5)) -> None:
        """Restart the kubelet of ``node``, and wait until it knows its pods again."""
        crashes.restart_kubelet(session.current(), node, timeout)

    @keyword(tags=["wait"])
    def restart_containerd(self, node: str, timeout: timedelta = timedelta(minutes=5)) -> None:
        """Restart containerd of ``node``, and wait until the kubelet has found it again; containers go on."""
        crashes.restart_containerd(session.current(), node, timeout)

    @keyword(tags=["wait"])
    def reboot_node(self, node: str, timeout: timedelta = timedelta(minutes=15)) -> None:
        """Reboot the guest and wait until the node is Ready again."""
        crashes.reboot(session.current(), node, timeout)

    @keyword(tags=["wait"])
    def cut_power_of_node(self, node: str, timeout: timedelta = timedelta(minutes=15)) -> None:
        """Reset the guest while it writes, with nothing ended or synced, and wait until the node is Ready again."""
        crashes.cut_power(session.current(), node, timeout)

    @keyword(tags=["wait"])
    def node_agent_should_have_registered_within(
        self, node: str, limit: timedelta, timeout: timedelta = timedelta(minutes=10)
    ) -> None:
        """Check how long the node agent on ``node`` took from its start until the kubelet knew it.

        Waits up to ``timeout`` until the agent answers: after a power cut it has to start first.
        """
        seconds = crashes.seconds_until_registered(session.current().api, node, timeout)
        logger.info(f"node agent on {node}: {seconds:.1f} s")
        if seconds > limit.total_seconds():
            raise CheckError(
                f"node agent on {node}: expected the kubelet to have registered it within "
                f"{limit.total_seconds():.0f} s of its start, it took {seconds:.1f} s; look at the kubelet's journal: "
                f"lab ssh {node} journalctl -u kubelet"
            )

    @keyword(name="Cut Node Off From API Server", tags=["wait"])
    def cut_node_off_from_api_server(self, node: str, duration: timedelta) -> None:
        """Drop what kubelet and pods of ``node`` send to the API server for ``duration``, and wait for its end."""
        crashes.cut_off_api(session.current(), node, int(duration.total_seconds()))

    @keyword(name="Protect CDI Folder")
    def protect_cdi_folder(self, node: str) -> None:
        """Make the CDI folder of ``node`` immutable, also for root."""
        crashes.protect_cdi_folder(session.current(), node)

    @keyword(name="Unprotect CDI Folder")
    def unprotect_cdi_folder(self, node: str) -> None:
        """Let the CDI folder of ``node`` be written again."""
        crashes.unprotect_cdi_folder(session.current(), node)

    @keyword
    def write_status_register(self, node: str, device: str, value: int) -> None:
        """Write the status register of ``device`` on ``node`` as its administrator could, past the driver."""
        crashes.write_status(session.current(), node, device, value)

    @keyword(tags=["wait"])
    def status_register_should_become(
        self, node: str, device: str, value: int, timeout: timedelta = timedelta(seconds=25)
    ) -> None:
        """Wait until the status register has ``value``; by default not as long as from one rescan to the next."""
        crashes.wait_status(session.current(), node, device, value, timeout)

    @keyword
    def replace_checkpoint(self, node: str, content: str) -> None:
        """Write ``content`` over the driver's checkpoint of ``node``."""
        crashes.write_checkpoint(session.current(), node, content)

    @keyword
    def change_checkpoint_version(self, node: str, version: int) -> None:
        """Rewrite the driver's checkpoint of ``node`` in ``version`` of its format, older or newer than its own."""
        current = session.current()
        crashes.write_checkpoint(current, node, crashes.of_version(crashes.read_checkpoints(current)[node], version))

    @keyword(tags=["wait"])
    def checkpoints_should_record_claims_in_use(self, timeout: timedelta = timedelta(minutes=3)) -> None:
        """Wait until the nodes' checkpoints have the claims that pods use, and no others."""
        current = session.current()

        def complaints() -> list[str]:
            try:
                found = crashes.read_checkpoints(current)
            except CheckError as error:  # one that a test has broken, and the driver has not rebuilt yet
                return [str(error)]
            return crashes.checkpoint_complaints(found, kube.all_claims(current.api))

        until_no_complaints(complaints, timeout, "checkpoints against claims")

    @keyword
    def no_device_should_be_given_twice(self) -> None:
        """Check that no device is allocated to more than one claim of the cluster."""
        api = session.current().api
        devices = kube.allocated_devices(api)
        logger.info(f"{len(devices)} devices are allocated")
        if found := crashes.given_twice(devices):
            raise CheckError("\n".join(found))

    @keyword(tags=["wait"])
    def let_node_agents_die_at_write(self, number: int, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Let every run of the node agents end as by kill -9 at its ``number``-th write.

        They restart. `Reset Node Agent Settings` takes it back.
        """
        current = session.current()
        driver.set_agent_environment(current.api, {"FAULT_AT": str(number)}, len(current.node_names), timeout)

    @keyword(tags=["wait"])
    def node_agent_should_have_died(self, node: str, timeout: timedelta = timedelta(minutes=5)) -> None:
        """Wait until the node agent's container on ``node`` has been started again once."""
        crashes.wait_agent_died(session.current().api, node, timeout)

    @keyword(tags=["wait"])
    def wait_until_no_node_agent_runs(self, timeout: timedelta = timedelta(minutes=5)) -> None:
        """Wait until the last pod of the node agents is gone."""
        coming_and_going.wait_no_agent(session.current().api, timeout)

    @keyword
    def start_rolling_update_of_node_agents(self) -> None:
        """Replace the node agents one after the other, as ``kubectl rollout restart`` does; does not wait."""
        coming_and_going.start_rolling_update(session.current().api)

    @keyword(tags=["wait"])
    def wait_until_rolling_update_is_complete(self, timeout: timedelta = timedelta(minutes=15)) -> None:
        """Wait until the newest node agent runs on every node, and no older one."""
        current = session.current()
        driver.wait_ready(current.api, len(current.node_names), timeout)

    @keyword
    def start_deleting_pod(self, name: str) -> None:
        """Delete the pod without waiting."""
        coming_and_going.start_deleting_pod(session.current().api, name)

    @keyword
    def delete_pod_by_force(self, name: str) -> None:
        """Let the API server forget the pod at once, while its container may still run."""
        coming_and_going.start_deleting_pod(session.current().api, name, by_force=True)

    @keyword(tags=["wait"])
    def wait_until_pod_is_gone(self, name: str, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Wait until a pod that is being deleted is gone."""
        kube.wait_pod_gone(session.current().api, name, timeout)

    @keyword
    def delete_claim(self, name: str) -> None:
        """Delete the claim without waiting; it goes when no pod uses it."""
        coming_and_going.delete_claim(session.current().api, name)

    @keyword(tags=["wait"])
    def run_pod_in_namespace(
        self, namespace: str, name: str, node: str, timeout: timedelta = timedelta(minutes=10)
    ) -> None:
        """Make ``namespace`` with a claim and a pod for ``node`` that uses it, and wait until that runs."""
        coming_and_going.run_in_namespace(session.current().api, namespace, name, node, timeout)

    @keyword(tags=["wait"])
    def delete_namespace(self, name: str, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Delete a namespace with all in it, and wait until it is gone."""
        coming_and_going.delete_namespace(session.current().api, name, timeout)

    @keyword
    def create_and_delete_pods_with_claims(self, count: int, node: str) -> None:
        """Make ``count`` pods with a claim each for ``node``, one after the other, and delete each soon."""
        ran = coming_and_going.churn(session.current().api, count, node)
        logger.info(f"{ran} of {count} pods had got to run")

    @keyword(tags=["wait"])
    def device_should_be_tainted(
        self, node: str, device: str, value: str, timeout: timedelta = timedelta(minutes=3)
    ) -> None:
        """Wait until the device (name in sysfs) is published with a taint of that ``value``."""
        _wait_for_taint(node, device, value, timeout)

    @keyword(tags=["wait"])
    def device_should_not_be_tainted(self, node: str, device: str, timeout: timedelta = timedelta(minutes=3)) -> None:
        """Wait until the device (name in sysfs) is published without a taint."""
        _wait_for_taint(node, device, "", timeout)

    @keyword(tags=["wait"])
    def pod_should_report_health(self, pod: str, health: str, timeout: timedelta = timedelta(minutes=5)) -> None:
        """Wait until the pod's status says ``health`` of all its devices: Healthy, Unhealthy or Unknown."""

        def done(item: kube.Object) -> bool:
            return set(device_conditions.device_health(item)) == {health}

        kube.wait_pod(session.current().api, pod, done, timeout, f"with devices that are {health}")

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

    @keyword
    def kernel_module_should_refuse_to_unload(self, node: str) -> None:
        """Check that ``modprobe -r`` on ``node`` is refused because the module is in use."""
        try:
            driver.unload_module(session.current().api, node)
        except CheckError as error:
            if "in use" not in str(error):
                raise CheckError(f"{node}: expected 'in use' as the reason, found: {error}") from error
            logger.info(str(error))
            return
        raise CheckError(f"{node}: expected that the kernel module stays while a device is in use, it was unloaded")


def _wait_for_taint(node: str, device: str, value: str, timeout: timedelta) -> None:
    kube.wait_published(
        session.current().api,
        lambda published: device_conditions.taint_complaints(published, node, device, value),
        timeout,
        f"{device} on {node} to have {f'taint {value}' if value else 'no taint'}",
    )
