"""Reads from a cluster what ``lab diagnose`` checks, lazily and only once."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any

from kubernetes import client
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from mock_device.checks.driver import driver, metrics
from mock_device.checks.driver.driver import Component
from mock_device.checks.nodes import observe, qemu
from mock_device.checks.nodes.cdi import CdiFile
from mock_device.checks.nodes.session import Session
from mock_device.checks.nodes.sysfs import NodeDevices
from mock_device.checks.objects import kube, pod_claims, pods
from mock_device.diagnosis import folders
from mock_device.diagnosis.folders import Folder
from mock_device.diagnosis.rights import granted
from mock_device.diagnosis.snapshot import NO_LOG, WATCHED_SECONDS, Access, ContainerKey, Event, Object, name_of
from mock_device.driver import current
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster import deploy, kmm_state, module_loader
from mock_device.lab.cluster.cluster import Capability, GuestAnswer
from mock_device.lab.cluster.kmm_state import KmmState
from mock_device.lab.cluster.loader_settings import LoaderKind
from mock_device.lab.cluster.node_runtime import NodeRuntime
from mock_device.lab.kube import kubeclient
from mock_device.names import NAMESPACE

CLOCK_PROBE = "date +%s.%N"
_MANY_WRITES = 3
"""More writes than a real change causes: a VF may be written twice, with its PF and alone."""
_LOG_LINES = 200
_SERVER = "devices-"


class LiveSnapshot:
    """A running cluster; each property is read on first access and kept."""

    def __init__(self, session: Session, pod: str | None = None) -> None:
        self._session = session
        self._api = session.api
        self.topology = session.topology
        self.pod = pod

    def look_at_health(self) -> None:
        """Read everything that the steps of the health check, in parallel, because each answer may take long.

        Raises StepError, ApiException or HTTPError if the supervisor or the API server does not answer.
        """
        needed = ["_look", "nodes", "driver_pods", "slices", "loader"]
        if self.has_guests:
            _ = self.supervisor  # first and alone: its connection handles one request at a time
            needed.append("guest_answers")
        with ThreadPoolExecutor() as pool:
            for answer in [pool.submit(getattr, self, name) for name in needed]:
                answer.result()

    @property
    def has_guests(self) -> bool:
        return Capability.HOTPLUG in self._session.cluster.capabilities

    @cached_property
    def supervisor(self) -> Object:
        """The supervisor's answer to ``status``."""
        return self._session.cluster.guests.status()

    @property
    def state(self) -> str:
        return ": ".join(filter(None, (self.supervisor["state"], self.supervisor["reason"])))

    @cached_property
    def guest_answers(self) -> Mapping[str, GuestAnswer]:
        """QEMU's answers to query-status, by node."""
        seconds = min(self._session.command_seconds, Timeout.MONITOR_LOOK.seconds)
        return self._session.cluster.guests.look("query-status", seconds)

    @property
    def guests(self) -> Mapping[str, str]:
        return {
            node: answer.error.removeprefix(f"{node}: ") or answer.value["status"]
            for node, answer in self.guest_answers.items()
        }

    @property
    def servers(self) -> Mapping[str, int | None]:
        return {
            process["name"].removeprefix(_SERVER): process["exit_code"]
            for process in self.supervisor["processes"]
            if process["name"].startswith(_SERVER)
        }

    @cached_property
    def clocks(self) -> Mapping[str, float]:
        before = time.time()
        outputs = self._session.on_nodes(CLOCK_PROBE)
        return {node: ahead(float(output), before, time.time()) for node, output in outputs.items()}

    @cached_property
    def nodes(self) -> Mapping[str, Object]:
        return {node["metadata"]["name"]: node for node in self._list(client.CoreV1Api(self._api).list_node)}

    @cached_property
    def plugged(self) -> Mapping[str, Mapping[str, str]]:
        found = {}
        for node, answer in self._session.cluster.guests.look("query-pci", self._session.cluster.look_seconds).items():
            if answer.error:
                raise StepError(answer.error)
            found[node] = qemu.accelerators(answer.value)
        return found

    @cached_property
    def _look(self) -> tuple[list[NodeDevices], dict[str, str]]:
        return observe.look_at_devices(self._session)

    @property
    def devices(self) -> Sequence[NodeDevices]:
        return self._look[0]

    @property
    def silent(self) -> Mapping[str, str]:
        return self._look[1]

    @cached_property
    def loader(self) -> LoaderKind:
        """What loads the kernel module."""
        return module_loader.found_in(self._api)

    @cached_property
    def kmm(self) -> KmmState | None:
        return kmm_state.read(self._api) if self.loader is LoaderKind.KMM else None

    @cached_property
    def daemon_set(self) -> Object | None:
        lister = client.AppsV1Api(self._api).list_namespaced_daemon_set
        used = current.driver()
        selector = f"metadata.name={used.node_agent.workload}"
        found = self._list(lister, namespace=used.namespace, field_selector=selector)
        return found[0] if found else None

    @cached_property
    def agents(self) -> Sequence[Object]:
        return self._pods_of(Component.NODE_AGENT)

    @cached_property
    def agent_logs(self) -> Mapping[str, str]:
        # Skip log lines from before the cluster was restored.
        since = max(1, int(time.time() - self.supervisor["started"])) if self.has_guests else None
        logs = {}
        for agent in self.agents:
            name = agent["metadata"]["name"]
            try:
                log = driver.log_of(self._api, name, tail_lines=_LOG_LINES, since_seconds=since)
            except ApiException as error:  # a container that has not started, or a kubelet that refuses
                log = f"{NO_LOG}{kubeclient.refusal(error)}"
            except HTTPError as error:
                log = f"{NO_LOG}{error}"
            logs[agent["spec"].get("nodeName", "")] = log
        return logs

    @cached_property
    def agent_metrics(self) -> Mapping[str, str]:
        if "metrics" not in current.driver().promises:
            return {}
        return {agent["spec"]["nodeName"]: metrics.read(self._api, agent["metadata"]["name"]) for agent in self.agents}

    @cached_property
    def refused(self) -> Sequence[Access]:
        review = client.AuthorizationV1Api(self._api).create_subject_access_review
        refused = []
        used = current.driver()
        for access in granted(deploy.objects_of(used)):
            user = f"system:serviceaccount:{used.namespace}:{access.account}"
            resource, _, subresource = access.resource.partition("/")
            spec = client.V1SubjectAccessReviewSpec(
                user=user,
                resource_attributes=client.V1ResourceAttributes(
                    verb=access.verb,
                    group=access.group,
                    resource=resource,
                    subresource=subresource or None,
                    name=access.name or None,
                ),
            )
            answer: Any = review(client.V1SubjectAccessReview(spec=spec))
            if not answer.status.allowed:
                refused.append(access)
        return refused

    @cached_property
    def slices(self) -> Sequence[Object]:
        return self._list(client.ResourceV1Api(self._api).list_resource_slice)

    @cached_property
    def rewrites(self) -> Mapping[str, int]:
        if self._seconds_since_write() > WATCHED_SECONDS:
            return {}
        first: dict[str, int] = {}
        grown: dict[str, int] = {}

        def rewritten(found: Mapping[str, Any]) -> bool:
            for item in found.values():
                if item.spec.driver == current.driver().name:
                    pool = item.spec.pool
                    grown[pool.name] = pool.generation - first.setdefault(pool.name, pool.generation)
            return any(count >= _MANY_WRITES for count in grown.values())

        kubeclient.watch_until(client.ResourceV1Api(self._api).list_resource_slice, rewritten, WATCHED_SECONDS)
        return {name: count for name, count in grown.items() if count >= _MANY_WRITES}

    def _seconds_since_write(self) -> float:
        """By the API server's clock, rounded down: since the last write of one of the driver's slices; 0 if unknown."""
        listing, _, headers = client.ResourceV1Api(self._api).list_resource_slice_with_http_info()
        now = parsedate_to_datetime(headers["Date"])
        ours: list[Any] = [item for item in listing.items if item.spec.driver == current.driver().name]
        writes = [entry.time for item in ours for entry in item.metadata.managed_fields or () if entry.time]
        # Times of fields are cut to seconds, and so is the date of the answer.
        return (now - max(writes)).total_seconds() - 1 if writes else 0.0

    @cached_property
    def driver_pods(self) -> Sequence[Object]:
        lister = client.CoreV1Api(self._api).list_namespaced_pod
        # The module's loader is in the project's namespace.
        namespaces = dict.fromkeys((current.driver().namespace, NAMESPACE))
        return [pod for namespace in namespaces for pod in self._list(lister, namespace=namespace)]

    @cached_property
    def controllers(self) -> Sequence[Object]:
        return self._pods_of(Component.CONTROLLER)

    @cached_property
    def device_classes(self) -> Sequence[Object]:
        return self._list(client.ResourceV1Api(self._api).list_device_class)

    @cached_property
    def taint_rules(self) -> Sequence[Object]:
        try:
            return self._list(client.ResourceV1Api(self._api).list_device_taint_rule)
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:  # feature gate DRADeviceTaintRules is off
                raise
            return []

    @cached_property
    def claims(self) -> Sequence[Object]:
        # Read claims after pods: in the opposite order, a pod may be scheduled, and its claims allocated, in between.
        _ = self.pods
        return kube.all_claims(self._api)

    @cached_property
    def templates(self) -> Sequence[str]:
        lister = client.ResourceV1Api(self._api).list_resource_claim_template_for_all_namespaces
        return [f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in self._list(lister)]

    @cached_property
    def pods(self) -> Sequence[Object]:
        found = self._list(client.CoreV1Api(self._api).list_pod_for_all_namespaces)
        kept = [pod for pod in found if not pods.has_ended(pod) and "deletionTimestamp" not in pod["metadata"]]
        return [pod for pod in kept if pod_claims.of_pod(pod) or pod_claims.extended_requests(pod, self.device_classes)]

    @cached_property
    def events(self) -> Mapping[str, Sequence[Event]]:
        core = client.CoreV1Api(self._api)
        result = {}
        for pod in self.pods:
            if pods.runs(pod):
                continue
            namespace = pod["metadata"]["namespace"]
            selector = f"involvedObject.uid={pod['metadata']['uid']},type=Warning"
            found = self._list(core.list_namespaced_event, namespace=namespace, field_selector=selector)
            found.sort(key=lambda event: event.get("lastTimestamp") or event["metadata"]["creationTimestamp"])
            result[name_of(pod)] = [Event(item["reason"], item.get("message", "")) for item in found]
        return result

    @cached_property
    def cdi_folders(self) -> Mapping[str, Folder]:
        outputs = self._session.on_nodes(folders.PROBE)
        return {node: folders.parse(node, output) for node, output in outputs.items()}

    @cached_property
    def agent_folders(self) -> Mapping[str, Folder]:
        found: dict[str, Folder] = {}
        if "project-agent" not in current.driver().promises:
            return found
        for agent in self.agents:
            name, node = agent["metadata"]["name"], agent["spec"]["nodeName"]
            command = ["/usr/bin/python3", "-c", folders.AGENT_PROBE]
            output = kube.execute(
                self._api, name, command, Timeout.POD_COMMAND.nominal, namespace=current.driver().namespace
            )
            found[node] = folders.parse(node, output)
        return found

    @cached_property
    def cdi_files(self) -> Sequence[CdiFile]:
        return observe.read_cdi_files(self._session)

    @cached_property
    def configs(self) -> Mapping[str, str]:
        return self._session.on_nodes(lambda found: found.dump_config)

    @property
    def default_runtime(self) -> str:
        return self._session.cluster.default_runtime

    @property
    def runtimes(self) -> Mapping[str, NodeRuntime]:
        return self._session.runtimes()

    def has_image(self, node: str, image: str) -> bool:
        found = self._session.runtime(node)
        by_ctr, by_crictl = ["images", "ls", "-q", f"name=={image}"], ["images", "-q", image]
        listed = [*found.ctr, *by_ctr] if found.ctr else [*found.crictl, *by_crictl]
        return bool(self._session.on_node(node, shlex.join(listed)).strip())

    def view(self, container: ContainerKey) -> str:
        namespace, pod, name = container
        return kube.execute(self._api, pod, ["sh", "-c", pods.probe()], Timeout.POD_COMMAND.nominal, name, namespace)

    def _pods_of(self, component: Component) -> list[Object]:
        return [kubeclient.as_json(self._api, pod) for pod in driver.pods(self._api, component).values()]

    def _list(self, lister: Any, **selection: str) -> list[Object]:
        items = lister(**selection).items
        return [kubeclient.as_json(self._api, item) for item in items]


def ahead(clock: float, before: float, after: float) -> float:
    """Seconds by which ``clock``, read between ``before`` and ``after``, is ahead; negative if it is behind."""
    return clock - after if clock > after else min(0.0, clock - before)
