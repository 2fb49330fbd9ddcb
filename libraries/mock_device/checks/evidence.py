"""Collects the state of a cluster at the moment of a failure into files, from a list of sources.

Collecting must not add to the failure: each source is queried once, all in
parallel, and sources that do not answer in time are listed as missing.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from functools import partial
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.nodes import cdi, sysfs
from mock_device.checks.nodes.session import Session
from mock_device.checks.objects import kube
from mock_device.driver import current
from mock_device.lab.base import timeouts
from mock_device.lab.base.files import remove_tree, write_file
from mock_device.lab.base.tables import Table
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster import kmm_state, node_runtime
from mock_device.lab.cluster.cluster import Capability
from mock_device.lab.cluster.control import Control
from mock_device.lab.kube import kubeclient
from mock_device.names import NAMESPACE

FOLDER = "evidence"
PROBLEMS = "problems.txt"
FILE_BYTES = 1 << 20
"""Only the last bytes of a longer file are kept."""
_THREADS = 12
_JOURNAL_LINES = 200
_LOG_LINES = 10_000
"""Maximum number of lines of a container's log."""
_OPERATOR_LABEL = tuple(kmm_state.OPERATOR_LABELS.split("="))
_KMM_KINDS = ("modules", "moduleimagesconfigs", "nodemodulesconfigs")
_KUBELET = "kubelet"
_PLUGIN_FOLDERS = {"plugins", "plugins_registry"}
"""Folders in the kubelet's root, which has another path in each distribution, but always this name."""
_MARK = "@@evidence@@ "

# A single command: without hardware virtualisation, each command takes most of a second on a node.
NODE_PROBE = f"""{node_runtime.HAS_UNIT}mark() {{ printf '\\n{_MARK}%s\\n' "$1"; }}
mark dmesg.txt; dmesg 2>&1 | tail -c {FILE_BYTES}
for unit in {" ".join(node_runtime.UNITS)}; do
  has_unit "$unit" || continue
  mark "$unit.txt"; journalctl --no-pager -u "$unit" -n {_JOURNAL_LINES} 2>&1 | tail -c {FILE_BYTES}
done
mark cdi.txt; for f in {cdi.FOLDER}/* {cdi.FOLDER}/.[!.]*; do
  [ -h "$f" ] && ls -l "$f"
  [ -f "$f" ] && {{ echo "# $f"; tail -c {FILE_BYTES // 16} "$f"; echo; }}
done
mark sysfs.txt; {sysfs.PROBE}
true
"""

Files = dict[str, str | bytes]
"""Content of each file, by its path in the evidence folder."""


def parse_node(node: str, output: str) -> Files:
    """Split the output of NODE_PROBE on ``node`` into files."""
    sections = re.split(rf"^{re.escape(_MARK)}(.+)\n", output, flags=re.MULTILINE)
    return {f"{node}/{name}": text for name, text in zip(sections[1::2], sections[2::2], strict=True)}


def _node(session: Session, node: str) -> Files:
    return parse_node(node, session.on_node(node, NODE_PROBE, Timeout.EVIDENCE_SOURCE.seconds))


def _supervisor(session: Session) -> Files:
    """Processes of the cluster, and the run state of each guest."""
    # Use a separate connection: the suite's handles one request at a time.
    with Control(session.cluster.name) as control:
        status = control.request("status")
        guests = {
            name: control.request("qmp", node=name, execute="query-status", arguments={}) for name in session.node_names
        }
    return {"supervisor.json": json.dumps({**status, "guests": guests}, indent=1)}


def _logs(session: Session) -> Files:
    """Consoles of the guests, and logs of supervisor, control plane, device servers and QEMU."""
    found: Files = {}
    for path in session.cluster.log_dir.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - FILE_BYTES))
                found[f"logs/{path.name}"] = file.read(FILE_BYTES)
    return found


def _driver_logs(api: ApiClient) -> Files:
    """Logs of all containers of ``driver_pods``, including the previous run of restarted containers."""
    core = client.CoreV1Api(api)
    deadline = time.monotonic() + Timeout.EVIDENCE_SOURCE.seconds
    found: Files = {}
    everything = _items(api, core.list_pod_for_all_namespaces)
    for pod in driver_pods(everything, kube.namespace_of_tests(api)):
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        for container, restarts in _containers(pod):
            for previous in (False, True) if restarts else (False,):
                path = f"driver/{namespace}/{name}.{container}{'.previous' * previous}.txt"
                if time.monotonic() < deadline:
                    found[path] = _log(core, namespace, name, container, previous)
                else:
                    found[path] = "no log: time-out"
    return found


def _log(core: client.CoreV1Api, namespace: str, pod: str, container: str, previous: bool) -> str | bytes:
    try:
        answer: Any = core.read_namespaced_pod_log(
            pod,
            namespace,
            container=container,
            previous=previous,
            tail_lines=_LOG_LINES,
            _preload_content=False,
            _request_timeout=Timeout.EVIDENCE_SOURCE.seconds,
        )
    except ApiException as error:  # a container that has not started must not hide the other logs
        return f"no log: {kubeclient.refusal(error)}"
    return bytes(answer.data)


def driver_pods(pods: Iterable[kube.Object], namespace_of_tests: str) -> list[kube.Object]:
    """The pods among ``pods`` (API's JSON) that belong to a driver, this project's or another.

    These are pods that mount the kubelet's plugin folders, where every driver has its
    sockets by the kubelet's plugin contract, and all other pods of their namespaces,
    because a driver may have more components. Pods of the tests' namespace only count
    if they mount the folders. Pods of the KMM operator, which may load the kernel module,
    count, too.
    """
    pods = list(pods)
    plugins = [pod for pod in pods if _is_kubelet_plugin(pod)]
    operators = [pod for pod in pods if _OPERATOR_LABEL in (pod["metadata"].get("labels") or {}).items()]
    namespaces = {pod["metadata"]["namespace"] for pod in plugins + operators} - {namespace_of_tests}
    namespaces |= {NAMESPACE, current.driver().namespace}
    return [pod for pod in pods if pod in plugins or pod["metadata"]["namespace"] in namespaces]


def _is_kubelet_plugin(pod: kube.Object) -> bool:
    paths = [
        PurePosixPath(volume["hostPath"]["path"]) for volume in pod["spec"].get("volumes") or [] if "hostPath" in volume
    ]
    return any(path.name == _KUBELET or (_KUBELET in path.parts and _PLUGIN_FOLDERS & {*path.parts}) for path in paths)


def _containers(pod: kube.Object) -> list[tuple[str, int]]:
    """Names and restart counts of the containers of ``pod``, init containers first."""
    status = pod.get("status") or {}
    states = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    restarts = {state["name"]: int(state.get("restartCount") or 0) for state in states}
    containers = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
    return [(container["name"], restarts.get(container["name"], 0)) for container in containers]


def _events(api: ApiClient) -> Files:
    items = _items(api, client.CoreV1Api(api).list_event_for_all_namespaces)
    return {"events.tsv": events_as_text(items)}


def _objects(api: ApiClient, name: str, lister: Callable[..., Any]) -> Files:
    return {f"{name}.json": json.dumps(_items(api, lister), indent=1)}


def _kmm_objects(api: ApiClient) -> Files:
    """Objects of the KMM operator, if the cluster has its kinds."""
    if not kmm_state.is_served(api):
        return {}
    lister = client.CustomObjectsApi(api).list_cluster_custom_object
    return {
        f"kmm/{kind}.json": json.dumps(_items(api, partial(lister, kmm_state.GROUP, kmm_state.VERSION, kind)), indent=1)
        for kind in _KMM_KINDS
    }


def _items(api: ApiClient, lister: Callable[..., Any]) -> list[kube.Object]:
    # Raw JSON from the server: converting it to the client's models would take most of the available time.
    answer: Any = lister(_preload_content=False, _request_timeout=Timeout.EVIDENCE_SOURCE.seconds)
    items: list[kube.Object] = json.loads(answer.data)["items"]
    for item in items:
        item["metadata"].pop("managedFields", None)
    return items


def events_as_text(items: Iterable[Mapping[str, Any]]) -> str:
    """Events (API's JSON), oldest first, as tab-separated lines with a heading."""
    rows = sorted(
        (
            item.get("lastTimestamp") or item.get("eventTime") or item["metadata"].get("creationTimestamp") or "",
            item.get("type") or "",
            item.get("reason") or "",
            f"{item['involvedObject'].get('kind', '')}/{item['involvedObject'].get('name', '')}",
            " ".join((item.get("message") or "").split()),
        )
        for item in items
    )
    return Table(("last seen", "type", "reason", "object", "message"), rows).as_text()


def sources(session: Session) -> dict[str, Callable[[], Files]]:
    """All sources of evidence, by the name used in messages."""
    api = session.api
    core, resource = client.CoreV1Api(api), client.ResourceV1Api(api)
    objects: dict[str, Callable[..., Any]] = {
        "pods": core.list_pod_for_all_namespaces,
        "nodes": core.list_node,
        "claims": resource.list_resource_claim_for_all_namespaces,
        "slices": resource.list_resource_slice,
        "deviceclasses": resource.list_device_class,
    }
    return {
        **{name: partial(_objects, api, name, lister) for name, lister in objects.items()},
        "events": partial(_events, api),
        "objects of KMM": partial(_kmm_objects, api),
        "driver logs": partial(_driver_logs, api),
        **{f"node {name}": partial(_node, session, name) for name in session.node_names},
        **_of_the_lab(session),
    }


def _of_the_lab(session: Session) -> dict[str, Callable[[], Files]]:
    """Sources of a cluster whose nodes are guests of the lab."""
    if Capability.CONSOLE not in session.cluster.capabilities:
        return {}
    return {
        "logs of the cluster's processes": partial(_logs, session),
        "supervisor": partial(_supervisor, session),
    }


def collect(
    asked: Mapping[str, Callable[[], Files]], folder: Path, timeout: timedelta = Timeout.EVIDENCE.nominal
) -> list[Path]:
    """Query all sources in parallel and write their files into ``folder``, replacing an existing folder.

    Returns the files, sorted. Sources that fail or do not answer within
    ``timeout`` are listed in PROBLEMS. Raises OSError if files cannot be written.
    """
    pool = ThreadPoolExecutor(_THREADS)
    try:
        futures = {pool.submit(ask): name for name, ask in asked.items()}
        files: Files = {}
        problems = list(_answers(futures, files, time.monotonic() + timeouts.seconds(timeout)))
    finally:
        # Do not wait for sources that have not answered; they end by their own time-outs.
        pool.shutdown(wait=False, cancel_futures=True)
    if problems:
        files[PROBLEMS] = "\n".join(problems)
    if folder.exists():
        remove_tree(folder)
    return sorted(_write(folder / name, content) for name, content in files.items())


def _answers(futures: dict[Future[Files], str], files: Files, deadline: float) -> Iterator[str]:
    """Add answers to ``files`` as they arrive, until all have arrived or the deadline; yields the problems."""
    waiting = set(futures)
    while waiting and (remaining := deadline - time.monotonic()) > 0:
        done, waiting = wait(waiting, remaining, FIRST_COMPLETED)
        for future in done:
            if error := future.exception():
                yield f"{futures[future]}: {type(error).__name__}: {error}"
            else:
                files.update(future.result())
    yield from (f"{futures[future]}: no answer in time" for future in waiting)


def _write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode(errors="replace") if isinstance(content, str) else content
    write_file(path, data[-FILE_BYTES:])
    return path


def folder_name(suite: str, test: str) -> str:
    """Name of a test's folder, without characters that are unsuitable in a path."""
    return re.sub(r"[^\w.-]+", "-", f"{suite}.{test}").strip("-.")


def links(root: Path, files: Iterable[Path]) -> str:
    """HTML links to ``files`` below ``root``, for a log file beside ``root``."""
    items = []
    for path in files:
        name = path.relative_to(root)
        address = quote(f"{root.name}/{name}")
        items.append(f'<a href="{escape(address)}">{escape("/".join(name.parts[1:]))}</a>')
    return "Evidence: " + ", ".join(items) if items else "No evidence: no source answered"
