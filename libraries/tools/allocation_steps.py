"""Issue "allocation fails": from the published devices to claims that have them.

CEL is not evaluated here: the scheduler does that, but does not say which part
of a claim it cannot meet. It follows from what is left: a request for which
there are free devices of its class, and which still gets none, has a selector
or a constraint that they do not meet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubernetes import client
from lab import deploy, kubeexplain
from scenario import claims, pods, slices
from scenario.claims import DeviceClass
from scenario.slices import PublishedDevice

from tools.discovery_steps import DEPLOY
from tools.observed import Object, Observed, name_of
from tools.steps import Finding, Issue, Step, judged

DEVICES_THERE_ARE = "lab devices"
WHO_HAS_THEM = "lab slices"
_TYPES = {DeviceClass.PF.value: "pf", DeviceClass.VF.value: "vf"}
_ATTRIBUTE = re.compile(r"""device\.attributes\[["']([^"']+)["']\]\.(\w+)""")
_SHOWN_VALUES = 6


def controller(observed: Observed) -> Finding:
    """The controller's pod is Ready."""
    if not observed.controllers:
        return Finding(f"there is no pod of {deploy.CONTROLLER}", DEPLOY)
    wrong = [
        f"{pod['metadata']['name']} is not ready: {', '.join(kubeexplain.pod_reasons(client.V1Pod.from_dict(pod)))}"
        for pod in observed.controllers
        if not pods.runs(pod)
    ]
    return judged(wrong, "lab logs --component controller", f"{observed.controllers[0]['metadata']['name']} is Ready")


def device_classes(observed: Observed) -> Finding:
    """The driver's DeviceClasses are there."""
    expected = [device_class.value for device_class in DeviceClass]
    wrong = [f"there is no DeviceClass {name}" for name in expected if name not in observed.device_classes]
    return judged(wrong, DEPLOY, ", ".join(expected))


def claims_exist(observed: Observed) -> Finding:
    """Each pod's claims, or the templates that they are made from, are there."""
    there = {name_of(item) for item in observed.claims}
    wrong, remedy = [], ""
    looked_at = chosen(observed)
    for pod in looked_at:
        namespace = pod["metadata"]["namespace"]
        for entry in pod["spec"]["resourceClaims"]:
            claim, template = entry.get("resourceClaimName"), entry.get("resourceClaimTemplateName")
            if claim and f"{namespace}/{claim}" not in there:
                wrong.append(f"pod {name_of(pod)}: there is no ResourceClaim {claim!r} in namespace {namespace}")
            elif template and not pods.claim_names(pod) and f"{namespace}/{template}" not in observed.templates:
                wrong.append(
                    f"pod {name_of(pod)}: there is no ResourceClaimTemplate {template!r} in namespace {namespace}"
                )
            if wrong:
                remedy = remedy or f"lab kubectl -n {namespace} get resourceclaims,resourceclaimtemplates"
    return judged(wrong, remedy, f"{len(looked_at)} pods with claims" if looked_at else "no pod has claims")


def claims_can_be_met(observed: Observed) -> Finding:
    """The scheduler finds devices for each pod; where not, what of its claims cannot be met."""
    wrong, remedy, waiting = [], "", 0
    for pod in chosen(observed):
        if pod["spec"].get("nodeName"):
            continue
        reason = pods.unschedulable_reason(pod)
        if reason is None:
            waiting += 1
            continue
        cause, what_to_do = next(
            _causes(observed, pod, reason),
            ("", f"lab kubectl -n {pod['metadata']['namespace']} describe pod {pod['metadata']['name']}"),
        )
        wrong.append(f"pod {name_of(pod)}: {f'{cause}; ' if cause else ''}the scheduler says: {reason}")
        remedy = remedy or what_to_do
    return judged(
        wrong, remedy, f"{waiting} pods wait for the scheduler's first word" if waiting else "no pod waits for devices"
    )


def _causes(observed: Observed, pod: Object, reason: str) -> Iterator[tuple[str, str]]:
    """Why a claim of ``pod`` cannot be met, and a command, for each request for which a cause is known."""
    published = slices.parse(observed.slices)
    taken = {(item["pool"], item["device"]) for claim in observed.claims for item in claims.results(claim)}
    node = (pod["spec"].get("nodeSelector") or {}).get("kubernetes.io/hostname")
    free = [item for item in published if (item.pool, item.device) not in taken and node in (None, item.node)]
    for claim in _claims_of(observed, pod):
        if claims.results(claim):
            continue
        devices = claim["spec"].get("devices") or {}
        for request in devices.get("requests") or []:
            yield from _request_causes(observed, claim, request, published, free, reason)
        same = [item["matchAttribute"] for item in devices.get("constraints") or [] if "matchAttribute" in item]
        if same:
            yield f"{claims.describe(claim)}; no free devices have the same {', '.join(same)}", WHO_HAS_THEM


def _request_causes(
    observed: Observed,
    claim: Object,
    request: Mapping[str, Any],
    published: Sequence[PublishedDevice],
    free: Sequence[PublishedDevice],
    reason: str,
) -> Iterator[tuple[str, str]]:
    asked = f"claim {name_of(claim)}, request {request['name']!r}"
    # Of alternatives the one that asks for the fewest: if that cannot be met, none can.
    wanted = min(request.get("firstAvailable") or [request["exactly"]], key=lambda item: item.get("count", 1))
    name, count = wanted["deviceClassName"], wanted.get("count", 1)
    if name not in observed.device_classes:
        yield f"{asked}: there is no DeviceClass {name!r}; there are {', '.join(observed.device_classes)}", DEPLOY
        return
    kind = _TYPES.get(name)
    of_class = [item for item in free if kind in (None, item.attribute("deviceType"))]
    by_node = {node: sum(item.node == node for item in of_class) for node in {item.node for item in of_class}}
    most = max(by_node.values(), default=0)
    if most < count:
        there = sum(kind in (None, item.attribute("deviceType")) for item in published)
        yield (
            f"{asked}: {count} of {name} on one node, at most {most} are free there, of {there} published",
            WHO_HAS_THEM,
        )
        return
    selectors = [selector["cel"]["expression"] for selector in wanted.get("selectors") or []]
    if selectors:
        said = "; ".join(filter(None, (_values(expression, of_class) for expression in selectors)))
        what = (
            "fails for a device"
            if "CEL" in reason
            else f"is met by fewer than {count} of the {len(of_class)} free devices"
        )
        yield (
            f"{asked}: CEL {' and '.join(selectors)} {what}{f' ({said})' if said else ''}",
            DEVICES_THERE_ARE,
        )


def _values(expression: str, devices: Sequence[PublishedDevice]) -> str:
    """What ``devices`` have for the attributes that the CEL expression names, in words."""
    words = []
    for domain, name in dict.fromkeys(_ATTRIBUTE.findall(expression)):
        values = sorted({str(value) for item in devices if (value := item.attribute(f"{domain}/{name}")) is not None})
        if not values:
            words.append(f"no device has attribute {name}")
            continue
        more = f" and {len(values) - _SHOWN_VALUES} more" if len(values) > _SHOWN_VALUES else ""
        words.append(f"their {name}: {', '.join(values[:_SHOWN_VALUES])}{more}")
    return ", ".join(words)


def claims_are_allocated(observed: Observed) -> Finding:
    """Each claim of a pod that has a node has devices, and is reserved for the pod."""
    wrong, remedy, count = [], "", 0
    for pod in chosen(observed):
        if not pod["spec"].get("nodeName"):
            continue
        namespace = pod["metadata"]["namespace"]
        for claim in _claims_of(observed, pod):
            status = claim.get("status") or {}
            users = {user["name"] for user in status.get("reservedFor") or []}
            count += 1
            if "allocation" not in status:
                wrong.append(
                    f"{claims.describe(claim)}, but pod {name_of(pod)} is on {pod['spec']['nodeName']} already"
                )
            elif pod["metadata"]["name"] not in users:
                reserved = ", ".join(sorted(users)) or "nobody"
                wrong.append(f"claim {name_of(claim)} is reserved for {reserved}, not for {name_of(pod)}")
            else:
                continue
            remedy = remedy or f"lab kubectl -n {namespace} delete pod {pod['metadata']['name']}"
    return judged(wrong, remedy, f"{count} claims have devices and are reserved for their pods")


STEPS = (
    Step("controller runs", Issue.ALLOCATION, controller),
    Step("DeviceClasses exist", Issue.ALLOCATION, device_classes),
    Step("claims exist", Issue.ALLOCATION, claims_exist),
    Step("claims can be met", Issue.ALLOCATION, claims_can_be_met),
    Step("claims are allocated", Issue.ALLOCATION, claims_are_allocated),
)


def chosen(observed: Observed) -> list[Object]:
    """The one pod that is looked at, or all with claims."""
    return [pod for pod in observed.pods if observed.pod in (None, name_of(pod))]


def _claims_of(observed: Observed, pod: Object) -> list[Object]:
    names = {f"{pod['metadata']['namespace']}/{name}" for name in pods.claim_names(pod)}
    return [claim for claim in observed.claims if name_of(claim) in names]
