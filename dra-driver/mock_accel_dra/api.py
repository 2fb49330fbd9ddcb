"""Client for the part of the Kubernetes API that this driver uses: JSON over HTTPS, standard library only.

Why not the package ``kubernetes``: docs/decisions/0010-own-http-client.md.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from mock_accel_dra import klog

SLICES = "/apis/resource.k8s.io/v1/resourceslices"
CLAIMS = "/apis/resource.k8s.io/v1/resourceclaims"
NODES = "/api/v1/nodes"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_SECONDS = 10.0
_WATCH_SECONDS = 240
_JSON = "application/json"
_APPLY = "application/apply-patch+yaml"
"""JSON is YAML."""
_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"

Object = dict[str, Any]


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        """Seconds until the next attempt, if the API server asks for a delay."""


class ApiUnreachableError(ApiError):
    """No answer from the API server."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)


def timestamp() -> str:
    """The current time as the API writes it (metav1.Time): UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def claim_path(namespace: str, name: str) -> str:
    """Path of a ResourceClaim."""
    return f"/apis/resource.k8s.io/v1/namespaces/{quote(namespace)}/resourceclaims/{quote(name)}"


class Client:
    """Requests to one API server. Thread-safe: each thread has its own connection."""

    def __init__(self, url: str, *, ca_file: Path | None = None, token_file: Path | None = None) -> None:
        """``token_file`` is read for every request because the kubelet renews it."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected an URL like https://10.96.0.1:443, found {url!r}")
        self.url = url
        self._host = parts.hostname
        self._port = parts.port
        self._token_file = token_file
        self._context: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._context = ssl.create_default_context(cafile=ca_file)
            # Default since Python 3.13; CA certificates of k3s and older kubeadm fail this check.
            self._context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._local = threading.local()
        self.errors = 0
        """Failed requests. Two threads that fail at the same time may be counted once."""

    @classmethod
    def in_cluster(cls) -> Client:
        """A client with the pod's service account. Raises ValueError outside a pod."""
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            raise ValueError("not in a pod (KUBERNETES_SERVICE_HOST is not set): say --api-server URL")
        host = f"[{host}]" if ":" in host else host
        return cls(f"https://{host}:{port}", ca_file=SERVICE_ACCOUNT / "ca.crt", token_file=SERVICE_ACCOUNT / "token")

    def get(self, path: str, params: Mapping[str, str] | None = None, *, metadata_only: bool = False) -> Object:
        """Read an object or a list. Raises ApiError, as all methods do."""
        accept = _METADATA.format("List" if params is not None else "") if metadata_only else _JSON
        return self._request("GET", path, params=params, accept=accept)

    def create(self, path: str, body: Object) -> Object:
        """Create an object in the collection ``path``."""
        return self._request("POST", path, body)

    def update(self, path: str, body: Object) -> Object:
        """Replace an object; a conflict of resource versions is an ApiError of status 409."""
        return self._request("PUT", path, body)

    def apply(self, path: str, body: Object, manager: str) -> Object:
        """Server-side apply of ``body`` by field manager ``manager``; takes over fields that others own."""
        params = {"fieldManager": manager, "force": "true"}
        return self._request("PATCH", path, body, params, content_type=_APPLY)

    def delete(self, path: str) -> bool:
        """Delete an object; False when it was not there."""
        try:
            self._request("DELETE", path)
        except ApiError as error:
            if error.status != http.client.NOT_FOUND:
                raise
            return False
        return True

    def watch(
        self, path: str, params: Mapping[str, str], version: str, *, metadata_only: bool = False
    ) -> Iterator[tuple[str, Object]]:
        """Changes (ADDED, MODIFIED, DELETED and the object) after resource version ``version``.

        Ends after some minutes; then list and watch again. Raises ApiError with
        status 410 if the version is too old.
        """
        query = {**params, "watch": "1", "resourceVersion": version, "timeoutSeconds": str(_WATCH_SECONDS)}
        accept = _METADATA.format("") if metadata_only else _JSON
        connection = None
        try:
            connection = self._connect(_WATCH_SECONDS + _TIMEOUT_SECONDS)
            connection.request("GET", f"{path}?{urlencode(query)}", headers=self._headers(accept))
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise _refusal("GET", path, response, response.read())
            while line := response.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiError(int(status.get("code", 0)), f"watch of {path}: {status.get('message')}")
                yield event["type"], event["object"]
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise ApiUnreachableError(f"watch of {path} on {self.url}: {error!r}") from error
        finally:
            if connection is not None:
                connection.close()

    def _connect(self, timeout: float = _TIMEOUT_SECONDS) -> http.client.HTTPConnection:
        if self._context is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        else:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._context)
        connection.connect()
        # In a guest that was saved and restored, connections exist whose peer is gone.
        for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
            connection.sock.setsockopt(socket.IPPROTO_TCP, option, value)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection

    def _headers(self, accept: str, content_type: str = _JSON) -> dict[str, str]:
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": "mock-accel-dra-driver"}
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {self._token_file.read_text(encoding='ascii').strip()}"
        return headers

    def _request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        params: Mapping[str, str] | None = None,
        accept: str = _JSON,
        content_type: str = _JSON,
    ) -> Object:
        target = f"{path}?{urlencode(params)}" if params else path
        content = None if body is None else json.dumps(body)
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        while True:
            reused = connection is not None
            try:
                connection = connection or self._connect()
                self._local.connection = connection
                connection.request(method, target, content, self._headers(accept, content_type))
                response = connection.getresponse()
                data = response.read()
                break
            except (http.client.HTTPException, OSError) as error:
                if connection is not None:
                    connection.close()
                connection = self._local.connection = None
                # The server may close an idle connection. Sending twice is safe:
                # a second create or delete of the same name is refused.
                if not reused:
                    self.errors += 1
                    raise ApiUnreachableError(f"{method} {path} on {self.url}: {error!r}") from error
        klog.info(klog.SCAN, "API request", method=method, path=path, status=response.status)
        if response.status >= http.client.BAD_REQUEST:
            self.errors += 1
            raise _refusal(method, path, response, data)
        try:
            answer: Object = json.loads(data)
        except ValueError as error:
            raise ApiError(response.status, f"{method} {path}: expected JSON, found {data[:100]!r}") from error
        return answer


def _refusal(method: str, path: str, response: http.client.HTTPResponse, data: bytes) -> ApiError:
    try:
        message = json.loads(data)["message"]
    except (ValueError, KeyError, TypeError):
        message = data[:200].decode(errors="replace")
    # RFC 9110, 10.2.3: seconds or a date; the API server sends seconds only.
    seconds = response.getheader("Retry-After", "")
    retry_after = float(seconds) if seconds.isdecimal() else None
    return ApiError(response.status, f"{method} {path}: {response.status}: {message}", retry_after)
