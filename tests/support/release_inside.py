"""Makes a Helm release on a real API server that has the plain manifests; prints what happens as JSON.

Started by ``test_release_on_api_server.py`` as the first process of namespaces,
like ``control_plane_inside.py``. There are no nodes and no controllers, so
nothing waits for pods.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.build import chart
from mock_device.lab.cluster.release import Release
from mock_device.lab.kube import kubeclient, manifests, owned
from mock_device.names import NAMESPACE
from support import DATA
from support.api_server_inside import with_api_server

HELM_SECONDS = 60.0
POLICY_SECONDS = 30.0
POLL_SECONDS = 0.2
ACCOUNT = "worker"
WORKER = {"kmm.node.kubernetes.io/worker-action": "Load"}
"""Label that KMM gives to its workers."""
OWNER = "meta.helm.sh/release-name"
"""Annotation by which Helm marks the objects of a release."""


class Helm:
    """Runs Helm on the cluster of a kubeconfig; every answer is its exit code, and what it printed."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        own = {f"HELM_{kind}_HOME": str(folder / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        self._environment = {**os.environ, **own, "KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": str(folder / "kube")}

    def __call__(self, command: str, *arguments: str) -> str:
        with_chart = [str(chart.CHART)] if command in ("install", "upgrade") else []
        argv = [chart.helm_program(), command, chart.RELEASE, *with_chart, f"--namespace={NAMESPACE}", *arguments]
        done = subprocess.run(
            argv, env=self._environment, capture_output=True, text=True, timeout=HELM_SECONDS, check=False
        )
        return "done" if done.returncode == 0 else done.stderr


def workloads(api: ApiClient) -> dict[str, Any]:
    """DaemonSets and Deployments, by name."""
    apps = client.AppsV1Api(api)
    found: list[Any] = [
        *apps.list_namespaced_daemon_set(NAMESPACE).items,
        *apps.list_namespaced_deployment(NAMESPACE).items,
    ]
    return {item.metadata.name: item for item in found}


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of workloads whose specification changed, so that their pods are replaced."""
    return sorted(name for name in before if before[name].spec != now[name].spec)


def left(api: ApiClient) -> list[str]:
    """Kinds of the chart of which an object is left."""
    node_agent = "mock-accel-node-agent"
    readers: dict[str, Callable[[], object]] = {
        "ClusterRole": lambda: client.RbacAuthorizationV1Api(api).read_cluster_role(node_agent),
        "DeviceClass": lambda: client.ResourceV1Api(api).read_device_class("mock-accel-pf"),
        "Namespace": lambda: client.CoreV1Api(api).read_namespace(NAMESPACE),
        "ValidatingAdmissionPolicy": lambda: client.AdmissionregistrationV1Api(api).read_validating_admission_policy(
            node_agent
        ),
    }
    found = []
    for kind, read in readers.items():
        try:
            read()
            found.append(kind)
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
    return found


def user_of_pod(api: ApiClient, name: str, labels: Mapping[str, str], *, privileged: bool) -> int | None:
    """``runAsUser`` of a pod's container ``name`` after admission; nothing is created."""
    container = client.V1Container(
        name=name, image="localhost/worker:1", security_context=client.V1SecurityContext(privileged=privileged)
    )
    pod = client.V1Pod(
        metadata=client.V1ObjectMeta(name="pod", labels=dict(labels)),
        spec=client.V1PodSpec(containers=[container], service_account_name=ACCOUNT),
    )
    made: Any = client.CoreV1Api(api).create_namespaced_pod(NAMESPACE, pod, dry_run="All")
    found: int | None = made.spec.containers[0].security_context.run_as_user
    return found


def users_of_pods(api: ApiClient) -> dict[str, int | None]:
    """``runAsUser`` of a pod like KMM's worker with firmware, and of others."""
    account = client.V1ServiceAccount(metadata=client.V1ObjectMeta(name=ACCOUNT))
    client.CoreV1Api(api).create_namespaced_service_account(NAMESPACE, account)
    deadline = time.monotonic() + POLICY_SECONDS
    # The API server begins to apply a policy some time after it was made.
    while user_of_pod(api, "worker", WORKER, privileged=True) is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return {
        "worker": user_of_pod(api, "worker", WORKER, privileged=True),
        "worker without firmware": user_of_pod(api, "worker", WORKER, privileged=False),
        "other container": user_of_pod(api, "other", WORKER, privileged=True),
        "other pod": user_of_pod(api, "worker", {}, privileged=True),
    }


def wait_gone(api: ApiClient, objects: Sequence[dict[str, Any]], timeout: float) -> str:
    try:
        manifests.wait_gone(api, objects, NAMESPACE, timeout)
    except StepError as error:
        return str(error)
    return "done"


def run(api: ApiClient, kubeconfig: Path, folder: Path) -> dict[str, Any]:
    helm, report = Helm(kubeconfig, folder), dict[str, Any]()
    plain = [PROJECT / item.path for item in chart.MANIFESTS if "kmm" not in item.path]
    for path in plain:
        manifests.apply(api, path)
    before = workloads(api)
    report["install beside"] = helm("install")
    report["take over"] = helm("install", "--take-ownership", "--force-conflicts")
    report["changed by taking over"] = changed(before, workloads(api))
    report["owners"] = sorted(item.metadata.annotations[OWNER] for item in workloads(api).values())
    report["upgrade without force"] = helm("upgrade", "--set=nodeAgent.verbosity=5")
    report["upgrade"] = helm("upgrade", "--set=nodeAgent.verbosity=5", "--force-conflicts")
    report["changed by upgrade"] = changed(before, workloads(api))
    report["upgrade again"] = helm("upgrade", "--set=nodeAgent.verbosity=6")
    report["wrong value"] = helm("upgrade", "--set=module.loader=floppy")
    report["rollback"] = helm("rollback", "1")
    report["changed after rollback"] = changed(before, workloads(api))
    for crd in sorted((DATA / "kmm").glob("*.kmm.sigs.x-k8s.io.yaml")):
        manifests.apply(api, crd)
    report["kmm"] = helm("upgrade", "--set=module.loader=kmm")
    report["users of pods"] = users_of_pods(api)
    build = ["--set=module.build.sourceImage=example.com/source:1", "--set=module.loader=kmm-build"]
    report["kmm-build"] = helm("upgrade", *build, "--set=module.build.image=example.com/kmod:${KERNEL_FULL_VERSION}")
    report["with kmm"] = sorted(workloads(api))
    made = [item for path in plain for item in manifests.read_manifest(path) if item["kind"] != "Namespace"]
    report["wait before"] = wait_gone(api, made, 1.0)
    report["uninstall"] = helm("uninstall")
    report["wait after"] = wait_gone(api, made, HELM_SECONDS)
    report["left"] = left(api)
    release, marked = Release(kubeconfig), f"{owned.MARK}=one"
    affinity = {"nodeAgent.affinity": owned.affinity_to(["node1"])}
    report["marked"] = helm("install", f"--labels={marked}", *chart.settings(affinity))
    report["found"] = [release.exists(marked), release.exists(f"{owned.MARK}=two"), release.exists()]
    report["pods on"] = kubeclient.as_json(api, workloads(api)["mock-accel-node-agent"])["spec"]["template"]["spec"]
    helm("uninstall")
    report["found after"] = release.exists()
    for path in plain:
        manifests.apply(api, path)
    report["restored"] = sorted(workloads(api))
    return report


if __name__ == "__main__":
    print(json.dumps(asyncio.run(with_api_server(run, Path(sys.argv[1]), Path(sys.argv[2])))))
