"""A fake API server with a real certificate: gives every request the same answer and records the requests."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.x509.oid import NameOID

from mock_device.lab.controlplane.pki import Pki


@dataclass(frozen=True)
class Request:
    """A request of a client."""

    method: str
    path: str
    content_type: str | None
    body: bytes
    user: str
    """Common name of the client's certificate."""
    groups: tuple[str, ...]


@dataclass
class FakeApiServer:
    """The server; ``status`` and ``answer`` are its answer to every request."""

    url: str
    status: int = 200
    answer: str = "ok"
    requests: list[Request] = field(default_factory=list)


@contextmanager
def fake_api_server(pki: Pki) -> Iterator[FakeApiServer]:
    """Run the server on loopback; it accepts only clients with a certificate of ``pki``."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            assert isinstance(self.connection, ssl.SSLSocket)
            certificate = self.connection.getpeercert(binary_form=True)
            assert certificate is not None
            subject = x509.load_der_x509_certificate(certificate).subject
            (user,) = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            groups = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
            server.requests.append(
                Request(
                    str(self.command),
                    self.path,
                    self.headers.get("Content-Type"),
                    body,
                    str(user.value),
                    tuple(str(group.value) for group in groups),
                )
            )
            content = server.answer.encode()
            self.send_response(server.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PATCH = _answer

        def log_message(self, format: str, *args: object) -> None:
            """Keep the output of tests free of requests."""

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki.ca))
    context.verify_mode = ssl.CERT_REQUIRED
    serving = pki.identity("apiserver")
    context.load_cert_chain(serving.certificate, serving.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.socket = context.wrap_socket(http.socket, server_side=True)
        server = FakeApiServer(f"https://127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join(10)
