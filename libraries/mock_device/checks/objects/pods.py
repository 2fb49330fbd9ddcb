"""Pods that use claims: how tests build them, their state, and the devices that their containers see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mock_device.checks.nodes.cdi import configuration_names, described, environment_of
from mock_device.checks.nodes.sysfs import CLASS_FOLDER
from mock_device.checks.objects import pod_claims
from mock_device.driver import current
from mock_device.topology import Function, Node

IMAGE = "localhost/mock-device/busybox:1"
_NOBODY = 65534
_ORDINARY_USER = {
    "runAsNonRoot": True,
    "runAsUser": _NOBODY,
    "runAsGroup": _NOBODY,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_GRACE_SECONDS = 2

Object = dict[str, Any]

# The trap makes the container stop at once: PID 1 ignores signals that it does not handle.
_IDLE = "trap 'exit 0' TERM; sleep 2147483647 & wait"

_ENVIRONMENT = r"""
env | while IFS= read -r line; do case "$line" in {prefix}*) printf 'env\t%s\n' "$line" ;; esac; done
"""
_VIEW = rf"""
cd {CLASS_FOLDER} || exit 1
for d in *; do
  [ -L "$d" ] || [ -e "$d" ] || continue
  uuid= numa= target= parent=
  [ -e "$d/uuid" ] && {{ IFS= read -r uuid <"$d/uuid"; IFS= read -r numa <"$d/numa_node"; }}
  [ -e "$d/device/vendor" ] && target=$(cd -P "$d/device" && printf %s "$PWD")
  [ -e "$d/device/physfn/vendor" ] && parent=$(cd -P "$d/device/physfn" && printf %s "$PWD")
  printf 'device\t%s\t%s\t%s\t%s\t%s\n' "$d" "$uuid" "$numa" "$target" "$parent"
done
for l in */*; do
  if [ -L "$l" ] && ! [ -e "$l" ]; then printf 'broken\t%s\n' "$l"; fi
done
"""
_DEVICE_FIELDS, _LINK_FIELDS = 6, 2


def probe() -> str:
    """Shell command that shows, for ``parse_view``, what the driver in use promises that a container sees."""
    driver = current.driver()
    parts = [_ENVIRONMENT.replace("{prefix}", driver.environment.prefix)] if driver.environment else []
    if "sysfs-view" in driver.promises:
        parts.append(_VIEW)
    return "".join([*parts, "echo end\n"])


@dataclass(frozen=True)
class SeenDevice:
    """An entry of the container's /sys/class/mock-accel."""

    name: str
    uuid: str
    numa_node: str
    target: str
    """Folder to which its ``device`` link points; empty if the link is broken."""
    parent: str = ""
    """Folder to which ``device/physfn`` points; empty if the link is missing, as for a PF, or broken."""


@dataclass(frozen=True)
class ContainerView:
    """Devices as a container sees them."""

    environment: Mapping[str, str]
    devices: tuple[SeenDevice, ...]
    broken: tuple[str, ...] = ()
    """Links of its devices that do not resolve, ``mock0/device``."""


def build(
    name: str,
    claims: Sequence[str],
    node: str | None,
    labels: Mapping[str, str],
    *,
    template: str | None = None,
    containers: Mapping[str, Sequence[str]] | None = None,
    host_users: bool = True,
    restart: bool = False,
    as_root: bool = False,
    runtime_class: str | None = None,
    resources: Mapping[str, int] | None = None,
    group: str | None = None,
) -> Object:
    """A pod with idle containers; by default a single one with the devices of all ``claims``.

    ``containers`` maps the names of containers to their claims, or to ``CLAIM/REQUEST``. ``resources`` are
    the extended resources that each container requests. From the
    ResourceClaimTemplate ``template`` one more claim is created for the pod, under
    the template's name. With ``as_root`` the containers run as user 0 with the
    capabilities that the runtime gives by default. With ``node`` the scheduler may only use that node
    (spec.nodeName would bypass the scheduler). Without ``host_users`` the pod gets
    its own user namespace. With ``restart`` containers that end are restarted, for
    example after a reboot of the node. ``group`` is the PodGroup of the pod.
    """
    entries = [{"name": claim, "resourceClaimName": claim} for claim in claims]
    if template:
        entries.append({"name": template, "resourceClaimTemplateName": template})
    if containers is None:
        containers = {"main": [entry["name"] for entry in entries]}
    spec: Object = {
        "restartPolicy": "Always" if restart else "Never",
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsUser": 0} if as_root else _ORDINARY_USER,
        "resourceClaims": entries,
        "containers": [
            _container(container, used, resources or {}, as_root=as_root) for container, used in containers.items()
        ],
    }
    if node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    if not host_users:
        spec["hostUsers"] = False
    if runtime_class:
        spec["runtimeClassName"] = runtime_class
    if group:
        spec["schedulingGroup"] = {"podGroupName": group}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": dict(labels)}, "spec": spec}


def _container(name: str, claims: Sequence[str], resources: Mapping[str, int], *, as_root: bool) -> Object:
    container: Object = {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", _IDLE],
        "resources": {
            "claims": [_used(claim) for claim in claims],
            **({"limits": {resource: str(count) for resource, count in resources.items()}} if resources else {}),
        },
    }
    if not as_root:
        container["securityContext"] = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    return container


def _used(claim: str) -> Object:
    """Entry of a container for all requests of a claim, or for one: ``CLAIM/REQUEST``."""
    name, _, request = claim.partition("/")
    return {"name": name, "request": request} if request else {"name": name}


def container_names(pod: Mapping[str, Any]) -> list[str]:
    """Names of the containers of ``pod`` (API's JSON)."""
    return [container["name"] for container in pod["spec"]["containers"]]


def init_container_names(pod: Mapping[str, Any]) -> list[str]:
    """Names of the init containers of ``pod`` (API's JSON)."""
    return [container["name"] for container in pod["spec"].get("initContainers") or []]


def add_init_container(pod: Object, name: str, claim: str, script: str) -> None:
    """Let an init container of ``pod`` run a shell ``script`` with the devices of ``claim``, which the pod has."""
    container = _container(name, [claim], {}, as_root=False)
    container["command"] = ["sh", "-c", script]
    pod["spec"]["initContainers"] = [container]


def claim_names(pod: Mapping[str, Any]) -> list[str]:
    """Names of all ResourceClaims of ``pod`` (API's JSON), whatever their form."""
    return [item.claim for item in pod_claims.of_pod(pod) if item.claim]


def runs(pod: Mapping[str, Any]) -> bool:
    """Whether the pod is Running and all its containers are ready."""
    status = pod.get("status") or {}
    conditions = {item["type"]: item["status"] for item in status.get("conditions") or []}
    return status.get("phase") == "Running" and conditions.get("Ready") == "True"


def has_ended(pod: Mapping[str, Any]) -> bool:
    """Whether the pod has ended and will not run again."""
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def unschedulable_reason(pod: Mapping[str, Any]) -> str | None:
    """Why the scheduler could not place the pod; None if it has not reported a failure."""
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("message") or condition.get("reason") or "no reason given"
    return None


def parse_view(output: str) -> ContainerView:
    """Parse the output of ``probe()`` in a container. Raises ValueError with an invalid line."""
    lines = output.splitlines()
    if not lines or lines[-1] != "end":
        raise ValueError(f"the container's list of devices is incomplete: {output[-200:]!r}")
    environment: dict[str, str] = {}
    devices: list[SeenDevice] = []
    broken: list[str] = []
    for line in lines[:-1]:
        fields = line.split("\t")
        if fields[0] == "env" and "=" in line:
            name, _, value = line.removeprefix("env\t").partition("=")
            environment[name] = value
        elif fields[0] == "device" and len(fields) == _DEVICE_FIELDS:
            devices.append(SeenDevice(*fields[1:]))
        elif fields[0] == "broken" and len(fields) == _LINK_FIELDS:
            broken.append(fields[1])
        else:
            raise ValueError(f"expected a variable or device of the container, found {line!r}")
    return ContainerView(environment, tuple(devices), tuple(broken))


def view_complaints(view: ContainerView, node: Node, functions: Iterable[Function]) -> list[str]:
    """How the container's view differs from its devices, which are ``functions`` of ``node``.

    What the driver does not promise is not judged.
    """
    expected = {function.name: function for function in functions}
    environment = _environment_complaints(view.environment, expected)
    if "sysfs-view" not in current.driver().promises:
        return environment
    names = [device.name for device in view.devices]
    found: list[str] = []
    if sorted(names) != sorted(expected):
        listing = f"expected {', '.join(sorted(expected))}, found {', '.join(sorted(names)) or 'nothing'}"
        found.append(f"{CLASS_FOLDER} in the container: {listing}")
    for device in view.devices:
        if function := expected.get(device.name):
            found += _device_complaints(device, function, node.parent_of(function))
    found += [f"{CLASS_FOLDER}/{link} in the container: expected a link that resolves" for link in view.broken]
    return found + environment


def _device_complaints(device: SeenDevice, function: Function, parent: Function | None) -> list[str]:
    what = f"{device.name} ({function.bdf}) in the container"
    found = []
    if device.uuid != function.uuid:
        found.append(f"{what}: expected UUID {function.uuid}, found {device.uuid or 'none'}")
    if device.numa_node != str(function.numa_node):
        found.append(f"{what}: expected NUMA node {function.numa_node}, found {device.numa_node or 'none'}")
    if device.target.rpartition("/")[2] != function.bdf:
        found.append(f"{what}: expected a device link to {function.bdf}, found {device.target or 'a broken link'}")
    if device.parent.rpartition("/")[2] != (parent.bdf if parent else ""):
        wanted = f"a device/physfn link to {parent.bdf}" if parent else "no device/physfn"
        found.append(f"{what}: expected {wanted}, found {device.parent or 'none'}")
    return found


def _environment_complaints(environment: Mapping[str, str], functions: Mapping[str, Function]) -> list[str]:
    names_of_variables = current.driver().environment
    if names_of_variables is None or not (names_of_variables.device or names_of_variables.uuid):
        return []
    wanted = {variable for function in functions.values() for variable in environment_of(function)}
    names = {variable.partition("=")[0] for variable in wanted}
    # With several devices, the short variables describe one of them.
    one_of = [_short(function) for function in functions.values()]
    short = [name for name, _ in one_of[0]] if one_of else []
    known = names | set(short) | {name for function in functions.values() for name in configuration_names(function)}
    has = {f"{name}={value}" for name, value in environment.items()}
    found = []
    for variable in sorted(wanted - has):
        value = environment.get(variable.partition("=")[0], "none")
        found.append(f"environment of the container: expected {variable}, found {value}")
    found += [
        f"environment of the container: {name}={environment[name]} belongs to none of its devices"
        for name in sorted(environment.keys() - known)
    ]
    shorts = [(name, environment.get(name)) for name in short]
    if one_of and shorts not in one_of:
        expected = " or ".join(" ".join(value for _, value in pairs) for pairs in one_of)
        actual = " ".join(value or "(unset)" for _, value in shorts)
        found.append(f"environment of the container: expected {', '.join(short)} to be {expected}, found {actual}")
    return found


def _short(function: Function) -> list[tuple[str, str]]:
    """Variables without a device's name, with their values for this device."""
    return [(name, value) for names, value in described(function) for name in names if "{DEVICE}" not in name]
