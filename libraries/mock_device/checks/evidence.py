"""What a cluster is like at the moment of a failure, kept in files: the list of all that is collected, and how.

Nothing here may make things worse: each source is asked once, at the same time
as the others, and whatever has not answered in time is named and left out.
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
from mock_device.lab.base.files import remove_tree, write_file
from mock_device.lab.base.tables import Table
from mock_device.lab.cluster import deploy
from mock_device.lab.cluster.control import Control
from mock_device.lab.kube import kubeclient

FOLDER = "evidence"
PROBLEMS = "problems.txt"
TIMEOUT = timedelta(seconds=30)
FILE_BYTES = 1 << 20
"""Of a longer file the last so many bytes are kept."""
_THREADS = 12
_SOURCE_TIMEOUT_SECONDS = 20.0
_JOURNAL_LINES = 200
_LOG_LINES = 10_000
"""Of a container's log."""
_KUBELET = PurePosixPath("/var/lib/kubelet")
_PLUGIN_FOLDERS = (_KUBELET / "plugins", _KUBELET / "plugins_registry")
_MARK = "@@evidence@@ "

# One command: each costs most of a second on a node without hardware virtualisation.
NODE_PROBE = f"""
mark() {{ printf '\\n{_MARK}%s\\n' "$1"; }}
mark dmesg.txt; dmesg 2>&1 | tail -c {FILE_BYTES}
for unit in kubelet containerd; do
  mark "$unit.txt"; journalctl --no-pager -u "$unit" -n {_JOURNAL_LINES} 2>&1 | tail -c {FILE_BYTES}
done
mark cdi.txt; for f in {cdi.FOLDER}/* {cdi.FOLDER}/.*mock-accel*; do
  [ -h "$f" ] && ls -l "$f"
  [ -f "$f" ] && {{ echo "# $f"; tail -c {FILE_BYTES // 16} "$f"; echo; }}
done
mark sysfs.txt; {sysfs.PROBE}
true
"""

Files = dict[str, str | bytes]
"""Contents by the path in the folder of the evidence."""


def parse_node(node: str, output: str) -> Files:
    """Files of what NODE_PROBE printed on ``node``."""
    sections = re.split(rf"^{re.escape(_MARK)}(.+)\n", output, flags=re.MULTILINE)
    return {f"{node}/{name}": text for name, text in zip(sections[1::2], sections[2::2], strict=True)}


def _node(session: Session, node: str) -> Files:
    return parse_node(node, session.on_node(node, NODE_PROBE, _SOURCE_TIMEOUT_SECONDS))


def _supervisor(session: Session) -> Files:
    """Processes of the cluster, and the run state of each guest."""
    # On a connection of its own: the suite's serves one request at a time.
    with Control(session.cluster.name) as control:
        said = control.request("status")
        guests = {
            name: control.request("qmp", node=name, execute="query-status", arguments={}) for name in session.node_names
        }
    return {"supervisor.json": json.dumps({**said, "guests": guests}, indent=1)}


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
    """Logs of all containers of `driver_pods`, those of a container's run before the present one too."""
    core = client.CoreV1Api(api)
    deadline = time.monotonic() + _SOURCE_TIMEOUT_SECONDS
    found: Files = {}
    for pod in driver_pods(_items(api, core.list_pod_for_all_namespaces)):
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        for container, restarts in _containers(pod):
            for previous in (False, True) if restarts else (False,):
                path = f"driver/{namespace}/{name}.{container}{'.previous' * previous}.txt"
                if time.monotonic() < deadline:
                    found[path] = _log(core, namespace, name, container, previous)
                else:
                    found[path] = "no log: the time was up"
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
            _request_timeout=_SOURCE_TIMEOUT_SECONDS,
        )
    except ApiException as error:  # a container that has not started must not hide the others
        return f"no log: {kubeclient.refusal(error)}"
    return bytes(answer.data)


def driver_pods(pods: Iterable[kube.Object]) -> list[kube.Object]:
    """Those of ``pods`` (API's JSON) that belong to a driver, this project's or another.

    A pod that mounts the kubelet's folders for plugins is one (by the kubelet's plugin
    contract each driver has its sockets there), and so are all pods of its namespace,
    for a driver's other parts: but not in the namespace of the tests' own pods.
    """
    pods = list(pods)
    plugins = [pod for pod in pods if _is_kubelet_plugin(pod)]
    namespaces = {pod["metadata"]["namespace"] for pod in plugins} - {kube.NAMESPACE} | {deploy.NAMESPACE}
    return [pod for pod in pods if pod in plugins or pod["metadata"]["namespace"] in namespaces]


def _is_kubelet_plugin(pod: kube.Object) -> bool:
    paths = [
        PurePosixPath(volume["hostPath"]["path"]) for volume in pod["spec"].get("volumes") or [] if "hostPath" in volume
    ]
    return any(path == _KUBELET or path.is_relative_to(folder) for path in paths for folder in _PLUGIN_FOLDERS)


def _containers(pod: kube.Object) -> list[tuple[str, int]]:
    """Names of the containers of ``pod``, the first ones first, and how often each was started again."""
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


def _items(api: ApiClient, lister: Callable[..., Any]) -> list[kube.Object]:
    # As the server wrote it: the client's models cost most of the time that there is.
    answer: Any = lister(_preload_content=False, _request_timeout=_SOURCE_TIMEOUT_SECONDS)
    items: list[kube.Object] = json.loads(answer.data)["items"]
    for item in items:
        item["metadata"].pop("managedFields", None)
    return items


def events_as_text(items: Iterable[Mapping[str, Any]]) -> str:
    """Events (API's JSON), the oldest first, as tab-separated lines with a heading."""
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
    """All that is collected, by a name for messages."""
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
        "driver logs": partial(_driver_logs, api),
        "logs of the cluster's processes": partial(_logs, session),
        **{f"node {name}": partial(_node, session, name) for name in session.node_names},
        "supervisor": partial(_supervisor, session),
    }


def collect(asked: Mapping[str, Callable[[], Files]], folder: Path, timeout: timedelta = TIMEOUT) -> list[Path]:
    """Ask all ``sources`` at the same time and write what they have into ``folder``, which is made anew.

    Returns the files, sorted. What fails, or has not answered within
    ``timeout``, is named in PROBLEMS. Raises OSError when files cannot be written.
    """
    pool = ThreadPoolExecutor(_THREADS)
    try:
        futures = {pool.submit(ask): name for name, ask in asked.items()}
        files: Files = {}
        problems = list(_answers(futures, files, time.monotonic() + timeout.total_seconds()))
    finally:
        # Who does not answer is not waited for; its own timeout ends it.
        pool.shutdown(wait=False, cancel_futures=True)
    if problems:
        files[PROBLEMS] = "\n".join(problems)
    if folder.exists():
        remove_tree(folder)
    return sorted(_write(folder / name, content) for name, content in files.items())


def _answers(futures: dict[Future[Files], str], files: Files, deadline: float) -> Iterator[str]:
    """Put answers into ``files`` as they come, until all are there or the time is up; yields what is missing."""
    waiting = set(futures)
    while waiting and (left := deadline - time.monotonic()) > 0:
        done, waiting = wait(waiting, left, FIRST_COMPLETED)
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
    """Name of the folder for a test, without blanks and whatever else does not do in a path."""
    return re.sub(r"[^\w.-]+", "-", f"{suite}.{test}").strip("-.")


def links(root: Path, files: Iterable[Path]) -> str:
    """HTML with links to ``files`` below ``root``, for a log beside ``root``."""
    items = []
    for path in files:
        name = path.relative_to(root)
        address = quote(f"{root.name}/{name}")
        items.append(f'<a href="{escape(address)}">{escape("/".join(name.parts[1:]))}</a>')
    return "Evidence: " + ", ".join(items) if items else "No evidence: nothing answered"
