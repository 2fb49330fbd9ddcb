"""Issue "allocation fails": the steps from published devices to allocated claims."""

from __future__ import annotations

from collections.abc import Iterator

from kubernetes import client

from mock_device.checks.objects import availability, claim_forms, pod_claims, pods, slices
from mock_device.checks.objects.claim_forms import Claim
from mock_device.diagnosis import causes, selectors
from mock_device.diagnosis.causes import Supply
from mock_device.diagnosis.discovery_steps import DEPLOY
from mock_device.diagnosis.selectors import Selectors
from mock_device.diagnosis.snapshot import Object, Snapshot, name_of
from mock_device.diagnosis.steps import Finding, Issue, Step, judged
from mock_device.driver import current
from mock_device.lab.cluster import deploy, kmm_state
from mock_device.lab.kube import kubeexplain


def controller(snapshot: Snapshot) -> Finding:
    """The controller's pod is Ready, if the driver has one."""
    described = current.driver().controller
    if described is None:
        return judged([], "", f"{current.driver().name} has none")
    if not snapshot.controllers:
        return judged([f"there is no pod of {described.workload}"], DEPLOY, "")
    wrong = [
        f"{pod['metadata']['name']} is not ready: {', '.join(kubeexplain.pod_reasons(client.V1Pod.from_dict(pod)))}"
        for pod in snapshot.controllers
        if not pods.runs(pod)
    ]
    return judged(wrong, "lab logs --component controller", f"{snapshot.controllers[0]['metadata']['name']} is Ready")


def driver_pods(snapshot: Snapshot) -> Finding:
    """All pods of the driver's namespace are Ready, including the kernel module's and those of other programs.

    Pods by which KMM loads and unloads modules end by themselves; the step of the kernel module judges them.
    """
    found = [pod for pod in snapshot.driver_pods if not kmm_state.is_passing(pod)]
    if not found:
        return judged([f"no pods in namespace {current.driver().namespace}"], DEPLOY, "")
    wrong, remedy = [], ""
    for pod in found:
        if not pods.runs(pod):
            name, status = pod["metadata"]["name"], pod.get("status") or {}
            where = pod["spec"].get("nodeName") or "no node"
            wrong.append(f"pod {name} on {where} is not ready ({status.get('phase', 'no phase')})")
            namespace = pod["metadata"]["namespace"]
            remedy = remedy or f"lab kubectl -n {namespace} describe pod {name}"
    return judged(wrong, remedy, f"{len(found)} pods are Ready")


def device_classes(snapshot: Snapshot) -> Finding:
    """The driver's DeviceClasses exist, and select what its manifests say."""
    found = {item["metadata"]["name"]: item for item in snapshot.device_classes}
    driver = current.driver()
    manifest = {item["metadata"]["name"]: item for item in deploy.objects_of(driver) if item["kind"] == "DeviceClass"}
    wrong = []
    names = list(driver.device_classes.values())
    for name in names:
        if name not in found:
            wrong.append(f"there is no DeviceClass {name}")
            continue
        if name not in manifest:
            continue
        expected, selected = selectors.of_class(manifest[name]), selectors.of_class(found[name])
        if not _is_as_narrow(selected, expected):
            wrong.append(f"DeviceClass {name}: expected CEL {expected}, found {selected or 'no selector'}")
    return judged(wrong, DEPLOY, ", ".join(names))


def _is_as_narrow(selected: Selectors, expected: Selectors) -> bool:
    """Whether ``expected`` covers everything that ``selected`` selects."""
    return selected.driver == expected.driver and set(expected.attributes) <= set(selected.attributes)


def claims_exist(snapshot: Snapshot) -> Finding:
    """Each pod's claims exist, or the templates from which they are created."""
    there = {name_of(item) for item in snapshot.claims}
    wrong, remedy = [], ""
    looked_at = chosen(snapshot)
    for pod in looked_at:
        namespace = pod["metadata"]["namespace"]
        for item in pod_claims.of_pod(pod):
            if item.claim and f"{namespace}/{item.claim}" not in there:
                missing = f"ResourceClaim {item.claim!r}"
            elif not item.claim and item.needed and f"{namespace}/{item.template}" not in snapshot.templates:
                missing = f"ResourceClaimTemplate {item.template!r}"
            else:
                continue
            wrong.append(f"pod {name_of(pod)}: there is no {missing} in namespace {namespace}")
            remedy = remedy or f"lab kubectl -n {namespace} get resourceclaims,resourceclaimtemplates"
    return judged(wrong, remedy, f"{len(looked_at)} pods with claims" if looked_at else "no pod has claims")


def claims_can_be_met(snapshot: Snapshot) -> Finding:
    """The scheduler finds devices for each pod; otherwise name the claim that cannot be met, and the cause if known."""
    wrong, remedy, waiting = [], "", 0
    for pod in chosen(snapshot):
        if pod["spec"].get("nodeName"):
            continue
        reason = pods.unschedulable_reason(pod)
        own = _claims_of(snapshot, pod)
        cause, what_to_do = next(_causes(snapshot, pod, own, reason), ("", ""))
        if reason is None and not cause:
            waiting += 1
            continue
        reasons = [cause] * bool(cause) + ([f"the scheduler says: {reason}"] if reason else [])
        wrong.append(f"pod {name_of(pod)}: {'; '.join(reasons)}")
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        remedy = remedy or what_to_do or f"lab kubectl -n {namespace} describe pod {name}"
    return judged(wrong, remedy, f"{waiting} pods wait for the scheduler" if waiting else "no pod waits for devices")


def _causes(snapshot: Snapshot, pod: Object, own: list[Claim], reason: str | None) -> Iterator[causes.Cause]:
    for claim in own:
        for result in claim.results:
            if unmet := result.waits_for():
                remedy = f"lab kubectl -n {claim.namespace} get resourceclaim {claim.name} -o yaml"
                device = f"{result.pool} {result.device} of {result.driver}"
                yield f"claim {claim.name!r}: device {device} waits to be bound: {'; '.join(unmet)}", remedy
    # The scheduler has not looked at a pod with scheduling gates.
    if reason is None or pod["spec"].get("schedulingGates"):
        return
    published = slices.parse(snapshot.slices)
    rules = availability.taint_rules(snapshot.taint_rules)
    supply = Supply(
        available=availability.of(published, claim_forms.parse_all(snapshot.claims), rules),
        classes={item["metadata"]["name"]: item for item in snapshot.device_classes},
        node=(pod["spec"].get("nodeSelector") or {}).get("kubernetes.io/hostname"),
    )
    yield from causes.of_pod(own, supply, reason)


def claims_are_allocated(snapshot: Snapshot) -> Finding:
    """Each claim of a scheduled pod is allocated and reserved for the pod."""
    wrong, remedy = [], ""
    seen: set[str] = set()
    placed = [pod for pod in chosen(snapshot) if pod["spec"].get("nodeName")]
    for pod in placed:
        namespace = pod["metadata"]["namespace"]
        for claim in _claims_of(snapshot, pod):
            seen.add(f"{claim.namespace}/{claim.name}")
            if not claim.is_allocated:
                wrong.append(f"{claim}, but pod {name_of(pod)} is on {pod['spec']['nodeName']} already")
            elif not _is_reserved(claim, pod):
                users = ", ".join(sorted(user.name for user in claim.reserved_for)) or "no pod"
                wrong.append(f"claim {claim.namespace}/{claim.name} is reserved for {users}, not for {name_of(pod)}")
            else:
                continue
            remedy = remedy or f"lab kubectl -n {namespace} delete pod {pod['metadata']['name']}"
    return judged(wrong, remedy, f"{len(seen)} claims of {len(placed)} pods are allocated and reserved for them")


def _is_reserved(claim: Claim, pod: Object) -> bool:
    """Whether the claim is reserved for ``pod`` (not an earlier pod of its name) or for an object that owns pods."""
    name, uid = pod["metadata"]["name"], pod["metadata"].get("uid")
    return any(
        user.resource != "pods" or (user.name == name and (not (uid and user.uid) or user.uid == uid))
        for user in claim.reserved_for
    )


STEPS = (
    Step("controller runs", Issue.ALLOCATION, controller),
    Step("driver's pods run", Issue.ALLOCATION, driver_pods, of_health=True),
    Step("DeviceClasses exist", Issue.ALLOCATION, device_classes),
    Step("claims exist", Issue.ALLOCATION, claims_exist),
    Step("claims can be met", Issue.ALLOCATION, claims_can_be_met),
    Step("claims are allocated", Issue.ALLOCATION, claims_are_allocated),
)


def chosen(snapshot: Snapshot) -> list[Object]:
    """The selected pod, or all pods with claims."""
    return [pod for pod in snapshot.pods if snapshot.pod in (None, name_of(pod))]


def _claims_of(snapshot: Snapshot, pod: Object) -> list[Claim]:
    """Existing claims of ``pod``, and a pending one for extended resources that have no claim yet."""
    namespace = pod["metadata"]["namespace"]
    there = {name_of(item): item for item in snapshot.claims}
    used = pod_claims.of_pod(pod)
    found = [there[name] for item in used if item.claim and (name := f"{namespace}/{item.claim}") in there]
    result = [claim_forms.parse(item) for item in found]
    if not pod["spec"].get("nodeName") and all(item.entry for item in used):
        plugged = _plugged(snapshot)
        if requests := pod_claims.extended_requests(pod, snapshot.device_classes, plugged):
            result.append(Claim(namespace, "", requests))
    return result


def _plugged(snapshot: Snapshot) -> set[str]:
    """Extended resources that the nodes' device plugins offer."""
    allocatable = [(node.get("status") or {}).get("allocatable") or {} for node in snapshot.nodes.values()]
    return {name for offered in allocatable for name, amount in offered.items() if str(amount) != "0"}
