"""Calls the kubelet plugin of any DRA driver on a node, as the kubelet does: over its sockets, which SSH forwards.

The driver's pod needs no program for it. The plugin cannot tell these calls from the kubelet's, except that it is asked
once more.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from kubernetes.client import ApiClient
from mock_accel_dra.protos import dra_health_v1_pb2 as dra_health
from mock_accel_dra.protos import dra_v1_pb2 as dra
from mock_accel_dra.protos import pluginregistration_v1_pb2 as registration

from mock_device.checks.driver.plugin_answers import Answer, ClaimOnNode, Info, Prepared, PreparedDevice
from mock_device.checks.errors import CheckError, SkipCheck
from mock_device.checks.nodes.session import Session
from mock_device.checks.objects import claim_forms, kube, slices
from mock_device.checks.objects.slices import PublishedId
from mock_device.checks.waiting import until_no_complaints
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster import ssh

_GET_INFO = "/pluginregistration.Registration/GetInfo"
_SERVICE = "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin"
_WATCH_HEALTH = "/v1.DRAResourceHealth/NodeWatchResources"
_HEALTH = {dra_health.HEALTHY: "Healthy", dra_health.UNHEALTHY: "Unhealthy", dra_health.UNKNOWN: "Unknown"}


class CallFailed(CheckError):
    """The plugin answered a call with an error, or not at all."""


class Plugin:
    """A connection to the service socket of a plugin."""

    def __init__(self, node: str, channel: grpc.Channel) -> None:
        self._node = node
        self._channel = channel

    def prepare(self, claims: Sequence[ClaimOnNode]) -> Prepared:
        """Call NodePrepareResources for ``claims``. Raises CallFailed if the whole call fails."""
        request = dra.NodePrepareResourcesRequest(claims=[_named(claim) for claim in claims])
        answer, seconds = self._call("NodePrepareResources", request, dra.NodePrepareResourcesResponse)
        answers = {uid: Answer(tuple(map(_device, item.devices)), item.error) for uid, item in answer.claims.items()}
        return Prepared(tuple(claims), answers, seconds)

    def unprepare(self, claims: Sequence[ClaimOnNode]) -> dict[str, str]:
        """Call NodeUnprepareResources; errors by uid, empty where it succeeded. Raises CallFailed like ``prepare``."""
        request = dra.NodeUnprepareResourcesRequest(claims=[_named(claim) for claim in claims])
        answer, _ = self._call("NodeUnprepareResources", request, dra.NodeUnprepareResourcesResponse)
        return {uid: item.error for uid, item in answer.claims.items()}

    def health(self) -> dict[PublishedId, str]:
        """The first report of health: Healthy, Unhealthy or Unknown by device. Raises CallFailed."""
        call = self._channel.unary_stream(
            _WATCH_HEALTH,
            request_serializer=dra_health.NodeWatchResourcesRequest.SerializeToString,
            response_deserializer=dra_health.NodeWatchResourcesResponse.FromString,
        )
        with _explained(self._node, "NodeWatchResources"):
            stream = call(dra_health.NodeWatchResourcesRequest(), timeout=Timeout.DRIVER_CALL.seconds)
            report = next(iter(stream))
            stream.cancel()
        return {
            PublishedId(item.device.pool_name, item.device.device_name): _HEALTH[item.health] for item in report.devices
        }

    def _call(self, method: str, request: Any, answer: Any) -> tuple[Any, float]:
        """The answer to a call, and how long it took."""
        call = self._channel.unary_unary(
            f"{_SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        with _explained(self._node, method):
            begin = time.monotonic()
            found = call(request, timeout=Timeout.DRIVER_CALL.seconds)
            return found, time.monotonic() - begin


def _named(claim: ClaimOnNode) -> Any:
    return dra.Claim(namespace=claim.namespace, name=claim.name, uid=claim.uid)


def _device(item: Any) -> PreparedDevice:
    return PreparedDevice(item.pool_name, item.device_name, tuple(item.request_names), tuple(item.cdi_device_ids))


@contextmanager
def _explained(node: str, method: str) -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise CallFailed(f"{node}, {method}: {error.code().name}: {error.details()}") from error


@contextmanager
def plugin(session: Session, node: str, driver: str) -> Iterator[Plugin]:
    """A connection to the plugin of ``driver`` on ``node``. Raises CheckError if none is registered there."""
    with _channel(session, node, info(session, node, driver).endpoint) as channel:
        yield Plugin(node, channel)


def info(session: Session, node: str, driver: str) -> Info:
    """How the plugin of ``driver`` introduces itself to the kubelet of ``node``.

    Asks the registration sockets, the newest first, until one is the driver's. Raises CheckError if none is.
    """
    folder = f"{session.runtime(node).kubelet_root}/plugins_registry"
    others = []
    for name in session.on_node(node, f"ls -t {folder}").split():
        if not name.endswith(".sock"):
            continue
        try:
            with _channel(session, node, f"{folder}/{name}") as channel:
                found = _introduced(node, channel)
        except CallFailed as error:  # left by a plugin that was killed
            others.append(f"{name} ({error})")
            continue
        if found.name == driver:
            return found
        others.append(f"{name} ({found.name})")
    raise CheckError(
        f"{node}: expected a registration socket of {driver} in {folder}, found {', '.join(others) or 'none'}; "
        f"look at the log of its pod"
    )


def _introduced(node: str, channel: grpc.Channel) -> Info:
    call = channel.unary_unary(
        _GET_INFO,
        request_serializer=registration.InfoRequest.SerializeToString,
        response_deserializer=registration.PluginInfo.FromString,
    )
    with _explained(node, "GetInfo"):
        call(registration.InfoRequest(), timeout=Timeout.DRIVER_CALL.seconds)
        begin = time.monotonic()
        found = call(registration.InfoRequest(), timeout=Timeout.DRIVER_CALL.seconds)
        seconds = time.monotonic() - begin
    return Info(found.type, found.name, found.endpoint, tuple(found.supported_versions), seconds)


@contextmanager
def _channel(session: Session, node: str, path: str) -> Iterator[grpc.Channel]:
    """A gRPC channel to the socket ``path`` of ``node``, which root owns."""
    access = session.cluster.node(node)
    if access.sudo:
        raise SkipCheck(f"{node}: the plugin's sockets are root's, and SSH forwards sockets of {access.user} only")
    with tempfile.TemporaryDirectory(prefix="mock-device-") as folder, tempfile.TemporaryFile() as said:
        local = Path(folder) / "plugin.sock"
        argv = ["setpriv", "--pdeathsig", "KILL", *ssh.forward_argv(access, local, path)]
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)

        def complaints() -> list[str]:
            if child.poll() is None:
                return [] if local.exists() else ["it is not connected"]
            said.seek(0)
            raise CheckError(f"{node}: ssh did not forward {path}: {said.read().decode(errors='replace').strip()}")

        try:
            until_no_complaints(complaints, Timeout.LOGIN.nominal, f"SSH to {path} of {node}")
            with grpc.insecure_channel(f"unix:{local}") as channel:
                yield channel
        finally:
            child.terminate()
            child.wait(Timeout.KILLED.seconds)


def claim_on_node(api: ApiClient, name: str) -> ClaimOnNode:
    """The allocated claim ``name`` of the tests' namespace. Raises CheckError if it has no device of the driver."""
    item = kube.get_claim(api, name)
    results = claim_forms.parse(item).own_results
    if not results:
        raise CheckError(f"claim {name!r}: expected devices of the driver, found none")
    nodes = {device.pool: device.node for device in slices.published(api)}
    if results[0].pool not in nodes:
        raise CheckError(f"claim {name!r}: expected a ResourceSlice of pool {results[0].pool}, found none")
    metadata = item["metadata"]
    return ClaimOnNode(nodes[results[0].pool], metadata["namespace"], name, metadata["uid"], results)


def unallocated_on_node(api: ApiClient, name: str, node: str) -> ClaimOnNode:
    """The claim ``name``, to which nothing is allocated, as the kubelet of ``node`` names it. Raises CheckError."""
    metadata = kube.get_claim(api, name)["metadata"]
    return ClaimOnNode(node, metadata["namespace"], name, metadata["uid"], ())


def refusal(what: str, call: Callable[[], Prepared]) -> str:
    """Why the plugin does not prepare a claim: the error of the whole call, or of the claim's entry.

    Raises CheckError if it prepares the claim.
    """
    try:
        prepared = call()
    except CallFailed as error:
        return str(error)
    errors = [answer.error for answer in prepared.answers.values()]
    if errors and all(errors):
        return "; ".join(errors)
    raise CheckError(f"{what}: expected the plugin to refuse, but it prepared {', '.join(prepared.cdi) or 'it'}")
