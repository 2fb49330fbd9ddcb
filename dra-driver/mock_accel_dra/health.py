"""HTTP for the kubelet's probes and for Prometheus: /healthz, /readyz, /metrics."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mock_accel_dra import klog

_REQUEST_TIMEOUT_SECONDS = 5.0
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text exposition format."""


_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""Errors of socket and bind if the kernel has no IPv6 or has it disabled."""


class _BothFamilies(ThreadingHTTPServer):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        # Its default depends on the node (net.ipv6.bindv6only).
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class HealthServer:
    """Answers requests in background threads until ``close``."""

    def __init__(self, port: int, ready: Callable[[], bool], metrics: Callable[[], bytes] | None = None) -> None:
        """Listen on TCP ``port`` (0 picks a free one) of IPv6 and IPv4, or IPv4 alone without IPv6. Raises OSError."""

        class Handler(BaseHTTPRequestHandler):
            timeout = _REQUEST_TIMEOUT_SECONDS

            def do_GET(self) -> None:
                status, body = HTTPStatus.NOT_FOUND, b"expected /healthz, /readyz or /metrics\n"
                if self.path == "/healthz":
                    status, body = HTTPStatus.OK, b"ok\n"
                elif self.path == "/readyz":
                    is_ready = ready()
                    status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
                    body = b"ok\n" if is_ready else b"not ready\n"
                elif self.path == "/metrics" and metrics is not None:
                    status, body = HTTPStatus.OK, metrics()
                self.send_response(status)
                self.send_header("Content-Type", _TEXT)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                # A client that timed out before it sent a request has no path.
                klog.info(klog.SCAN, "Probe", path=getattr(self, "path", ""))

        try:
            self._server: ThreadingHTTPServer = _BothFamilies(("::", port), Handler)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
            self._server = ThreadingHTTPServer(("", port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
