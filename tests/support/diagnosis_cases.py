"""Ways to break a recorded cluster, with the step, evidence and remedy that ``lab diagnose`` must report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mock_device.diagnosis.snapshot import Access, Event
from support.recorded_cluster import (
    CONFIG,
    FOLDER,
    LOG,
    METRICS,
    MOCK0,
    NODE1,
    NODE2,
    VIEW,
    Recorded,
    cdi_file,
    claim,
    device_classes,
    pod,
    pod_of,
    published,
    shown,
    waiting,
)
from support.topologies import CLUSTER

HEALTHY = Recorded()
NONE_FITS = "0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, preemption: 0/2 nodes"
NO_MOCK0 = replace(shown(CLUSTER.nodes[0]), pci=shown(CLUSTER.nodes[0]).pci[3:])
_FIRST, *_OTHERS = HEALTHY.devices[1].pci
UNBOUND = replace(HEALTHY.devices[1], pci=(replace(_FIRST, driver=""), *_OTHERS))
REFUSED = 'E1125 03:51:00.000100       1 agent.py:114] "Slices are not published" err="GET /apis: 403 Forbidden"\n'
ONE_RIGHT = Access("mock-accel-node-agent", "list", "resource.k8s.io", "resourceslices")
SELECTOR = 'device.attributes["mock-accel.example.com"].uuid == "NOBODY-HAS-THIS"'
LEFT_OUT = 'mock_accel_devices_left_out{device="mock1",reason="memory of 2^63 bytes"} 1.0\n'
FIELD = 'mock_accel_slice_fields_changed{slice="s",field="spec.devices[0].taints"} 1.0\n'
PREPARE = "claim default/user cannot be prepared: [Errno 30] Read-only file system"


def waits(selectors: tuple[str, ...] = (), count: int = 1, message: str = NONE_FITS) -> dict[str, Any]:
    """Changes to a cluster in which another pod waits for its claim."""
    return {
        "claims": [claim("user", "mock0"), claim("other", selectors=selectors, count=count)],
        "pods": [pod(), waiting("other", message)],
    }


def _selects_nowhere() -> dict[str, Any]:
    spec = {"template": {"spec": {"nodeSelector": {"no": "where"}}}}
    return {"daemon_set": {"spec": spec}, "agents": []}


CASES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "guest paused": (
        {"guests": {NODE1: "running", NODE2: "paused"}},
        "guests run",
        f"{NODE2}: expected guest running, found paused",
        "lab down && lab up",
    ),
    "guest that KVM cannot run": (
        {"guests": {NODE1: "running", NODE2: "internal-error"}},
        "guests run",
        f"{NODE2}: expected guest running, found internal-error",
        "lab down, then lab up with a profile that has accelerator: tcg",
    ),
    "device server killed": (
        {"servers": {NODE1: None, NODE2: -9}},
        "device servers run",
        f"{NODE2}: the device server has ended with -9, its devices do not respond",
        "lab down && lab up",
    ),
    "guest stopped": (
        {"guests": {NODE1: "running", NODE2: "QMP query-status: no answer in 10 s"}},
        "guests run",
        f"{NODE2}: expected guest running, found QMP query-status: no answer in 10 s",
        "lab down && lab up",
    ),
    "process of the control plane ended": (
        {"state": "failed: etcd has ended with 1"},
        "cluster runs",
        "expected the cluster running, found it failed: etcd has ended with 1",
        "lab down && lab up",
    ),
    "node does not answer": (
        {"silent": {NODE2: f"{NODE2}: no answer over SSH within 10 s"}, "devices": [HEALTHY.devices[0]]},
        "nodes answer",
        f"{NODE2}: no answer over SSH within 10 s",
        "lab down && lab up",
    ),
    "clock a year ahead": (
        {"clocks": {NODE1: 59.0, NODE2: 365 * 86400.0}},
        "clocks of nodes agree",
        f"{NODE2}: its clock is 365 days, 0:00:00 ahead of this machine's",
        f'lab ssh {NODE2} "date -u -s @$(date +%s)"',
    ),
    "clock behind": (
        {"clocks": {NODE1: -3700.5, NODE2: -59.0}},
        "clocks of nodes agree",
        f"{NODE1}: its clock is 1:01:40 behind this machine's",
        f'lab ssh {NODE1} "date -u -s @$(date +%s)"',
    ),
    "node not Ready": (
        {"nodes": {NODE1: HEALTHY.nodes[NODE1]}},
        "nodes are Ready",
        f"{NODE2} has not registered (look at its console and at kubelet's journal)",
        f"lab ssh {NODE2} 'journalctl --no-pager -n 50 -u k3s -u k3s-agent -u kubelet -u containerd -u crio'",
    ),
    "slot unplugged": (
        {"devices": [NO_MOCK0, HEALTHY.devices[1]], "plugged": {NODE1: {}, NODE2: HEALTHY.plugged[NODE2]}},
        "devices are on the PCI bus",
        f"{NODE1}: mock0 (0000:11:00.0) is not on the PCI bus, it is not plugged",
        "lab down && lab up",
    ),
    "guest has not noticed": (
        {"devices": [NO_MOCK0, HEALTHY.devices[1]]},
        "devices are on the PCI bus",
        f"{NODE1}: mock0 (0000:11:00.0) is not on the PCI bus, QEMU has it, the guest does not",
        f"lab ssh {NODE1} 'echo 1 > /sys/bus/pci/rescan'",
    ),
    "module unloaded": (
        {"devices": [HEALTHY.devices[0], replace(HEALTHY.devices[1], module="not loaded")]},
        "kernel module drives devices",
        f"{NODE2}: expected kernel module mock_accel live, found not loaded",
        "lab kubectl -n mock-device rollout restart daemonset/mock-accel-kmod",
    ),
    "device without its driver": (
        {"devices": [HEALTHY.devices[0], UNBOUND]},
        "kernel module drives devices",
        f"{NODE2} mock0 (0000:11:00.0): expected kernel driver mock_accel, found none",
        f"lab ssh {NODE2} 'echo 0000:11:00.0 > /sys/bus/pci/drivers/mock_accel/bind'",
    ),
    "device not in sysfs": (
        {"devices": [replace(HEALTHY.devices[0], accelerators=()), HEALTHY.devices[1]]},
        "sysfs shows devices",
        f"{NODE1} mock0 (0000:11:00.0): /sys/class/mock-accel has no such device (and 5 more)",
        "lab kubectl -n mock-device rollout restart daemonset/mock-accel-kmod",
    ),
    "driver pods gone": (
        _selects_nowhere(),
        "node agents run",
        f'{NODE1}: no pod of mock-accel-node-agent; its DaemonSet selects nodes with {{"no": "where"}} (and 1 more)',
        "lab kubectl -n mock-device patch daemonset mock-accel-node-agent --type json "
        """-p '[{"op": "remove", "path": "/spec/template/spec/nodeSelector"}]'""",
    ),
    "driver not deployed": (
        {"daemon_set": None, "agents": []},
        "node agents run",
        "there is no DaemonSet mock-device/mock-accel-node-agent",
        "lab deploy",
    ),
    "node agent not ready": (
        {"agents": [HEALTHY.agents[0], pod_of("mock-accel-node-agent", NODE2, conditions=[])]},
        "node agents run",
        f"{NODE2}: mock-accel-node-agent-{NODE2} is not ready: Running",
        f"lab logs --component node-agent --node {NODE2}",
    ),
    "kubelet refuses the API server": (
        {"agent_logs": {NODE1: LOG, NODE2: "no log: 401: Unauthorized"}},
        "node agents run",
        f"{NODE2}: the kubelet refuses the log of mock-accel-node-agent-{NODE2}: 401: Unauthorized",
        f"lab ssh {NODE2} 'journalctl --no-pager -n 50 -u k3s -u k3s-agent -u kubelet -u containerd -u crio'",
    ),
    "RBAC removed": (
        {"refused": [ONE_RIGHT], "agent_logs": {NODE1: LOG + REFUSED, NODE2: LOG}},
        "driver may use the API",
        "mock-accel-node-agent may not list resourceslices.resource.k8s.io",
        "lab deploy",
    ),
    "device that cannot be published": (
        {"agent_metrics": {NODE1: METRICS + LEFT_OUT, NODE2: METRICS}},
        "all devices can be published",
        f"{NODE1}: mock1 is not published: memory of 2^63 bytes",
        f"lab logs --component node-agent --node {NODE1} --severity warning",
    ),
    "field that the API server changes": (
        {"agent_metrics": {NODE1: METRICS, NODE2: METRICS + FIELD}},
        "all devices can be published",
        f"{NODE2}: the API server changes spec.devices[0].taints of ResourceSlice s when it is written; "
        "is a feature gate off?",
        f"lab logs --component node-agent --node {NODE2} --severity warning",
    ),
    "slices rewritten continually": (
        {"rewrites": {f"{NODE2}/mock0": 4}},
        "ResourceSlices are at rest",
        f"pool {NODE2}/mock0: its ResourceSlices were written 4 times within 5 s",
        "lab logs --component node-agent --since 1m",
    ),
    "slices missing": (
        {
            "slices": [
                item for item in published() if item["metadata"]["name"] != f"mock-accel.example.com-{NODE2}-mock5"
            ]
        },
        "ResourceSlices follow sysfs",
        f"{NODE2} mock5 (0000:22:00.1): expected one ResourceSlice, found none; look at the node agent's log",
        "lab kubectl -n mock-device rollout restart daemonset/mock-accel-node-agent",
    ),
    "controller gone": (
        {"controllers": []},
        "controller runs",
        "there is no pod of mock-accel-controller",
        "lab deploy",
    ),
    "kernel module's pod not ready": (
        {"driver_pods": [pod_of("mock-accel-kmod", NODE2, phase="Pending", conditions=[])]},
        "driver's pods run",
        f"pod mock-accel-kmod-{NODE2} on {NODE2} is not ready (Pending)",
        f"lab kubectl -n mock-device describe pod mock-accel-kmod-{NODE2}",
    ),
    "DeviceClass deleted": (
        {"device_classes": device_classes()[1:]},
        "DeviceClasses exist",
        "there is no DeviceClass mock-accel-pf",
        "lab deploy",
    ),
    "claim missing": (
        {"pods": [pod(), waiting("other", "resourceclaim not found")]},
        "claims exist",
        "pod default/other: there is no ResourceClaim 'other' in namespace default",
        "lab kubectl -n default get resourceclaims,resourceclaimtemplates",
    ),
    "impossible CEL": (
        waits((SELECTOR,)),
        "claims can be met",
        f"pod default/other: claim default/other, request 'device': CEL {SELECTOR} is met by fewer than 1 of the 11 "
        "free devices (their uuid: NODE1-NUMA0-PF1, NODE1-NUMA0-PF2, NODE1-NUMA1-PF, NODE1-NUMA1-PF1, NODE1-NUMA1-PF2, "
        f"NODE2-NUMA0-PF and 5 more); the scheduler says: {NONE_FITS}",
        "lab devices",
    ),
    "CEL of an attribute that is not there": (
        waits(
            ('device.attributes["mock-accel.example.com"].color == "red"',),
            message="CEL runtime error: no such key: color",
        ),
        "claims can be met",
        "pod default/other: claim default/other, request 'device': CEL "
        'device.attributes["mock-accel.example.com"].color == "red" fails for a device '
        "(no device has attribute color); the scheduler says: CEL runtime error: no such key: color",
        "lab devices",
    ),
    "not enough devices": (
        waits((SELECTOR,), count=7),
        "claims can be met",
        "pod default/other: claim default/other, request 'device': 7 of mock-accel-pf on one node, at most 6 are free "
        f"there, of 12 published; the scheduler says: {NONE_FITS}",
        "lab slices",
    ),
    "no room for another reason": (
        waits(message="0/2 nodes are available: 2 Insufficient memory."),
        "claims can be met",
        "pod default/other: the scheduler says: 0/2 nodes are available: 2 Insufficient memory.",
        "lab kubectl -n default describe pod other",
    ),
    "claim not reserved": (
        {
            "claims": [
                claim("user", "mock0") | {"status": {"allocation": claim("user", "mock0")["status"]["allocation"]}}
            ]
        },
        "claims are allocated",
        "claim default/user is reserved for no pod, not for default/user",
        "lab kubectl -n default delete pod user",
    ),
    "CDI folder read-only": (
        {"cdi_folders": {NODE1: replace(FOLDER, inode="99:1", writable=False, mounted=True), NODE2: FOLDER}},
        "CDI folder is usable",
        f"{NODE1}: /var/run/cdi is not writable for root, something is mounted on it",
        f"lab ssh {NODE1} 'umount /var/run/cdi && systemctl restart containerd.service'",
    ),
    "CDI folder is a file": (
        {"cdi_folders": {NODE1: replace(FOLDER, kind="regular empty file"), NODE2: FOLDER}},
        "CDI folder is usable",
        f"{NODE1}: expected directory /var/run/cdi, found regular empty file",
        f"lab ssh {NODE1} 'mv /var/run/cdi /var/run/cdi.aside; mkdir /var/run/cdi' "
        "&& lab kubectl -n mock-device rollout restart daemonset/mock-accel-node-agent",
    ),
    "CDI folder recreated": (
        {"cdi_folders": {NODE1: replace(FOLDER, inode="24:8"), NODE2: FOLDER}},
        "CDI folder is usable",
        f"{NODE1}: the node agent writes to another folder than the node's /var/run/cdi",
        "lab kubectl -n mock-device rollout restart daemonset/mock-accel-node-agent",
    ),
    "containerd without the folder": (
        {"configs": {NODE1: CONFIG.replace(", '/var/run/cdi'", ""), NODE2: CONFIG}},
        "CDI folder is usable",
        f"{NODE1}: containerd applies CDI files of /etc/cdi, not of /var/run/cdi",
        f"lab ssh {NODE1} grep -n cdi /etc/containerd/config.toml",
    ),
    "prepare failed": (
        {
            "pods": [pod(phase="Pending", conditions=[])],
            "events": {"default/user": [Event("FailedPrepareDynamicResources", PREPARE)]},
            "devices": [shown(CLUSTER.nodes[0]), HEALTHY.devices[1]],
            "cdi_files": [],
        },
        "devices are prepared",
        f"pod default/user: {PREPARE}",
        "lab logs --component node-agent --calls --since 10m",
    ),
    "CDI file gone": (
        {"cdi_files": []},
        "devices are prepared",
        f"{NODE1} mock0 (0000:11:00.0): is allocated, but the node has no "
        "/var/run/cdi/example.com_mock-accel-mock0.json; look at the node agent's log",
        "lab logs --component node-agent --calls --since 10m",
    ),
    "CDI file that the schema refuses": (
        {"cdi_files": [replace(cdi_file(), text=cdi_file().text.replace('"hostPath"', '"host"'))]},
        "devices are prepared",
        f"{NODE1}: /var/run/cdi/example.com_mock-accel-mock0.json: ",
        "lab logs --component node-agent --calls --since 10m",
    ),
    "status register": (
        {"devices": [shown(CLUSTER.nodes[0]), HEALTHY.devices[1]]},
        "devices are prepared",
        f"{NODE1} mock0 (0000:11:00.0): expected status register 1 (allocated), found 0; "
        "look at /sys/class/mock-accel/mock0/status and the node agent's log",
        "lab logs --component node-agent --calls --since 10m",
    ),
    "container without its device": (
        {"views": {("default", "user", "main"): VIEW.replace(f"device\tmock0\t{MOCK0.uuid}", "device\tmock1\tX")}},
        "containers see their devices",
        "pod default/user: /sys/class/mock-accel in the container: expected mock0, found mock1",
        "lab kubectl -n default describe pod user",
    ),
    "container that cannot be made": (
        {
            "pods": [pod(phase="Pending", conditions=[])],
            "events": {
                "default/user": [Event("Failed", "Error: CDI device injection failed: unresolvable CDI devices")]
            },
        },
        "containers see their devices",
        "pod default/user does not run: Failed: Error: CDI device injection failed: unresolvable CDI devices",
        "lab kubectl -n default describe pod user",
    ),
}
