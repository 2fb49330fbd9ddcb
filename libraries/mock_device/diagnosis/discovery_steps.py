"""Issue "devices are not discovered": the steps from QEMU to ResourceSlices."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from kubernetes import client
from prometheus_client.parser import text_string_to_metric_families

from mock_device.checks.layers import publication
from mock_device.checks.nodes import sysfs
from mock_device.checks.objects import slices
from mock_device.checks.objects.pods import runs
from mock_device.diagnosis import device_steps, loader_remedies
from mock_device.diagnosis.snapshot import NO_LOG, WATCHED_SECONDS, Snapshot, answering
from mock_device.diagnosis.steps import Finding, Issue, Step, judged, on_node
from mock_device.driver import current
from mock_device.lab.base.defaults import DEFAULT_TOPOLOGY
from mock_device.lab.cluster import node_runtime
from mock_device.lab.kube import kubeexplain

DEPLOY = "lab deploy"
_LEFT_OUT = "mock_accel_devices_left_out"
_FIELDS_CHANGED = "mock_accel_slice_fields_changed"
"""Metrics of the node agents (dra-driver/mock_accel_dra/metrics.py)."""
_RUNNING = "running"
_CLOCK_SECONDS = 60.0
"""Greater differences are not caused by delays of the probe; the kubelet's lease of its node lasts 40 s."""
_KERNEL_DRIVER = "mock_accel"
_TROUBLE = re.compile(rf"[EWF]\d{{4}} |^{NO_LOG}")
_REFUSAL = re.compile(r"\b403\b|[Ff]orbidden")
_SHOWN_LINES = 5


def _of_agents(command: str) -> str:
    """``lab kubectl`` with ``command`` in the driver's namespace; ``{}`` in it stands for the node agents' workload."""
    driver = current.driver()
    return f"lab kubectl -n {driver.namespace} {command.replace('{}', driver.node_agent.workload)}"


def agents_again() -> str:
    """The command that replaces the driver's node agents."""
    return _of_agents("rollout restart daemonset/{}")


def any_node_again() -> str:
    """The command that lets the driver's node agents run on all nodes."""
    return _of_agents(
        """patch daemonset {} --type json -p '[{"op": "remove", "path": "/spec/template/spec/nodeSelector"}]'"""
    )


def start_again(snapshot: Snapshot) -> str:
    """Commands that start a new cluster of the same topology, which takes seconds, or that check one that exists."""
    if not snapshot.has_guests:
        return "lab attach --dry-run"
    topology = snapshot.topology
    return "lab down && lab up" + ("" if topology.name == DEFAULT_TOPOLOGY else f" --topology {topology.path}")


def guests(snapshot: Snapshot) -> Finding:
    """QEMU runs every guest."""
    wrong = [
        f"{name}: expected guest running, found {state}"
        for name, state in snapshot.guests.items()
        if state != "running"
    ]
    others = [f"{name}: its guest is running" for name, state in snapshot.guests.items() if state == "running"]
    # QEMU's state of a guest that KVM cannot run: it would stop again.
    broken = "internal-error" in snapshot.guests.values()
    remedy = "lab down, then lab up with a profile that has accelerator: tcg" if broken else start_again(snapshot)
    return judged(wrong, remedy, f"{len(snapshot.guests)} guests run", lambda: others if wrong else ())


def servers(snapshot: Snapshot) -> Finding:
    """Each node with devices has a running device server."""
    names = [node.name for node in snapshot.topology.nodes if node.functions]
    wrong = []
    for name in names:
        if name not in snapshot.servers:
            wrong.append(f"{name}: there is no device server")
        elif (code := snapshot.servers[name]) is not None:
            wrong.append(f"{name}: the device server has ended with {code}, its devices do not respond")
    return judged(wrong, start_again(snapshot), f"{len(names)} device servers run")


def cluster(snapshot: Snapshot) -> Finding:
    """The supervisor has all its processes, and does not stop."""
    wrong = [] if snapshot.state == _RUNNING else [f"expected the cluster running, found it {snapshot.state}"]
    return judged(wrong, start_again(snapshot), "its supervisor has all its processes")


def answers(snapshot: Snapshot) -> Finding:
    """Every node answers over SSH, and so do its devices."""
    names = [node.name for node in snapshot.topology.nodes]
    wrong = list(snapshot.silent.values())
    others = [f"{name}: it answers" for name in names if name not in snapshot.silent]
    return judged(wrong, start_again(snapshot), f"{len(names)} nodes answer over SSH", lambda: others if wrong else ())


def clocks(snapshot: Snapshot) -> Finding:
    """The nodes' clocks agree with this machine's clock, which determines the validity of certificates and tokens."""
    wrong, remedy = [], ""
    for node, seconds in snapshot.clocks.items():
        if abs(seconds) > _CLOCK_SECONDS:
            away = timedelta(seconds=int(abs(seconds)))
            wrong.append(f"{node}: its clock is {away} {'ahead of' if seconds > 0 else 'behind'} this machine's")
            # The shell on this machine substitutes its own time.
            remedy = remedy or f'lab ssh {node} "date -u -s @$(date +%s)"'
    return judged(wrong, remedy, f"{len(snapshot.clocks)} nodes have this machine's time")


def ready(snapshot: Snapshot) -> Finding:
    """Every node is Ready."""
    wrong, remedy = [], ""
    for node in snapshot.topology.nodes:
        item = snapshot.nodes.get(node.name)
        if condition(item, "Ready") != "True":
            wrong.append(kubeexplain.explain_node(node.name, client.V1Node.from_dict(item) if item else None))
            remedy = remedy or on_node(node.name, node_runtime.JOURNAL)
    return judged(wrong, remedy, f"{len(snapshot.topology.nodes)} nodes are Ready")


def pci_bus(snapshot: Snapshot) -> Finding:
    """Each guest's PCI bus has exactly the topology's PFs, and their VFs if they are enabled."""
    wrong, remedy, count = [], "", 0
    for shown in snapshot.devices:
        functions = snapshot.topology.node(shown.node).functions
        known = {function.bdf for function in functions}
        expected = {function.bdf: function.name for function in functions if not function.is_vf}
        found = {function.bdf for function in shown.pci}
        count += len(found)
        for bdf in sorted(expected.keys() - found):
            plugged = snapshot.has_guests and expected[bdf] in snapshot.plugged[shown.node]
            why = ", QEMU has it, the guest does not" if plugged else ", it is not plugged" * snapshot.has_guests
            wrong.append(f"{shown.node}: {expected[bdf]} ({bdf}) is not on the PCI bus{why}")
            remedy = remedy or (
                on_node(shown.node, "echo 1 > /sys/bus/pci/rescan") if plugged else start_again(snapshot)
            )
        wrong += [f"{shown.node}: {bdf} is on the PCI bus, but not in the topology" for bdf in sorted(found - known)]
    return judged(wrong, remedy or start_again(snapshot), f"{count} functions on the PCI buses")


def module(snapshot: Snapshot) -> Finding:
    """The kernel module is loaded on every node and bound to every PF."""
    states = {shown.node: shown.module for shown in snapshot.devices}
    if wrong := sysfs.module_complaints(states):
        nodes = [node for node, state in states.items() if state != sysfs.MODULE_LIVE]
        return judged(*loader_remedies.not_loaded(snapshot, wrong, nodes), "")
    remedy = ""
    for shown in snapshot.devices:
        drivers = {function.bdf: function.driver for function in shown.pci}
        for key, function in snapshot.topology.node(shown.node).devices.items():
            if not function.is_vf and (found := drivers.get(function.bdf, "")) != _KERNEL_DRIVER:
                where = f"{key} ({function.bdf})"
                wrong.append(f"{where}: expected kernel driver {_KERNEL_DRIVER}, found {found or 'none'}")
                bind = f"echo {function.bdf} > /sys/bus/pci/drivers/{_KERNEL_DRIVER}/bind"
                remedy = remedy or on_node(key.node, bind)
    return judged(wrong, remedy, f"loaded on {len(snapshot.devices)} nodes, drives all PFs")


def sysfs_class(snapshot: Snapshot) -> Finding:
    """Class mock-accel in sysfs has all PFs, with the topology's values."""
    wrong = sysfs.value_complaints(answering(snapshot), snapshot.devices)
    count = sum(len(shown.accelerators) for shown in snapshot.devices)
    remedy = loader_remedies.unload_and_load(snapshot) if wrong else ""
    return judged(wrong, remedy, f"{count} devices with the topology's values")


def agents(snapshot: Snapshot) -> Finding:
    """A node agent is Ready on each node. Errors in its log are only shown here; later steps check their causes."""
    daemon_set = snapshot.daemon_set
    driver = current.driver()
    workload = driver.node_agent.workload
    if daemon_set is None:
        return judged([f"there is no DaemonSet {driver.namespace}/{workload}"], DEPLOY, "")
    placed = {agent["spec"].get("nodeName"): agent for agent in snapshot.agents}
    wrong, remedy = [], ""
    selector = daemon_set["spec"]["template"]["spec"].get("nodeSelector")
    for node in snapshot.topology.nodes:
        agent = placed.get(node.name)
        if agent is None:
            why = f"; its DaemonSet selects nodes with {json.dumps(selector)}" if selector else ""
            wrong.append(f"{node.name}: no pod of {workload}{why}")
            remedy = remedy or (any_node_again() if selector else _of_agents("describe daemonset {}"))
        elif not runs(agent):
            reasons = ", ".join(kubeexplain.pod_reasons(client.V1Pod.from_dict(agent)))
            wrong.append(
                f"{node.name}: {agent['metadata']['name']} is not ready: {reasons or agent['status']['phase']}"
            )
            remedy = remedy or f"lab logs --component node-agent --node {node.name}"
        elif (log := snapshot.agent_logs.get(node.name, "")).startswith(NO_LOG):
            # The API server gets the log from the kubelet.
            reason = log.removeprefix(NO_LOG)
            wrong.append(f"{node.name}: the kubelet refuses the log of {agent['metadata']['name']}: {reason}")
            remedy = remedy or on_node(node.name, node_runtime.JOURNAL)
    trouble = _log_lines(snapshot, _TROUBLE)
    last = f"; last complaint in their logs: {trouble[-1]}" if trouble else "; no complaints in their logs"
    return judged(wrong, remedy, f"Ready on {len(placed)} nodes{last}", lambda: trouble)


def access(snapshot: Snapshot) -> Finding:
    """The API server grants the driver all permissions of its manifest."""
    wrong = [str(refused) for refused in snapshot.refused]
    fine = "the driver's service accounts have all permissions"
    return judged(wrong, DEPLOY, fine, lambda: _log_lines(snapshot, _REFUSAL))


def left_out(snapshot: Snapshot) -> Finding:
    """The node agents can publish all devices, and the API server stores slices as written.

    Only by the metrics of drivers that promise ours.
    """
    if "metrics" not in current.driver().promises:
        return judged([], "", f"not judged: {current.driver().name} does not promise metrics")
    wrong, remedy = [], ""
    for node, text in snapshot.agent_metrics.items():
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = sample.labels
                if family.name == _LEFT_OUT and sample.value:
                    wrong.append(f"{node}: {labels['device']} is not published: {labels['reason']}")
                elif family.name == _FIELDS_CHANGED and sample.value:
                    wrong.append(
                        f"{node}: the API server changes {labels['field']} of ResourceSlice {labels['slice']} "
                        "when it is written; is a feature gate off?"
                    )
        if wrong:
            remedy = remedy or f"lab logs --component node-agent --node {node} --severity warning"
    return judged(wrong, remedy, f"{len(snapshot.agent_metrics)} node agents publish all devices")


def at_rest(snapshot: Snapshot) -> Finding:
    """No pool of ResourceSlices is rewritten continually."""
    wrong = [
        f"pool {pool}: its ResourceSlices were written {count} times within {WATCHED_SECONDS:.0f} s"
        for pool, count in snapshot.rewrites.items()
    ]
    remedy = "lab logs --component node-agent --since 1m"
    return judged(wrong, remedy, "no pool is rewritten continually", lambda: _log_lines(snapshot, _TROUBLE))


def published(snapshot: Snapshot) -> Finding:
    """ResourceSlices agree with sysfs."""
    found = [device for device in slices.parse(snapshot.slices) if device.node not in snapshot.silent]
    wrong = slices.incomplete_pools(snapshot.slices)
    wrong += publication.complaints(snapshot.topology, snapshot.devices, found)
    fine = f"{len(found)} devices published, in agreement with sysfs"
    return judged(wrong, agents_again(), fine, lambda: _log_lines(snapshot, _TROUBLE))


STEPS = (
    Step("guests run", Issue.DISCOVERY, guests, of_health=True, of_guests=True),
    Step("device servers run", Issue.DISCOVERY, servers, of_health=True, of_guests=True),
    Step("cluster runs", Issue.DISCOVERY, cluster, of_health=True, of_guests=True),
    Step("nodes answer", Issue.DISCOVERY, answers, of_health=True),
    Step("clocks of nodes agree", Issue.DISCOVERY, clocks),
    Step("nodes are Ready", Issue.DISCOVERY, ready, of_health=True),
    Step("devices are on the PCI bus", Issue.DISCOVERY, pci_bus, of_health=True),
    Step("kernel module drives devices", Issue.DISCOVERY, module, of_health=True),
    Step("sysfs shows devices", Issue.DISCOVERY, sysfs_class, of_health=True),
    Step("devices are healthy", Issue.DISCOVERY, device_steps.healthy, of_health=True),
    Step("node agents run", Issue.DISCOVERY, agents),
    Step("driver may use the API", Issue.DISCOVERY, access),
    Step("all devices can be published", Issue.DISCOVERY, left_out),
    Step("ResourceSlices are at rest", Issue.DISCOVERY, at_rest),
    Step("ResourceSlices follow sysfs", Issue.DISCOVERY, published, of_health=True),
)


def condition(item: Mapping[str, Any] | None, kind: str) -> str:
    """Status of a condition of an object (API's JSON), ``Unknown`` when it has none of that ``kind``."""
    conditions = ((item or {}).get("status") or {}).get("conditions") or []
    return next((entry["status"] for entry in conditions if entry["type"] == kind), "Unknown")


def _log_lines(snapshot: Snapshot, pattern: re.Pattern[str]) -> list[str]:
    """The last lines of each node agent's log that match."""
    lines = []
    for node, log in snapshot.agent_logs.items():
        matching = [line for line in log.splitlines() if pattern.search(line)]
        lines += [f"{node}: {line}" for line in matching[-_SHOWN_LINES:]]
    return lines
