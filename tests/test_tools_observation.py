"""What ``lab diagnose`` asks a cluster, answered over real HTTP and by recorded nodes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from dra_fakes.answers import Answers, Object, api_server, listing
from kubernetes.client import ApiClient, ApiException
from lab import deploy, manifests
from recorded_cluster import CLUSTER, LOG, NODE1, NODE2, claim, device_classes, pod, pod_of, published, waiting
from tools.observation import DRIVERS_PROBE, Live, granted
from tools.observed import Event

CORE = "/api/v1"
OURS = f"{CORE}/namespaces/mock-device"
RESOURCE = "/apis/resource.k8s.io/v1"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class Supervisor:
    """What is asked of the cluster's supervisor."""

    def qmp(self, node: str, command: str) -> Any:
        return {"query-status": {"status": "running" if node == NODE1 else "paused"}, "query-pci": []}[command]

    def supervisor_status(self) -> Object:
        processes = [("qemu-x", None), (f"devices-{NODE1}", None), (f"devices-{NODE2}", -9)]
        return {"processes": [{"name": name, "exit_code": code} for name, code in processes]}


def live(api: ApiClient, outputs: dict[str, str] | None = None) -> Live:
    session: Any = SimpleNamespace(
        api=api,
        topology=CLUSTER,
        node_names=[NODE1, NODE2],
        cluster=Supervisor(),
        on_nodes=lambda command: dict.fromkeys((NODE1, NODE2), (outputs or {})[command]),
    )
    return Live(session)


def event(reason: str, time: str) -> Object:
    metadata = {"name": reason, "namespace": "default", "creationTimestamp": time}
    return {"metadata": metadata, "involvedObject": {}, "reason": reason, "message": f"{reason}!", "type": "Warning"}


def named(item: Object, **metadata: str) -> Object:
    return item | {"metadata": {**item["metadata"], "uid": f"uid-{item['metadata']['name']}", **metadata}}


def test_guests_and_device_servers() -> None:
    with api_server({}) as api:
        observed = live(api)
        assert observed.guests == {NODE1: "running", NODE2: "paused"}
        assert observed.servers == {NODE1: None, NODE2: -9}
        assert observed.plugged == {NODE1: {}, NODE2: {}}


def test_kernel_drivers_of_nodes() -> None:
    with api_server({}) as api:
        observed = live(api, {DRIVERS_PROBE: "0000:11:00.0\tmock_accel\n"})
        assert observed.drivers[NODE2] == {"0000:11:00.0": "mock_accel"}


def test_the_drivers_pods_and_their_logs() -> None:
    agents = [pod_of("mock-accel-node-agent", node) for node in (NODE1, NODE2)]
    answers: Answers = {
        "/apis/apps/v1/namespaces/mock-device/daemonsets": listing(),
        f"{OURS}/pods": listing(*agents),
        f"{OURS}/pods/mock-accel-node-agent-{NODE1}/log": (200, {"log": LOG}),
        f"{OURS}/pods/mock-accel-node-agent-{NODE2}/log": (400, {}),
    }
    with api_server(answers) as api:
        observed = live(api)
        assert observed.daemon_set is None
        assert [agent["spec"]["nodeName"] for agent in observed.agents] == [NODE1, NODE2]
        assert "Published slices" in observed.agent_logs[NODE1]
        assert observed.agent_logs[NODE2].startswith("no log: ")


@pytest.mark.parametrize("allowed", [True, False])
def test_rights_are_asked_one_by_one(allowed: bool) -> None:
    answer = {"spec": {}, "status": {"allowed": allowed}}
    needed = granted(manifests.read_manifest(deploy.DRIVER_MANIFESTS / "10-rbac.yaml"))
    with api_server({REVIEWS: (201, answer)}) as api:
        assert live(api).refused == ([] if allowed else needed)


def test_objects_of_allocation() -> None:
    answers: Answers = {
        f"{CORE}/pods": listing(pod()),
        f"{RESOURCE}/resourceslices": listing(*published()),
        f"{RESOURCE}/resourceclaims": listing(claim("user", "mock0")),
        f"{RESOURCE}/resourceclaimtemplates": listing(
            {"metadata": {"name": "each", "namespace": "default"}, "spec": {"spec": {}}}
        ),
        f"{RESOURCE}/deviceclasses": listing({"metadata": {"name": "mock-accel-pf"}, "spec": {}}),
    }
    with api_server(answers) as api:
        observed = live(api)
        assert len(observed.slices) == len(published())
        assert observed.claims[0]["status"]["reservedFor"][0]["name"] == "user"
        assert "pods" in vars(observed), "a pod that gets a node between the looks must not seem to have no devices"
        assert list(observed.templates) == ["default/each"]
        assert [item["metadata"]["name"] for item in observed.device_classes] == ["mock-accel-pf"]


def test_taint_rules_and_a_server_that_does_not_have_them() -> None:
    path = f"{RESOURCE}/devicetaintrules"
    spec = {"deviceSelector": {}, "taint": {"key": "k", "effect": "NoSchedule"}}
    with api_server({path: listing({"metadata": {"name": "all"}, "spec": spec})}) as api:
        assert [item["spec"]["deviceSelector"] for item in live(api).taint_rules] == [{}]
    with api_server({}) as api:
        assert live(api).taint_rules == []
    with api_server({path: (403, {})}) as api, pytest.raises(ApiException):
        _ = live(api).taint_rules


def test_pods_with_claims_and_the_warnings_about_those_that_do_not_run() -> None:
    idle = pod("idle")
    idle["spec"]["resourceClaims"] = []
    ends = named(pod("ends"), deletionTimestamp="2026-01-01T00:00:00Z")
    extended = named(pod("extended"))
    del extended["spec"]["resourceClaims"]
    resource = "deviceclass.resource.kubernetes.io/mock-accel-pf"
    extended["spec"]["containers"][0]["resources"] = {"requests": {resource: "7"}}
    there = [
        named(pod()),
        named(waiting("other", "no room")),
        named(pod("ended", phase="Succeeded")),
        named(idle),
        ends,
        extended,
    ]
    answers: Answers = {
        f"{CORE}/pods": listing(*there),
        f"{RESOURCE}/deviceclasses": listing(*device_classes()),
        f"{CORE}/namespaces/default/events": listing(
            event("Failed", "2026-01-01T00:00:02Z"), event("FailedScheduling", "2026-01-01T00:00:01Z")
        ),
    }
    with api_server(answers) as api:
        observed = live(api)
        assert [item["metadata"]["name"] for item in observed.pods] == ["user", "other", "extended"]
        assert observed.events == {
            "default/other": [Event("FailedScheduling", "FailedScheduling!"), Event("Failed", "Failed!")]
        }
