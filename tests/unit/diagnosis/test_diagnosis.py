"""``lab diagnose`` on recorded clusters: a healthy one, and one for each way to break a step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import container_cases, health_cases, kmm_cases
from support.diagnosis_cases import CASES, HEALTHY, ONE_RIGHT, REFUSED, SELECTOR, waits
from support.recorded_cluster import NODE1, NODE2, Recorded, cdi_file, claim, pod, shown, waiting
from support.topologies import CLUSTER

from mock_device.checks.errors import CheckError
from mock_device.diagnosis import diagnosis
from mock_device.diagnosis.diagnosis import BROKEN, NOT_REACHED, OK
from mock_device.diagnosis.rights import granted
from mock_device.diagnosis.snapshot import Access, Event, check_pod
from mock_device.driver import current
from mock_device.lab.cluster import deploy

ALL_CASES = CASES | container_cases.CASES | health_cases.CASES | kmm_cases.CASES


def test_healthy_cluster_has_no_broken_step() -> None:
    found = diagnosis.walk(HEALTHY)
    assert found.broken is None, found.broken
    assert found.healthy and not found.remedy
    assert [step.result for step in found.steps] == [OK] * len(diagnosis.STEPS)
    assert [step.issue for step in found.steps] == ["discovery"] * 15 + ["allocation"] * 6 + ["cdi"] * 5


@pytest.mark.parametrize(("changes", "step", "evidence", "remedy"), ALL_CASES.values(), ids=ALL_CASES.keys())
def test_first_broken_step_is_found(changes: dict[str, Any], step: str, evidence: str, remedy: str) -> None:
    found = diagnosis.walk(replace(HEALTHY, **changes))
    assert found.broken is not None
    assert found.broken.step == step
    assert found.broken.evidence.startswith(evidence)
    assert found.remedy.startswith(remedy)
    position = diagnosis.names().index(step)
    assert [result.result for result in found.steps[: position + 1]] == [OK] * position + [BROKEN]
    assert all(result.result == NOT_REACHED and not result.evidence for result in found.steps[position + 1 :])


def test_every_step_can_break() -> None:
    assert {step for _, step, _, _ in ALL_CASES.values()} == set(diagnosis.names())


def test_refusals_in_the_log_are_details_of_the_access_step() -> None:
    changes, *_ = CASES["RBAC removed"]
    found = diagnosis.walk(replace(HEALTHY, **changes))
    assert found.broken and found.broken.details == (str(ONE_RIGHT), f"{NODE1}: {REFUSED.strip()}")


@pytest.mark.parametrize(
    ("changes", "evidence"),
    [
        ({"pods": [pod(), waiting("user", "") | {"status": {"phase": "Pending"}}]}, "1 pods wait"),
        (
            {"pods": [], "claims": [], "cdi_files": [], "devices": [shown(node) for node in CLUSTER.nodes]},
            "no pod waits",
        ),
    ],
)
def test_unscheduled_pod_breaks_no_step(changes: dict[str, Any], evidence: str) -> None:
    found = diagnosis.walk(replace(HEALTHY, **changes))
    assert found.healthy, found.broken
    assert next(step for step in found.steps if step.step == "claims can be met").evidence.startswith(evidence)


def test_starting_pod_need_not_have_its_file() -> None:
    starts = pod(phase="Pending", conditions=[])
    waited = {"default/user": [Event("FailedScheduling", "waits")]}
    for files in ([], [cdi_file()]):
        assert diagnosis.walk(replace(HEALTHY, pods=[starts], cdi_files=files, events=waited)).healthy


def evidence(step: str, cluster: Recorded) -> str:
    return next(item for item in diagnosis.STEPS if item.name == step).check(cluster).evidence


def test_shared_claim_counts_once() -> None:
    shared = claim("user", "mock0")
    shared["status"]["reservedFor"].append({"resource": "pods", "name": "second", "uid": "v"})
    second = pod("second")
    second["spec"]["resourceClaims"] = pod()["spec"]["resourceClaims"]
    cluster = replace(HEALTHY, claims=[shared], pods=[pod(), second])
    assert evidence("claims are allocated", cluster) == "1 claims of 2 pods are allocated and reserved for them"


def test_reservation_for_an_earlier_pod_of_the_name_is_reported() -> None:
    again = pod()
    again["metadata"]["uid"] = "another"
    assert evidence("claims are allocated", replace(HEALTHY, pods=[again])) == (
        "claim default/user is reserved for user, not for default/user"
    )
    again["metadata"]["uid"] = "u"
    assert diagnosis.walk(replace(HEALTHY, pods=[again])).healthy


def test_claim_of_a_group_of_pods_is_reserved_for_its_pods() -> None:
    grouped = claim("user", "mock0")
    grouped["status"]["reservedFor"] = [{"resource": "podgroups", "name": "g", "uid": "1"}]
    assert evidence("claims are allocated", replace(HEALTHY, claims=[grouped])).startswith("1 claims of 1 pods are")


def from_template(**status: Any) -> dict[str, Any]:
    body = pod("made", **status)
    body["spec"]["resourceClaims"] = [
        {"name": "user", "resourceClaimName": "user"},
        {"name": "own", "resourceClaimTemplateName": "each"},
    ]
    return body


def test_each_template_is_checked() -> None:
    """A template is checked even if the claim of another template exists."""
    pods = [from_template(phase="Pending")]
    missing = "pod default/made: there is no ResourceClaimTemplate 'each' in namespace default"
    assert evidence("claims exist", replace(HEALTHY, pods=pods)) == missing
    assert evidence("claims exist", replace(HEALTHY, pods=pods, templates=["default/each"])) == "1 pods with claims"
    gone = from_template(resourceClaimStatuses=[{"name": "own", "resourceClaimName": "made-own-x7k2p"}])
    assert evidence("claims exist", replace(HEALTHY, pods=[gone])) == (
        "pod default/made: there is no ResourceClaim 'made-own-x7k2p' in namespace default"
    )


def test_unneeded_claim_is_not_reported() -> None:
    shared = claim("user", "mock0")
    shared["status"]["reservedFor"] = [{"resource": "pods", "name": "made", "uid": "u"}]
    unneeded = from_template(resourceClaimStatuses=[{"name": "own"}])
    cluster = replace(HEALTHY, claims=[shared], pods=[unneeded])
    assert evidence("claims exist", cluster) == "1 pods with claims"
    assert evidence("claims are allocated", cluster) == "1 claims of 1 pods are allocated and reserved for them"


def test_running_pod_with_an_extended_resource_is_healthy() -> None:
    """The scheduler has created its claim, and the pod's status maps one of its requests to the container."""
    made = claim("user", "mock0")
    made["status"]["allocation"]["devices"]["results"][0]["request"] = "container-0-request-0"
    resource = "deviceclass.resource.kubernetes.io/mock-accel-pf"
    mapping = {"containerName": "main", "resourceName": resource, "requestName": "container-0-request-0"}
    extended = pod(extendedResourceClaimStatus={"resourceClaimName": "user", "requestMappings": [mapping]})
    del extended["spec"]["resourceClaims"]
    extended["spec"]["containers"] = [{"name": "main", "resources": {"requests": {resource: "1"}}}]
    cluster = replace(HEALTHY, claims=[made], pods=[extended])
    assert diagnosis.walk(cluster).healthy
    assert evidence("claims are allocated", cluster) == "1 claims of 1 pods are allocated and reserved for them"
    assert evidence("containers see their devices", cluster) == "1 containers see exactly their devices"
    assert evidence("claims exist", replace(cluster, claims=[])) == (
        "pod default/user: there is no ResourceClaim 'user' in namespace default"
    )


@pytest.mark.parametrize("also_allocated", [False, True])
def test_administrative_access_does_not_set_the_register(also_allocated: bool) -> None:
    watches = claim("user", "mock0")
    watches["status"]["allocation"]["devices"]["results"][0]["adminAccess"] = True
    registers = ["mock0"] if also_allocated else []
    owner = [claim("owner", "mock0"), watches] if also_allocated else [watches]
    cluster = replace(HEALTHY, claims=owner, devices=[shown(CLUSTER.nodes[0], registers), shown(CLUSTER.nodes[1])])
    assert evidence("devices are prepared", cluster) == "1 devices of running pods, 1 CDI files"


def test_failure_of_another_driver_has_its_own_remedy() -> None:
    foreign = claim("gpus", "gpu-0")
    foreign["status"]["allocation"]["devices"]["results"][0]["driver"] = "gpu.example.com"
    starts = pod("gpus", phase="Pending", conditions=[])
    said = "Failed to prepare dynamic resources: DRA driver gpu.example.com is not registered"
    events = {"default/gpus": [Event("FailedPrepareDynamicResources", said)]}
    cluster = replace(HEALTHY, claims=[claim("user", "mock0"), foreign], pods=[pod(), starts], events=events)
    found = diagnosis.walk(cluster)
    assert found.broken and found.broken.step == "devices are prepared"
    assert found.broken.evidence == f"pod default/gpus: {said}"
    assert found.remedy == "lab kubectl -n default describe pod gpus"


def test_single_pod_is_diagnosed() -> None:
    cluster = replace(HEALTHY, **waits((SELECTOR,)))
    assert not diagnosis.walk(cluster).healthy
    assert diagnosis.walk(replace(cluster, pod="default/user")).healthy
    check_pod(replace(cluster, pod="default/user"))
    with pytest.raises(CheckError) as caught:
        check_pod(replace(cluster, pod="default/nobody"))
    assert str(caught.value) == (
        "no pod default/nobody that has claims and has not ended; available: default/user, default/other"
    )


def test_step_without_an_answer_is_broken() -> None:
    class Silent(Recorded):
        @property
        def nodes(self) -> dict[str, Any]:
            raise CheckError(f"{NODE2}: no answer over SSH\nwithin 60 s")

        @nodes.setter
        def nodes(self, _: object) -> None: ...

    found = diagnosis.walk(Silent())
    assert found.broken and found.broken.step == "nodes are Ready"
    assert (found.broken.evidence, found.remedy) == (f"{NODE2}: no answer over SSH within 60 s", "lab status")


def test_remedy_restarts_the_cluster_with_its_topology() -> None:
    other = replace(CLUSTER, name="other", path=Path("/t/other.yaml"))
    found = diagnosis.walk(replace(HEALTHY, topology=other, guests={NODE1: "paused"}))
    assert found.remedy == "lab down && lab up --topology /t/other.yaml"


def test_diagnosis_is_formatted_as_text_and_json() -> None:
    changes, *_ = CASES["module unloaded"]
    found = diagnosis.walk(replace(HEALTHY, **changes))
    lines = diagnosis.table(found, details=True).as_text().splitlines()
    assert lines[:2] == ["issue\tstep\tresult\tevidence", "discovery\tguests run\tok\t2 guests run"]
    position = next(number for number, line in enumerate(lines) if "\tBROKEN\t" in line)
    why = f"{NODE2}: expected kernel module mock_accel live, found not loaded"
    assert lines[position : position + 3] == [
        f"discovery\tkernel module drives devices\tBROKEN\t{why}",
        f"\t\t\t{why}",
        "discovery\tsysfs shows devices\tnot reached\t-",
    ]
    assert lines[-2:] == [
        f"broken\tkernel module drives devices: {why}",
        "remedy\tlab kubectl -n mock-device rollout restart daemonset/mock-accel-kmod",
    ]
    said = json.loads(json.dumps(found.as_dict()))
    assert (said["healthy"], said["broken"], said["remedy"]) == (False, "kernel module drives devices", found.remedy)
    assert diagnosis.table(diagnosis.walk(HEALTHY)).as_text().splitlines()[-1] == "healthy\tnothing is broken"


def test_permissions_come_from_the_manifest() -> None:
    rights = granted(deploy.objects_of(current.driver()))
    assert ONE_RIGHT in rights
    assert Access("mock-accel-controller", "watch", "", "nodes") in rights
    driver = ("resource.k8s.io", "resourceclaims/driver", "mock-accel.example.com")
    assert Access("mock-accel-node-agent", "associated-node:patch", *driver) in rights
    assert str(rights[0]) == "mock-accel-node-agent may not get nodes"


def test_diagnosis_is_compared_with_the_expected_one() -> None:
    changes, step, evidence, remedy = CASES["RBAC removed"]
    found = diagnosis.walk(replace(HEALTHY, **changes))
    assert found.broken
    assert diagnosis.differences(found, step, evidence, remedy) == []
    other = diagnosis.differences(found, "no step", evidence, "no remedy")
    assert other == [
        f"expected step 'no step', found {found.broken.step!r}",
        f"expected remedy 'no remedy', found {found.remedy!r}",
    ]
    nothing = diagnosis.differences(diagnosis.walk(HEALTHY), step, evidence, remedy)
    assert nothing == [f"expected {step!r} to be broken, found nothing broken"]
