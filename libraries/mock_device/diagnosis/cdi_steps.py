"""Issue "CDI is not applied": the steps from an allocated claim to the container's view."""

from __future__ import annotations

from collections.abc import Iterator

from mock_device.checks.errors import CheckError
from mock_device.checks.layers import allocation
from mock_device.checks.nodes import cdi, cdi_schema, runtime, sysfs
from mock_device.checks.objects import claims, pod_claims, pods, slices
from mock_device.checks.objects.claims import AllocatedDevice
from mock_device.diagnosis.allocation_steps import chosen
from mock_device.diagnosis.discovery_steps import agents_again
from mock_device.diagnosis.image_steps import images
from mock_device.diagnosis.snapshot import Object, Snapshot, name_of
from mock_device.diagnosis.steps import Finding, Issue, Step, judged, on_node
from mock_device.driver import current
from mock_device.lab.cluster.node_runtime import Kind
from mock_device.topology import Function

_PREPARE_FAILED = "FailedPrepareDynamicResources"
_WAITED = "FailedScheduling"
"""Reason of events from before the pod was scheduled."""


def folder(snapshot: Snapshot) -> Finding:
    """On each node, root can access the CDI folder, the driver writes to it and containerd reads it."""
    wrong, remedy = [], ""
    for node, remedy_of_node, complaint in _folder_complaints(snapshot):
        wrong.append(f"{node}: {complaint}")
        remedy = remedy or remedy_of_node
    return judged(
        wrong, remedy, f"{cdi.FOLDER} on {len(snapshot.cdi_folders)} nodes, the driver writes it, containerd reads it"
    )


def _folder_complaints(snapshot: Snapshot) -> Iterator[tuple[str, str, str]]:
    """Yield node, remedy and complaint. Only from our node agent's container can the folder be looked at."""
    looks = "project-agent" in current.driver().promises
    for node, there in snapshot.cdi_folders.items():
        agent = snapshot.agent_folders.get(node)
        # containerd does not reread the folder without a restart.
        found = snapshot.runtimes[node]
        uncover = on_node(node, f"umount {cdi.FOLDER} && systemctl restart {found.service}")
        if there.kind != "directory":
            make = on_node(node, f"mv {cdi.FOLDER} {cdi.FOLDER}.aside; mkdir {cdi.FOLDER}")
            yield node, f"{make} && {agents_again()}", f"expected directory {cdi.FOLDER}, found {there.kind}"
        elif not (there.readable and there.writable):
            lacks = " and ".join(["not readable"] * (not there.readable) + ["not writable"] * (not there.writable))
            covered = ", something is mounted on it" if there.mounted else ""
            repair = uncover if there.mounted else on_node(node, "mount -o remount,rw /run")
            yield node, repair, f"{cdi.FOLDER} is {lacks} for root{covered}"
        elif not looks:
            pass
        elif agent is None:
            yield node, agents_again(), "no node agent to look from"
        elif agent.inode != there.inode:
            repair = uncover if there.mounted else agents_again()
            yield node, repair, f"the node agent writes to another folder than the node's {cdi.FOLDER}"
        elif not (agent.readable and agent.writable):
            yield node, agents_again(), f"the node agent cannot read and write {cdi.FOLDER}"
        folders = runtime.cdi_folders(snapshot.configs[node])
        if _resolved(cdi.FOLDER) not in map(_resolved, folders):
            complaint = f"{found.kind} applies CDI files of {', '.join(folders) or 'no folder'}, not of {cdi.FOLDER}"
            yield node, f"lab ssh {node} grep -n cdi {found.config}", complaint


def _resolved(folder: str) -> str:
    """Resolve the link /var/run."""
    return folder.rstrip("/").replace("/var/run/", "/run/")


def prepared(snapshot: Snapshot) -> Finding:
    """Exactly the devices of running pods have their status register set and a valid CDI file."""
    wrong, remedy = [], ""
    allocated = list(_allocated(snapshot))
    own = {name_of(claim) for claim, _ in allocated}
    for pod in chosen(snapshot):
        failures = [event.message for event in snapshot.events.get(name_of(pod), ()) if event.reason == _PREPARE_FAILED]
        if failures and not pods.runs(pod):
            wrong.append(f"pod {name_of(pod)}: {failures[-1]}")
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            if not own & {f"{namespace}/{claim}" for claim in pods.claim_names(pod)}:  # another driver failed
                remedy = remedy or f"lab kubectl -n {namespace} describe pod {name}"
    devices = {device.id: device for _, device in allocated}
    running = {device.id for claim, device in allocated if _used(snapshot, claim)}
    # The driver does not touch the registers of devices with administrative access.
    owned = {device.id for _, device in allocated if not device.admin_access}
    owned_running = {device.id for claim, device in allocated if not device.admin_access and _used(snapshot, claim)}
    files = {(file.node, file.path) for file in snapshot.cdi_files}
    set_registers = {key for key, device in sysfs.by_id(snapshot.devices).items() if device.status}
    # Registers and files of a pod that is starting or ending may be set, but need not.
    wrong += sysfs.register_complaints(snapshot.devices, owned_running | (owned & set_registers))
    with_file = {
        key: allocation.function_of(snapshot.topology, device)
        for key, device in devices.items()
        if "cdi-file-a-device" in current.driver().promises
        and (key in running or (key.node, cdi.path_of(key.name)) in files)
    }
    wrong += cdi.complaints(snapshot.cdi_files, with_file) + cdi_schema.complaints(snapshot.cdi_files)
    if wrong:
        remedy = remedy or "lab logs --component node-agent --calls --since 10m"
    return judged(wrong, remedy, f"{len(running)} devices of running pods, {len(files)} CDI files")


def default_runtime(snapshot: Snapshot) -> Finding:
    """Each node has a default OCI runtime, that of the cluster's profile if it names one."""
    wrong: list[str] = []
    remedy = ""
    for node, config in snapshot.configs.items():
        complaint = runtime.complaint(node, config, snapshot.default_runtime)
        if not complaint:
            continue
        wrong.append(complaint)
        found = snapshot.runtimes[node]
        if snapshot.default_runtime and found.kind is Kind.CONTAINERD:
            edit = runtime.set_default(found.config, snapshot.default_runtime)
            remedy = remedy or on_node(node, f"{edit}; systemctl restart {found.service}")
        else:
            remedy = remedy or on_node(node, f"cat {found.config}")
    names = [runtime.default_runtime(config).name for config in snapshot.configs.values()] if not wrong else []
    return judged(wrong, remedy, f"{', '.join(dict.fromkeys(names))} on {len(snapshot.configs)} nodes")


def containers(snapshot: Snapshot) -> Finding:
    """Each container sees exactly its devices, in its environment and in sysfs, as far as the driver promises it."""
    promised = current.driver().offers & {"environment", "sysfs-view"}
    wrong: list[str] = []
    remedy, count = "", 0
    for pod in chosen(snapshot):
        if not pod["spec"].get("nodeName"):
            continue
        before = len(wrong)
        if pods.runs(pod):
            for name in pods.container_names(pod):
                if promised and (functions := _functions_of(snapshot, pod, name)):
                    count += 1
                    wrong += [
                        f"pod {name_of(pod)}: {text}" for text in _view_complaints(snapshot, pod, name, functions)
                    ]
        elif events := [event for event in snapshot.events.get(name_of(pod), ()) if event.reason != _WAITED]:
            wrong.append(f"pod {name_of(pod)} does not run: {events[-1].reason}: {events[-1].message}")
        if len(wrong) > before:
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            remedy = remedy or f"lab kubectl -n {namespace} describe pod {name}"
    fine = f"{count} containers see exactly their devices"
    return judged(wrong, remedy, fine if promised else f"not judged: {current.driver().name} does not promise it")


def _view_complaints(snapshot: Snapshot, pod: Object, container: str, functions: list[Function]) -> list[str]:
    try:
        output = snapshot.view((pod["metadata"]["namespace"], pod["metadata"]["name"], container))
    except CheckError as error:
        return [str(error)]
    node = snapshot.topology.node(pod["spec"]["nodeName"])
    return pods.view_complaints(pods.parse_view(output), node, functions)


def _functions_of(snapshot: Snapshot, pod: Object, container: str) -> list[Function]:
    """Devices of the driver that ``container`` uses."""
    used = pod_claims.uses(pod, container)
    namespace = pod["metadata"]["namespace"]
    return [
        allocation.function_of(snapshot.topology, device)
        for claim, device in _allocated(snapshot)
        if claim["metadata"]["namespace"] == namespace and {(device.claim, None), (device.claim, device.request)} & used
    ]


def _allocated(snapshot: Snapshot) -> Iterator[tuple[Object, AllocatedDevice]]:
    published = slices.parse(snapshot.slices)
    for claim in snapshot.claims:
        for device in claims.allocated(claim, published):
            yield claim, device


def _used(snapshot: Snapshot, claim: Object) -> bool:
    """Whether a running pod uses the claim."""
    users = {
        f"{claim['metadata']['namespace']}/{user['name']}"
        for user in (claim.get("status") or {}).get("reservedFor") or []
    }
    return any(pods.runs(pod) and name_of(pod) in users for pod in snapshot.pods)


STEPS = (
    Step("CDI folder is usable", Issue.CDI, folder),
    Step("devices are prepared", Issue.CDI, prepared),
    Step("default runtime is as in the profile", Issue.CDI, default_runtime),
    Step("images are on the nodes", Issue.CDI, images),
    Step("containers see their devices", Issue.CDI, containers),
)
