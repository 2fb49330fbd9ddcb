"""The kubelet's side of the plugin protocols, over real unix sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from mock_accel_dra.protos import dra_health_v1_pb2 as health
from mock_accel_dra.protos import dra_v1_pb2 as dra
from mock_accel_dra.protos import pluginregistration_v1_pb2 as registration
from mock_accel_dra.rpc import DRA_SERVICE, HEALTH_SERVICES, REGISTRATION_SERVICE

_TIMEOUT_SECONDS = 45.0
"""The kubelet's time limit for a call. On a busy machine a driver takes more than 10 s to start."""
_LOOK_SECONDS = 0.05
_RECONNECT_MILLISECONDS = 100
"""The minimum that gRPC accepts."""


class FakeKubelet:
    """Calls one socket of a plugin."""

    def __init__(self, socket: Path) -> None:
        # Reconnect as soon as a starting plugin serves; gRPC's default pause is a second or more.
        # "min" is not a pause: it is the time limit of one connection attempt.
        options = [
            ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MILLISECONDS),
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_MILLISECONDS),
            ("grpc.min_reconnect_backoff_ms", int(1000 * _TIMEOUT_SECONDS)),
        ]
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=options)

    def __enter__(self) -> FakeKubelet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def get_info(self) -> Any:
        """PluginInfo of the plugin."""
        return self._call(REGISTRATION_SERVICE, "GetInfo", registration.InfoRequest(), registration.PluginInfo)

    def notify(self, registered: bool, error: str = "") -> None:
        """Notify the plugin of the result of its registration."""
        status = registration.RegistrationStatus(plugin_registered=registered, error=error)
        answer = registration.RegistrationStatusResponse
        self._call(REGISTRATION_SERVICE, "NotifyRegistrationStatus", status, answer)

    def prepare(self, claims: Iterable[tuple[str, str, str]]) -> Any:
        """Prepare claims (namespace, name, uid); answers by uid."""
        request = dra.NodePrepareResourcesRequest(claims=_claims(claims))
        return self._call(DRA_SERVICE, "NodePrepareResources", request, dra.NodePrepareResourcesResponse).claims

    def unprepare(self, claims: Iterable[tuple[str, str, str]]) -> Any:
        """Unprepare claims (namespace, name, uid); answers by uid."""
        request = dra.NodeUnprepareResourcesRequest(claims=_claims(claims))
        return self._call(DRA_SERVICE, "NodeUnprepareResources", request, dra.NodeUnprepareResourcesResponse).claims

    def start_prepare(self, claims: Iterable[tuple[str, str, str]], timeout: float = _TIMEOUT_SECONDS) -> Any:
        """A running call of prepare (grpc.Future): it can be cancelled, and its deadline is ``timeout`` seconds."""
        request = dra.NodePrepareResourcesRequest(claims=_claims(claims))
        return self._start("NodePrepareResources", request, dra.NodePrepareResourcesResponse, timeout)

    def start_unprepare(self, claims: Iterable[tuple[str, str, str]], timeout: float = _TIMEOUT_SECONDS) -> Any:
        """A running call of unprepare, like ``start_prepare``."""
        request = dra.NodeUnprepareResourcesRequest(claims=_claims(claims))
        return self._start("NodeUnprepareResources", request, dra.NodeUnprepareResourcesResponse, timeout)

    def watch_health(self, service: str = HEALTH_SERVICES[0]) -> Any:
        """Health messages for all devices, until the connection is closed (an iterator and grpc.Call)."""
        call: Any = self._channel.unary_stream(
            f"/{service}/NodeWatchResources",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=health.NodeWatchResourcesResponse.FromString,
        )
        return call(health.NodeWatchResourcesRequest(), timeout=_TIMEOUT_SECONDS, wait_for_ready=True)

    def _start(self, method: str, request: Any, answer: Any, timeout: float) -> Any:
        call: Any = self._channel.unary_unary(
            f"/{DRA_SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return call.future(request, timeout=timeout, wait_for_ready=True)

    def _call(self, service: str, method: str, request: Any, answer: Any) -> Any:
        call: Any = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return call(request, timeout=_TIMEOUT_SECONDS, wait_for_ready=True)


class PluginWatcher:
    """The kubelet's watcher of registration sockets (pkg/kubelet/pluginmanager).

    After a failed registration the same path is not tried again for ``pause`` seconds,
    even if another process serves on it by then. The kubelet's pause starts at 0.5 s
    and doubles up to 2 min.
    """

    def __init__(self, folder: Path, pause: float) -> None:
        self._folder = folder
        self._pause = pause
        self._failed: dict[Path, float] = {}
        self._registered: set[Path] = set()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> PluginWatcher:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(_TIMEOUT_SECONDS)

    def wait_failed(self, path: Path) -> None:
        """Wait until a registration on ``path`` has failed."""
        with self._changed:
            assert self._changed.wait_for(lambda: path in self._failed, _TIMEOUT_SECONDS)

    def wait_registered(self, seconds: float) -> set[Path]:
        """Wait until a plugin is registered; returns the sockets of all registered plugins."""
        with self._changed:
            self._changed.wait_for(lambda: self._registered, seconds)
            return set(self._registered)

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            for path in self._folder.glob("[!.]*.sock"):
                if path in self._registered or time.monotonic() < self._failed.get(path, 0.0):
                    continue
                registered = self._register(path)
                with self._changed:
                    if registered:
                        self._registered.add(path)
                    else:
                        self._failed[path] = time.monotonic() + self._pause
                    self._changed.notify_all()

    def _register(self, path: Path) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
        except OSError:
            return False
        with FakeKubelet(path) as kubelet:
            kubelet.get_info()
            kubelet.notify(True)
        return True


def _claims(claims: Iterable[tuple[str, str, str]]) -> list[Any]:
    return [dra.Claim(namespace=namespace, name=name, uid=uid) for namespace, name, uid in claims]
