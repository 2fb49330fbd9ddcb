"""The kubelet's plugin protocols, over unix sockets.

Services ``pluginregistration.Registration`` and
``k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin`` (protos/*.proto). The method tables are
written by hand, because generated stubs would only add imports.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import grpc

from mock_accel_dra import DRIVER_NAME, klog
from mock_accel_dra.device_health import HealthFeed
from mock_accel_dra.durations import Durations
from mock_accel_dra.kubelet import Presence
from mock_accel_dra.prepare import GivenUpError, PrepareError, Preparer
from mock_accel_dra.protos import dra_health_v1_pb2 as health
from mock_accel_dra.protos import dra_v1_pb2 as dra
from mock_accel_dra.protos import pluginregistration_v1_pb2 as registration

DRA_SERVICE = "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin"
HEALTH_SERVICE = "v1.DRAResourceHealth"
REGISTRATION_SERVICE = "pluginregistration.Registration"
SUPPORTED_VERSIONS = ("v1.DRAPlugin", HEALTH_SERVICE)
_LONGEST_SOCKET_PATH = 107
"""sun_path of unix(7) without its terminating NUL."""
_WORKERS = 6
"""Threads; the health stream occupies one, or two while the kubelet restarts."""


class ServeError(OSError):
    """A socket cannot be served."""


class ClaimObserver(Protocol):
    """Receives the results of prepare and unprepare."""

    def failed(self, namespace: str, claim: str, uid: str, message: str) -> None:
        """A claim cannot be prepared; ``message`` is the reason."""

    def changed(self) -> None:
        """Claims were prepared or unprepared."""


def dra_handler(preparer: Preparer, durations: Durations, observer: ClaimObserver) -> grpc.GenericRpcHandler[Any, Any]:
    """The DRAPlugin service: every claim of a call gets its devices or its own error.

    A call that the kubelet has given up changes nothing from then on, because the
    kubelet's next call may want something else.
    ``durations`` has the labels operation (prepare, unprepare) and result (ok, error).
    ``observer`` is notified of the result of each claim.
    """

    def prepare(request: Any, context: grpc.ServicerContext) -> Any:
        klog.info(klog.FLOW, "NodePrepareResources", claims=[claim.name for claim in request.claims])
        response = dra.NodePrepareResourcesResponse()
        for claim in request.claims:
            entry = response.claims[claim.uid]
            try:
                with _timed(durations, "prepare"):
                    results = preparer.prepare(claim.namespace, claim.name, claim.uid, _given_up(context))
            except GivenUpError as error:
                _log_given_up(request, claim, error)
                entry.error = str(error)  # in case the caller reads it after all
                break
            except PrepareError as error:
                klog.error("Prepare failed", claim=f"{claim.namespace}/{claim.name}", uid=claim.uid, err=error)
                entry.error = str(error)
                observer.failed(claim.namespace, claim.name, claim.uid, str(error))
                continue
            for result in results:
                device = entry.devices.add(
                    request_names=[result.request],
                    pool_name=result.pool,
                    device_name=result.device,
                    cdi_device_ids=[result.cdi_id, *result.more_ids],
                )
                if result.share_id is not None:
                    device.share_id = result.share_id
        observer.changed()
        return response

    def unprepare(request: Any, context: grpc.ServicerContext) -> Any:
        klog.info(klog.FLOW, "NodeUnprepareResources", claims=[claim.name for claim in request.claims])
        response = dra.NodeUnprepareResourcesResponse()
        for claim in request.claims:
            entry = response.claims[claim.uid]
            try:
                with _timed(durations, "unprepare"):
                    preparer.unprepare(claim.namespace, claim.name, claim.uid, _given_up(context))
            except GivenUpError as error:
                _log_given_up(request, claim, error)
                entry.error = str(error)  # in case the caller reads it after all
                break
            except PrepareError as error:
                klog.error("Unprepare failed", claim=f"{claim.namespace}/{claim.name}", uid=claim.uid, err=error)
                entry.error = str(error)
        # Before the answer, because the kubelet may prepare the same claim again at once.
        observer.changed()
        return response

    methods = {
        "NodePrepareResources": _unary(prepare, dra.NodePrepareResourcesRequest),
        "NodeUnprepareResources": _unary(unprepare, dra.NodeUnprepareResourcesRequest),
    }
    return grpc.method_handlers_generic_handler(DRA_SERVICE, methods)


def _given_up(context: grpc.ServicerContext) -> Callable[[], bool]:
    """A function that returns whether the caller of ``context`` is gone or no longer waits."""

    def given_up() -> bool:
        # Another thread marks the call as ended; a passed deadline may be visible here before that.
        left = context.time_remaining()
        return not context.is_active() or (left is not None and left <= 0)

    return given_up


def _log_given_up(request: Any, claim: Any, error: GivenUpError) -> None:
    names = [f"{item.namespace}/{item.name}" for item in request.claims]
    place = f"{claim.namespace}/{claim.name}"
    klog.warning("Call was given up", claim=place, uid=claim.uid, claimsOfCall=names, err=error)


def health_handler(feed: HealthFeed, timeout: float, kubelet: Presence) -> grpc.GenericRpcHandler[Any, Any]:
    """The DRAResourceHealth service: a message with all devices after each scan.

    After ``timeout`` seconds without a message the kubelet considers a device's health
    unknown. ``kubelet`` is notified while a stream is open.
    """

    def watch(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with kubelet.stream():
            yield from messages(request, context)

    def messages(_: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        klog.info(klog.FLOW, "NodeWatchResources")
        gone = threading.Event()
        context.add_callback(gone.set)
        for report in feed.follow(gone):
            yield health.NodeWatchResourcesResponse(
                devices=[
                    health.DeviceHealth(
                        device=health.DeviceIdentifier(pool_name=item.pool, device_name=item.device),
                        health=health.HEALTHY if item.healthy else health.UNHEALTHY,
                        last_updated_time=report.time,
                        health_check_timeout_seconds=int(timeout),
                        message=item.message,
                    )
                    for item in report.devices
                ]
            )

    methods = {
        "NodeWatchResources": grpc.unary_stream_rpc_method_handler(
            watch,
            request_deserializer=health.NodeWatchResourcesRequest.FromString,
            response_serializer=lambda answer: answer.SerializeToString(),
        )
    }
    return grpc.method_handlers_generic_handler(HEALTH_SERVICE, methods)


@contextmanager
def _timed(durations: Durations, operation: str) -> Iterator[None]:
    begin = time.monotonic()
    try:
        yield
    except PrepareError:
        durations.observe(time.monotonic() - begin, operation, "error")
        raise
    durations.observe(time.monotonic() - begin, operation, "ok")


def registration_handler(endpoint: Path, registered: Callable[[bool], None]) -> grpc.GenericRpcHandler[Any, Any]:
    """The Registration service for ``endpoint``; ``registered`` is called with the kubelet's result."""

    def get_info(_: Any, __: grpc.ServicerContext) -> Any:
        klog.info(klog.FLOW, "GetInfo", endpoint=endpoint)
        return registration.PluginInfo(
            type="DRAPlugin", name=DRIVER_NAME, endpoint=str(endpoint), supported_versions=SUPPORTED_VERSIONS
        )

    def notify(status: Any, _: grpc.ServicerContext) -> Any:
        if status.plugin_registered:
            klog.info(klog.STATE, "Registered with the kubelet", endpoint=endpoint)
        else:
            klog.error("The kubelet did not register the driver", err=status.error)
        registered(status.plugin_registered)
        return registration.RegistrationStatusResponse()

    methods = {
        "GetInfo": _unary(get_info, registration.InfoRequest),
        "NotifyRegistrationStatus": _unary(notify, registration.RegistrationStatus),
    }
    return grpc.method_handlers_generic_handler(REGISTRATION_SERVICE, methods)


def serve(socket: Path, *handlers: grpc.GenericRpcHandler[Any, Any]) -> grpc.Server:
    """Serve ``handlers`` on the unix socket ``socket``; replaces a stale socket. Raises ServeError."""
    if len(str(socket)) > _LONGEST_SOCKET_PATH:
        raise ServeError(f"expected a socket path of at most {_LONGEST_SOCKET_PATH} bytes, found {socket}")
    try:
        socket.parent.mkdir(parents=True, exist_ok=True)
        socket.unlink(missing_ok=True)
        server = grpc.server(ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix=socket.stem))
        server.add_generic_rpc_handlers(handlers)
        server.add_insecure_port(f"unix:{socket}")
    except (OSError, RuntimeError) as error:  # gRPC raises RuntimeError if it cannot bind an address
        raise ServeError(f"cannot serve {socket}: {error}") from error
    server.start()
    klog.info(klog.OPERATION, "Serving", socket=socket)
    return server


def _unary(method: Callable[[Any, grpc.ServicerContext], Any], request: Any) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(
        method, request_deserializer=request.FromString, response_serializer=lambda answer: answer.SerializeToString()
    )
