"""Installs the KMM loader on a real API server, against a stand-in for the operator; prints what happens as JSON.

Started by ``test_kmm_loader.py`` as the first process of namespaces, like
``control_plane_inside.py``. Nodes are objects without a kubelet, whose part the
stand-in takes. The webhook of the stand-in's manifests is served here, with the
certificate that the lab issues.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.driver import module_loading
from mock_device.checks.errors import CheckError
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import kmm, kmm_state, module_loader
from mock_device.lab.cluster.kmm import KmmLoader
from mock_device.lab.cluster.loader_settings import KmmSettings
from mock_device.lab.kube import kubeclient, manifests, owned
from mock_device.lab.kube.object_id import ObjectId
from mock_device.names import NAMESPACE
from support import DATA
from support.api_server_inside import with_api_server
from support.image_files import docker_archive
from support.kmm_stand_in import KmmStandIn
from support.recorded_cluster import NODE1, NODE2
from support.topologies import CLUSTER

Object = dict[str, Any]
NODES = [NODE1, NODE2]
CRDS = str(DATA / "kmm" / "*.kmm.sigs.x-k8s.io.yaml")
STAND_IN = str(DATA / "kmm" / "stand-in.yaml")
SECONDS = 1.5
"""Time-out of waits that must fail."""
WORKER_POLICY = "mock-accel-kmm-worker"


class Webhook(BaseHTTPRequestHandler):
    """Allows everything."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({**review, "response": {"uid": review["request"]["uid"], "allowed": True}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class WebhookServer(ThreadingHTTPServer):
    """Closes its first connection, as the network does while a webhook starts."""

    def __init__(self, context: ssl.SSLContext, history: list[str]) -> None:
        super().__init__(("127.0.0.1", 9443), Webhook)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self._history = history
        self._refused = False

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._refused:
            return connection, address
        self._refused = True
        connection.close()
        self._history.append("webhook refuses")
        raise ConnectionError("the first caller is refused")


def serve_webhook(api: ApiClient, folder: Path, history: list[str]) -> None:
    """Serve the webhook once its Secret exists."""

    def secret() -> Any:
        with contextlib.suppress(ApiException):
            return client.CoreV1Api(api).read_namespaced_secret("webhook-server-cert", "kmm-stand-in")
        return None

    found = until(secret, "the webhook's Secret")
    for name in ("tls.crt", "tls.key"):
        (folder / name).write_bytes(b64decode(found.data[name]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    WebhookServer(context, history).serve_forever()


def until(look: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """The first true answer of ``look``."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} after {seconds} s")
        time.sleep(0.05)
    return found


def says(action: Callable[[], object]) -> str:
    """The error of ``action``."""
    try:
        action()
    except (StepError, CheckError) as error:
        return str(error)
    except ApiException as error:
        return kubeclient.refusal(error)
    return "nothing"


def state_of(api: ApiClient) -> Object:
    state = kmm_state.read(api)
    return {
        "labelled": [node for node in NODES if state.selected(node)],
        "ready": [node for node in NODES if state.ready(node)],
        "available": state.available(),
        "module": state.module is not None,
    }


def schema(api: ApiClient) -> Object:
    """What the API server says of our Module, under another name, and of wrong ones."""
    *_, module = manifests.read_manifest(kmm_state.MANIFEST)
    module["metadata"]["name"] = "other"
    wrong = json.loads(json.dumps(module))
    wrong["spec"]["moduleLoader"]["container"]["modprobe"]["module"] = "mock_accel"
    without = json.loads(json.dumps(module))
    del without["spec"]["selector"]
    create = client.CustomObjectsApi(api).create_namespaced_custom_object

    def dry(body: Object) -> str:
        arguments = (kmm_state.GROUP, kmm_state.VERSION, NAMESPACE, "modules", body)
        return says(lambda: create(*arguments, dry_run="All", field_validation="Strict"))

    return {"ours": dry(module), "unknown field": dry(wrong), "no selector": dry(without)}


@contextlib.contextmanager
def changed(operator: KmmStandIn, **faults: Any) -> Iterator[None]:
    """Give the stand-in faults for a while."""
    before = {name: getattr(operator, name) for name in faults}
    for name, value in faults.items():
        setattr(operator, name, value)
    yield
    for name, value in before.items():
        setattr(operator, name, value)


def delete_policy(api: ApiClient) -> None:
    """Delete the policy for KMM's worker. No garbage collector runs here, which would end a foreground deletion."""
    admission = client.AdmissionregistrationV1Api(api)
    admission.delete_mutating_admission_policy_binding(WORKER_POLICY, propagation_policy="Background")
    admission.delete_mutating_admission_policy(WORKER_POLICY, propagation_policy="Background")


def replace_module(api: ApiClient, **container: Any) -> None:
    body = {"spec": {"moduleLoader": {"container": container}}}
    patch = client.CustomObjectsApi(api).patch_namespaced_custom_object
    patch(kmm_state.GROUP, kmm_state.VERSION, NAMESPACE, "modules", kmm_state.MODULE, body)


def available(api: ApiClient) -> int:
    deployment: Any = client.AppsV1Api(api).read_namespaced_deployment("kmm-stand-in", "kmm-stand-in")
    return deployment.status.available_replicas or 0


def failures(api: ApiClient, operator: KmmStandIn, control: module_loading.KmmControl) -> Object:
    """Errors of a wait that fails, for each cause; each begins with the module unloaded on the first node."""
    found: Object = {}

    def wait(name: str) -> None:
        kmm.set_label(api, NODE1, wanted=True)
        found[name] = says(lambda: kmm.wait_loaded(api, NODES, SECONDS))

    def unloaded() -> None:
        control.unload(NODE1)

    unloaded()
    found["label"] = says(lambda: kmm.wait_loaded(api, NODES, SECONDS))
    with changed(operator, loads_fail=True):
        wait("worker")
    control.load(NODE1)
    unloaded()
    mapping = [{"regexp": "^5[.]", "containerImage": "localhost/old:1"}]
    *_, before = manifests.read_manifest(kmm_state.MANIFEST)
    replace_module(api, kernelMappings=mapping)
    wait("mapping")
    replace_module(api, kernelMappings=before["spec"]["moduleLoader"]["container"]["kernelMappings"])
    control.load(NODE1)
    unloaded()
    with changed(operator, images_there=False):
        wait("image")
    control.load(NODE1)
    with changed(operator, operator_available=False):
        until(lambda: not available(api), "unavailable Deployment")
        found["operator"] = says(lambda: kmm.wait_loaded(api, NODES, SECONDS))
    return found


def planned(api: ApiClient, loader: KmmLoader, folder: Path) -> Object:
    """Marks of the planned objects, after an attachment has installed KMM; and the objects that were not planned."""
    applied: list[ObjectId] = []

    def apply(items: Sequence[Object]) -> None:
        owned.apply(api, items, "mark")
        applied.extend(map(owned.id_of, items))

    loader.install_operators(api, folder, apply)
    wanted = [owned.id_of(item) for item in loader.planned()]
    return {
        "marks": sorted(set(owned.owners(api, wanted).values())),
        "missing": [str(item) for item in wanted if item not in applied],
        "unplanned": [str(item) for item in applied if item not in wanted],
        "unlabelled": kmm.unlabelled(api, NODES),
    }


def control_of_one_node(api: ApiClient, operator: KmmStandIn) -> Object:
    control = module_loading.of_cluster(api)
    report: Object = {"kind": control.kind.value}
    control.unload(NODE2)
    report["unloaded"] = [state_of(api), sorted(operator.loaded)]
    control.load(NODE2)
    report["loaded"] = [state_of(api), sorted(operator.loaded)]
    operator.in_use.add(NODE2)
    report["in use"] = says(lambda: control.unload(NODE2))
    report["after in use"] = [state_of(api), sorted(operator.loaded)]
    operator.in_use.clear()
    operator.loaded.discard(NODE1)
    control.load(NODE1)
    report["behind its back"] = [state_of(api), sorted(operator.loaded)]
    control.wait_running(NODES, timedelta(seconds=10))
    assert isinstance(control, module_loading.KmmControl)
    report["failures"] = failures(api, operator, control)
    return report


def run(api: ApiClient, kubeconfig: Path, folder: Path) -> Object:
    core: Any = client.CoreV1Api(api)
    for name in NODES:
        core.create_node({"metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}}})
        core.patch_node_status(name, {"status": {"nodeInfo": {"kernelVersion": "6.12.1-cloud"}}})
    report: Object = {"before": {"kind": module_loader.found_in(api).value}}
    cluster: Any = SimpleNamespace(kubeconfig=kubeconfig, topology=CLUSTER, log_dir=folder)
    docker_archive(folder / "operator.tar", {"RepoTags": ["registry.example.com/kmm/kmm-stand-in:v9"]})
    docker_archive(folder / "worker.tar", {"RepoTags": ["localhost/worker-stand-in:v9"]})
    loader = KmmLoader(KmmSettings(manifests=(CRDS, STAND_IN), images=(str(folder / "*.tar"),)))
    report["before"]["no operator"] = says(lambda: kmm.wait_loaded(api, NODES, 0))
    operator = KmmStandIn(api)
    threading.Thread(target=serve_webhook, args=(api, folder, operator.history), daemon=True).start()
    operator.start()
    manifests.apply(api, kmm.NAMESPACE_MANIFEST)
    account = {"metadata": {"name": "default", "namespace": NAMESPACE}}
    manifests.apply_objects(api, [{"apiVersion": "v1", "kind": "ServiceAccount", **account}])
    loader.install(cluster)
    report["installed"] = state_of(api)
    report["history"] = list(operator.history)
    deployment: Any = client.AppsV1Api(api).read_namespaced_deployment("kmm-stand-in", "kmm-stand-in")
    (container,) = deployment.spec.template.spec.containers
    report["container"] = {
        "image": container.image,
        "policy": container.image_pull_policy,
        "env": {variable.name: variable.value for variable in container.env},
    }
    report["security"] = core.read_namespace(NAMESPACE).metadata.labels["pod-security.kubernetes.io/enforce"]
    report["checksums"] = kmm.checksums_in(api)
    report["schema"] = schema(api)
    before = core.read_namespaced_secret("webhook-server-cert", "kmm-stand-in").data
    loader.install(cluster)
    report["certificate kept"] = core.read_namespaced_secret("webhook-server-cert", "kmm-stand-in").data == before
    report["planned"] = planned(api, loader, folder)
    report["control"] = control_of_one_node(api, operator)
    delete_policy(api)
    loader.remove(cluster)
    report["removed"] = [state_of(api), sorted(operator.loaded)]
    operator.stop()
    report["errors"] = operator.errors
    return report


if __name__ == "__main__":
    print(json.dumps(asyncio.run(with_api_server(run, Path(sys.argv[1]), Path(sys.argv[2])))))
