"""Measurements of the performance suites on a cluster, in seconds of wall time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.checks.driver import driver, metrics
from mock_device.checks.driver.driver import Component
from mock_device.checks.driver.metrics import Histogram
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.session import Session
from mock_device.checks.nodes.sysfs import CLASS_FOLDER
from mock_device.checks.objects import claims, clean_up, kube, pods
from mock_device.checks.objects.claims import DeviceRequest
from mock_device.checks.waiting import until_no_complaints
from mock_device.lab.base import timeouts
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.kube import kubeclient

# Makes the kernel announce the first device again (KOBJ_ADD), after which the node agent scans all devices.
_ANNOUNCE = f'for d in {CLASS_FOLDER}/*; do echo add >"$d/uevent"; exit; done'
_WATCH_SECONDS = 10.0
"""Watch time-out, after which errors of pod creation are noticed."""

# Runs in the node agent's container, which has the node's sysfs. Reads every attribute of each device, like the driver.
_READ = """
import os, sys, time
root = "/host-sys/class/mock-accel/"
for _ in range(int(sys.argv[1])):
    for name in os.listdir(root):
        begin = time.perf_counter()
        for attribute in ("uuid", "memory_size", "numa_node", "capabilities", "status"):
            with open(root + name + "/" + attribute) as file:
                file.read()
        print(name, time.perf_counter() - begin)
"""

LABELS = {**kube.LABELS, "mock-device/measured": "pods"}
_SELECTOR = ",".join(f"{name}={value}" for name, value in LABELS.items())


def agent_starts(session: Session, node: str, times: int) -> list[float]:
    """Restart the agent of ``node`` ``times`` times; seconds from each start until the kubelet had registered it."""
    nodes = len(session.topology.nodes)
    found = []
    for _ in range(times):
        driver.restart(session.api, Component.NODE_AGENT, node, nodes, Timeout.AGENT_RESTART.nominal)
        text = metrics.read(session.api, driver.pod_of(session.api, Component.NODE_AGENT, node))
        found.append(metrics.parse_value(text, metrics.START))
    return found


def scans(session: Session, node: str, times: int) -> list[float]:
    """Durations of ``times`` scans of all devices by the node agent of ``node``, from its metrics."""
    pod = driver.pod_of(session.api, Component.NODE_AGENT, node)

    def histogram() -> Histogram:
        return metrics.parse(metrics.read(session.api, pod), metrics.SCANS)

    found = []
    for _ in range(times):
        before = histogram()
        session.on_node(node, _ANNOUNCE)
        # If a periodic rescan happens meanwhile, this is the mean of both.
        found.append(_counted(histogram, before, 1, f"scans of {pod}").mean)
    return found


def _counted(read: Callable[[], Histogram], before: Histogram, count: int, what: str) -> Histogram:
    """Wait for at least ``count`` operations since ``before`` and return them. Raises CheckError."""
    last = [Histogram()]

    def complaints() -> list[str]:
        last[0] = read().since(before)
        return [] if last[0].count >= count else [f"expected {count}, found {last[0].count}"]

    until_no_complaints(complaints, Timeout.COUNTED.nominal, f"{what}, by /metrics")
    return last[0]


def sysfs_reads(session: Session, node: str, times: int) -> list[float]:
    """Durations of reading all attributes of a device, for each device of ``node``, ``times`` times."""
    pod = driver.pod_of(session.api, Component.NODE_AGENT, node)
    command = ["/usr/bin/python3", "-I", "-c", _READ, str(times)]
    return parse_reads(
        kube.execute(session.api, pod, command, Timeout.NODE_COMMAND.nominal, namespace=driver.namespace())
    )


def parse_reads(output: str) -> list[float]:
    """Parse lines ``NAME SECONDS``. Raises CheckError if there is none or one is invalid."""
    try:
        found = [float(seconds) for _, seconds in (line.split() for line in output.splitlines())]
    except ValueError as error:
        raise CheckError(f"expected the seconds of each device, found {output[-200:]!r}") from error
    if not found:
        raise CheckError("expected the seconds of each device, found no device in sysfs of the node agent's container")
    return found


@dataclass(frozen=True)
class PodTimes:
    """Durations of the start and end of pods."""

    starts: list[float]
    """Per pod, from its creation until it ran with all containers ready."""
    all_run: float
    """From the first request (for the first claim, if there are claims) until all pods ran."""
    ends: list[float]
    """Per pod, from the one request to delete all until it was gone."""
    prepared: Histogram
    """Claims that the node agents prepared meanwhile, from their metrics."""
    unprepared: Histogram


def run_pods(session: Session, count: int, with_claims: bool, limit: timedelta) -> PodTimes:
    """Create ``count`` pods, with a claim for one device each or without claims, wait until they run, delete them.

    ``limit`` (wall time) applies to the start and to the end separately. Raises CheckError.
    """
    before = _claim_figures(session.api)
    starts, all_run = _start(session.api, count, with_claims, limit)
    ends = _end(session.api, set(starts), limit)
    expected = count if with_claims else 0

    def counted(operation: str) -> Histogram:
        what = f"claims to {operation}, of all node agents"
        return _counted(lambda: _claim_figures(session.api)[operation], before[operation], expected, what)

    prepared, unprepared = counted("prepare"), counted("unprepare")
    clean_up.delete_everything(session.api, timeouts.exactly(limit))
    return PodTimes(list(starts.values()), all_run, list(ends.values()), prepared, unprepared)


def _claim_figures(api: ApiClient) -> dict[str, Histogram]:
    """Successful operations of all node agents together, by operation."""
    texts = [metrics.read(api, pod) for pod in driver.pods(api, Component.NODE_AGENT)]
    return {
        operation: metrics.total(
            metrics.parse(text, metrics.CLAIMS, operation=operation, result="ok") for text in texts
        )
        for operation in ("prepare", "unprepare")
    }


class _Starts:
    """Records when each of ``count`` pods was created, and when a watch first showed it running."""

    def __init__(self, api: ApiClient, count: int) -> None:
        self._api = api
        self.names = [f"measured-{number}" for number in range(count)]
        self.created: dict[str, float] = {}
        self.ran: dict[str, float] = {}
        self._ended = False

    def create(self, with_claims: bool) -> None:
        """Create the claims and then the pods."""
        if with_claims:
            for name in self.names:
                kube.create_claim(self._api, claims.build(name, [DeviceRequest("device")], None, LABELS))
        for name in self.names:
            self.created[name] = time.monotonic()
            kube.create_pod(self._api, pods.build(name, [name] if with_claims else [], None, LABELS))

    def look(self, found: Mapping[str, Any]) -> bool:
        """Record which of the pods ``found`` run; True if there is nothing more to wait for."""
        now = time.monotonic()
        for name in found.keys() - self.ran.keys():
            # Skip what is still pending, because the conversion below is expensive.
            if name not in self.created or found[name].status.phase == "Pending":
                continue
            pod = kubeclient.as_json(self._api, found[name])
            if pods.runs(pod):
                self.ran[name] = now
            self._ended = self._ended or pods.has_ended(pod)
        return self.over

    @property
    def over(self) -> bool:
        """Whether all pods have run, or one has ended without running."""
        return self._ended or len(self.ran) == len(self.names)


def _start(api: ApiClient, count: int, with_claims: bool, limit: timedelta) -> tuple[dict[str, float], float]:
    """Seconds until each pod ran, by name, and from the first request until all ran."""
    starts = _Starts(api, count)
    lister = client.CoreV1Api(api).list_namespaced_pod
    namespace = kube.namespace_of_tests(api)
    begin = time.monotonic()
    seconds = limit.total_seconds()
    # Watch while the pods are created, because the first may run before the last exists.
    with ThreadPoolExecutor(1) as pool:
        creation = pool.submit(starts.create, with_claims)
        while not starts.over and (remaining := begin + seconds - time.monotonic()) > 0:
            seconds_now = min(remaining, _WATCH_SECONDS)
            kubeclient.watch_until(lister, starts.look, seconds_now, namespace=namespace, label_selector=_SELECTOR)
            if creation.done():
                creation.result()
    if missing := [name for name in starts.names if name not in starts.ran]:
        why = kube.explain_pod(api, kube.get_pod(api, missing[0]))
        raise CheckError(f"{len(starts.ran)} of {count} pods run within {seconds:.0f} s; {missing[0]}: {why}")
    return {name: ran - starts.created[name] for name, ran in starts.ran.items()}, max(starts.ran.values()) - begin


def _end(api: ApiClient, names: set[str], limit: timedelta) -> dict[str, float]:
    """Delete all pods by one request; seconds from it until each pod was gone, by name."""
    core, namespace = client.CoreV1Api(api), kube.namespace_of_tests(api)
    begin, seconds = time.monotonic(), limit.total_seconds()
    gone: dict[str, float] = {}
    core.delete_collection_namespaced_pod(namespace, label_selector=_SELECTOR)

    def look(found: Mapping[str, Any]) -> bool:
        now = time.monotonic()
        for name in names - gone.keys() - found.keys():
            gone[name] = now - begin
        return gone.keys() == names

    kubeclient.watch_until(core.list_namespaced_pod, look, seconds, namespace=namespace, label_selector=_SELECTOR)
    if remaining := sorted(names - gone.keys()):
        why = kube.explain_pod(api, kube.get_pod(api, remaining[0]))
        raise CheckError(
            f"{len(remaining)} of {len(names)} pods are not gone after {seconds:.0f} s; {remaining[0]}: {why}"
        )
    return gone
