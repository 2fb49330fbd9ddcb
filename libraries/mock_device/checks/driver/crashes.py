"""Parts of a node that stop, die or come back, and what of the driver's record they leave."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException
from urllib3.exceptions import HTTPError

from mock_device.checks.driver import driver, metrics
from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import runtime
from mock_device.checks.nodes.cdi import FOLDER
from mock_device.checks.nodes.session import COMMAND_SECONDS, Session
from mock_device.checks.objects import claim_forms
from mock_device.checks.objects.claims import AllocatedDevice
from mock_device.checks.waiting import Deadline, until_no_complaints
from mock_device.lab.kube import kubeclient

PLUGIN_FOLDER = "/var/lib/kubelet/plugins/mock-accel.example.com"
CHECKPOINT = f"{PLUGIN_FOLDER}/state.json"
_AGENT = "[m]ock_accel_dra node-agent"
"""Pattern for pgrep(1) that does not find the shell that runs it."""
_API_PORT = 6443
_REQUEST_TIMEOUT_SECONDS = 30.0
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
_LOGIN_SECONDS = 30.0
_WRITTEN = "/var/lib/written-at-power-cut"
# Files that are made, replaced and removed, some synced, for a minute at most; it returns when some are there.
_WRITE = f"""
    mkdir -p {_WRITTEN}
    systemd-run --quiet --collect --unit=write-load --property=RuntimeMaxSec=60 sh -c '
        cd {_WRITTEN}; number=0
        while number=$((number + 1)); do
            echo "{{\"number\": $number}}" >half && mv half "state-$((number % 50))"
            if [ $((number % 10)) = 0 ]; then sync -f .; rm -f "state-$((number % 40))"; fi
        done'
    timeout 30 sh -c 'until [ -e {_WRITTEN}/state-49 ]; do sleep 0.1; done'
"""
_STATUS = "/sys/class/mock-accel/{}/status"
_READ = f"cat {CHECKPOINT} 2>/dev/null || echo '{{\"claims\": {{}}}}'"
AgentStarts = tuple[int, bool]
"""How often a node agent's container was started again, and whether it is ready."""


def kill_agent(session: Session, node: str, timeout: timedelta) -> None:
    """kill -9 of the node agent's process; returns when the kubelet has started it again and it serves.

    The kubelet lets it wait longer each time it dies. Raises CheckError, also when there is none.
    """
    before = _agent_starts(session.api, node)
    session.on_node(node, f"pkill -KILL -f '{_AGENT}'")

    def complaints() -> list[str]:
        now = _agent_starts(session.api, node)
        return [] if came_back(before, now) else [f"{now}"]

    until_no_complaints(complaints, timeout, f"starts and readiness of the node agent on {node}")


def came_back(before: Mapping[str, AgentStarts], now: Mapping[str, AgentStarts]) -> bool:
    """Whether a node agent is ready whose container was started after ``before``; both by the uid of its pod."""
    return any(ready and (uid not in before or starts > before[uid][0]) for uid, (starts, ready) in now.items())


def _agent_starts(api: ApiClient, node: str) -> dict[str, AgentStarts]:
    """Starts of the node agent's container on ``node``, by the uid of its pod."""
    found = driver.pods(api, driver.Component.NODE_AGENT, node).values()
    return {
        pod.metadata.uid: (status.restart_count, status.ready)
        for pod in found
        for status in pod.status.container_statuses or []
    }


def wait_agent_died(api: ApiClient, node: str, timeout: timedelta) -> None:
    """Wait until the node agent's container on ``node`` has ended and been started again once. Raises CheckError."""

    def complaints() -> list[str]:
        if any(starts for starts, _ in _agent_starts(api, node).values()):
            return []
        return ["it has not died; is it told to, and is there something to write?"]

    until_no_complaints(complaints, timeout, f"node agent on {node}")


def restart_containerd(session: Session, node: str, timeout: timedelta) -> None:
    """Restart containerd of ``node``, and wait until the kubelet has found it again. Raises CheckError."""
    session.on_node(node, runtime.RESTART, runtime.RESTART_TIMEOUT_SECONDS)
    _wait_kubelet_runs(session, node, "runningpods/", timeout)


def restart_kubelet(session: Session, node: str, timeout: timedelta) -> None:
    """Restart the kubelet of ``node``, and wait until it knows its pods again. Raises CheckError."""
    session.on_node(node, "systemctl restart kubelet")
    _wait_kubelet_runs(session, node, "pods", timeout)


def _wait_kubelet_runs(session: Session, node: str, path: str, timeout: timedelta) -> None:
    """Wait until the kubelet's own list at ``path`` (of what it knows, or what containerd runs) has all pods of it."""
    core = client.CoreV1Api(session.api)

    def complaints() -> list[str]:
        selector = f"spec.nodeName={node}"
        listing: Any = core.list_pod_for_all_namespaces(
            field_selector=selector, _request_timeout=_REQUEST_TIMEOUT_SECONDS
        )
        try:
            answer: Any = core.connect_get_node_proxy_with_path(
                node, path, _preload_content=False, _request_timeout=_REQUEST_TIMEOUT_SECONDS
            )
        except ApiException as error:
            return [kubeclient.refusal(error)]
        known = {pod["metadata"]["uid"] for pod in json.loads(answer.data)["items"] or ()}
        return [f"it does not know pod {pod.metadata.name}" for pod in listing.items if pod.metadata.uid not in known]

    until_no_complaints(complaints, timeout, f"kubelet of {node}")


def boot_id(session: Session, node: str) -> str:
    """What tells one boot of ``node`` from another."""
    return session.on_node(node, _BOOT_ID, _LOGIN_SECONDS).strip()


def reboot(session: Session, node: str, timeout: timedelta) -> None:
    """Reboot ``node`` and wait until it is Ready again. Raises CheckError."""
    deadline = Deadline(timeout)
    before = boot_id(session, node)
    session.on_node(node, "systemctl reboot --no-block", _LOGIN_SECONDS)
    _wait_booted(session, node, before, deadline)


def cut_power(session: Session, node: str, timeout: timedelta) -> None:
    """Reset ``node`` in the middle of writes, and wait until it is Ready again. Raises CheckError.

    The machine starts again at once, as ``echo b > /proc/sysrq-trigger`` lets it: nothing is ended, nothing is synced,
    and what the kernel had not yet given to its disk is lost.
    """
    deadline = Deadline(timeout)
    before = boot_id(session, node)
    session.on_node(node, _WRITE)
    session.cluster.qmp(node, "system_reset")
    _wait_booted(session, node, before, deadline)
    session.on_node(node, f"rm -r {_WRITTEN}")


def seconds_until_registered(api: ApiClient, node: str, timeout: timedelta) -> float:
    """Seconds from the start of the node agent's process on ``node`` until the kubelet had registered it.

    Asks until the agent answers. After a power cut the API server shows the pod as it was
    before, with an address that is gone, until the kubelet has started it again.
    Raises CheckError.
    """
    found = 0.0

    def complaints() -> list[str]:
        nonlocal found
        try:
            pod = driver.pod_of(api, Component.NODE_AGENT, node)
            found = metrics.parse_value(metrics.read(api, pod), metrics.START)
        except ApiException as error:
            return [kubeclient.refusal(error)]
        except (HTTPError, CheckError) as error:
            return [str(error)]
        return []

    until_no_complaints(complaints, timeout, f"node agent on {node} does not say when it was registered")
    return found


def _wait_booted(session: Session, node: str, before: str, deadline: Deadline) -> None:
    """Wait until ``node`` has another boot id than ``before`` and is Ready. Raises CheckError."""

    def complaints() -> list[str]:
        try:
            return [] if boot_id(session, node) != before else ["it has not rebooted; look at its console log"]
        except CheckError as error:  # it does not answer meanwhile
            return [str(error)]

    until_no_complaints(complaints, deadline.left(), node)
    kubeclient.wait_nodes_ready(session.api, [node], deadline.left().total_seconds())


def cut_off_api(session: Session, node: str, seconds: int) -> None:
    """Drop all that ``node`` sends to the API server for ``seconds``; returns when it is through again.

    The node itself ends it, also when this process dies.
    """
    rules = (
        "add table ip cut_off; add chain ip cut_off output { type filter hook output priority -200; }; "
        "add chain ip cut_off forward { type filter hook forward priority -200; }; "
        f"add rule ip cut_off output tcp dport {_API_PORT} drop; add rule ip cut_off forward tcp dport {_API_PORT} drop"
    )
    # In the background of the node, so that neither this connection nor this process can leave it cut off.
    command = f"""
        nft '{rules}' || exit 1
        systemd-run --quiet --collect --unit=cut-off --service-type=oneshot \\
            sh -c 'sleep {seconds}; nft delete table ip cut_off'
    """
    session.on_node(node, command, seconds + COMMAND_SECONDS)


def protect_cdi_folder(session: Session, node: str) -> None:
    """Let nobody, root included, make or remove files in the node's CDI folder."""
    session.on_node(node, f"chattr +i {FOLDER}")


def unprotect_cdi_folder(session: Session, node: str) -> None:
    """Take that back; nothing happens when it is not protected."""
    session.on_node(node, f"chattr -i {FOLDER}")


def write_status(session: Session, node: str, device: str, value: int) -> None:
    """Write the status register of ``device`` on ``node``, behind the driver's back."""
    session.on_node(node, f"echo {value} > {_STATUS.format(device)}")


def wait_status(session: Session, node: str, device: str, value: int, timeout: timedelta) -> None:
    """Wait until the status register of ``device`` on ``node`` has ``value``. Raises CheckError."""

    def complaints() -> list[str]:
        found = session.on_node(node, f"cat {_STATUS.format(device)}").strip()
        return [] if found == str(value) else [f"expected {value}, found {found}"]

    until_no_complaints(complaints, timeout, f"status register of {device} on {node}")


def write_checkpoint(session: Session, node: str, content: str) -> None:
    """Replace the driver's checkpoint on ``node``."""
    session.on_node(node, f"cat > {CHECKPOINT} <<'EOF'\n{content}\nEOF")


def read_checkpoints(session: Session) -> dict[str, dict[str, Any]]:
    """The driver's checkpoint on every node; without claims where there is none. Raises CheckError."""
    return {node: _checkpoint(node, text) for node, text in session.on_nodes(_READ).items()}


def _checkpoint(node: str, text: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise CheckError(f"{node}: {CHECKPOINT} is not JSON: {error}: {text[:200]!r}") from error
    return content


def of_version(content: Mapping[str, Any], version: int) -> str:
    """A checkpoint as a driver writes it whose format has ``version``.

    1 is that of drivers before this one, without the boot id. A higher one than
    this driver's has something that it cannot know.
    """
    if version == 1:
        return json.dumps({"version": 1, "claims": content["claims"]})
    return json.dumps({**content, "version": version, "unknown": {"to": "this driver"}})


def checkpoint_complaints(
    checkpoints: Mapping[str, Mapping[str, Any]], claims: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Where the nodes' checkpoints record claims that are not allocated and reserved, or lack one of the driver's."""
    used = {
        claim["metadata"]["uid"]: f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"
        for claim in claims
        if (claim.get("status") or {}).get("reservedFor") and claim_forms.parse(claim).own_results
    }
    recorded = {uid: node for node, content in checkpoints.items() for uid in content["claims"]}
    found = [
        f"{node}: the checkpoint has claim {checkpoints[node]['claims'][uid]['name']} (uid {uid}), which no pod uses"
        for uid, node in recorded.items()
        if uid not in used
    ]
    return found + [f"no checkpoint has claim {name} (uid {uid})" for uid, name in used.items() if uid not in recorded]


def given_twice(devices: Iterable[AllocatedDevice]) -> list[str]:
    """Devices that more than one claim has for itself, a sentence each."""
    devices = [device for device in devices if device.is_exclusive]
    counts = Counter(device.key for device in devices)
    return [
        f"{' '.join(key)} belongs to claims {', '.join(sorted(item.claim for item in devices if item.key == key))}"
        for key, count in counts.items()
        if count > 1
    ]
