"""Pods that run jobs on their devices by the program ``mock-accel`` (kernel-driver/tools/README.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from kubernetes.client import ApiClient

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import kube, pods
from mock_device.checks.objects.kube import Object
from mock_device.checks.waiting import until_no_complaints

IMAGE = "localhost/mock-device/mock-accel-tools:dev"
PROGRAM = "mock-accel"
FOLDER = "/tmp"
"""Folder of a pod's containers that they share and can write."""
_VOLUME = "tmp"

# They print the exit code in a last line: how the API reports it depends on the container runtime.
_RUN = '"$@" 2>&1; printf "\\nexit %d\\n" $?'
_START = f'output={FOLDER}/$1; : >"$output"; shift; {{ "$@"; printf "\\nexit %d\\n" $?; }} </dev/null >"$output" 2>&1 &'
_LAST_LINE = re.compile(r"\nexit (\d+)\n?\Z")


@dataclass(frozen=True)
class Outcome:
    """How a command in a container has ended."""

    code: int
    output: str
    """What it wrote, errors included."""


def build(
    name: str,
    claims: Sequence[str],
    node: str | None,
    *,
    containers: Mapping[str, Sequence[str]] | None = None,
    as_root: bool = False,
) -> Object:
    """A pod as of ``pods.build`` whose idle containers have the program, and share a folder that they can write."""
    body = pods.build(name, claims, node, kube.LABELS, containers=containers, as_root=as_root)
    body["spec"]["volumes"] = [{"name": _VOLUME, "emptyDir": {}}]
    for container in body["spec"]["containers"]:
        container |= {"image": IMAGE, "volumeMounts": [{"name": _VOLUME, "mountPath": FOLDER}]}
    return body


def run(api: ApiClient, pod: str, command: Sequence[str], timeout: timedelta, container: str | None = None) -> Outcome:
    """Run ``command`` in a container of the pod and wait for its end. Raises CheckError if that takes too long."""
    output = kube.execute(api, pod, ["sh", "-c", _RUN, "sh", *command], timeout, container)
    outcome = parse(output)
    if outcome is None:
        raise CheckError(f"pod {pod!r}: expected an exit code of {command[0]}, found {output[-200:]!r}")
    return outcome


def start(
    api: ApiClient, pod: str, job: str, command: Sequence[str], timeout: timedelta, container: str | None = None
) -> None:
    """Start ``command`` in the background of a container; ``job`` is a name of the test's choice, for ``outcome``.

    An earlier job of that name, which must have ended, is forgotten.
    """
    kube.execute(api, pod, ["sh", "-c", _START, "sh", job, *command], timeout, container)


def outcome(api: ApiClient, pod: str, job: str, timeout: timedelta) -> Outcome | None:
    """How ``job`` of ``start`` has ended; None if it still runs. Any container of a pod can tell."""
    (container, *_) = pods.container_names(kube.get_pod(api, pod))
    return parse(kube.execute(api, pod, ["cat", f"{FOLDER}/{job}"], timeout, container))


def wait_for(api: ApiClient, pod: str, job: str, timeout: timedelta) -> Outcome:
    """Wait for the end of ``job``. Raises CheckError."""
    found: list[Outcome] = []

    def complaints() -> list[str]:
        ended = outcome(api, pod, job, timeout)
        found[:] = [ended] if ended else []
        return [] if ended else ["it still runs"]

    until_no_complaints(complaints, timeout, f"pod {pod!r}: expected the end of job {job!r}")
    return found[0]


def parse(output: str) -> Outcome | None:
    """The outcome that ``output`` ends with; None without an exit code."""
    if match := _LAST_LINE.search(output):
        return Outcome(int(match[1]), output[: match.start()].strip("\n"))
    return None
