"""Small HTTPS client with client certificates, for the supervisor, which does not load the Kubernetes client."""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urlsplit

from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.controlplane.pki import Identity


def tls_context(identity: Identity) -> ssl.SSLContext:
    """TLS context of ``identity``, which trusts only the identity's authority."""
    context = ssl.create_default_context(cafile=str(identity.ca))
    context.load_cert_chain(identity.certificate, identity.key)
    return context


def request(
    url: str,
    identity: Identity | None = None,
    *,
    method: str = "GET",
    body: bytes | None = None,
    content_type: str = "application/json",
    timeout: float | None = None,
) -> tuple[int, str]:
    """Send one request and return status and body; ``timeout`` (seconds) bounds each wait for the peer.

    Raises OSError or http.client.HTTPException when there is no answer, ValueError for a URL without a host.
    """
    parts = urlsplit(url)
    if parts.hostname is None:
        raise ValueError(f"expected a URL with a host, found {url!r}")
    seconds = Timeout.LOCAL_HTTPS.seconds if timeout is None else timeout
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = tls_context(identity) if identity else None
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=seconds, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=seconds)
    try:
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, path, body, {"Content-Type": content_type} if body is not None else {})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()
