"""An API server that serves recorded answers over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from kubernetes.client import ApiClient, Configuration

Object = dict[str, Any]
Answers = dict[str, tuple[int, Object | str]]


@contextmanager
def api_server(answers: Answers) -> Iterator[ApiClient]:
    """A client of a server that answers each path, with any method, with status and body from ``answers``.

    An object is sent as JSON, a string unchanged.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = answers.get(urlsplit(self.path).path, (404, {"message": "not found"}))
            data = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_address[1]}"
        with ApiClient(Configuration(host=host)) as client:
            yield client
        server.shutdown()


def listing(*items: Object) -> tuple[int, Object]:
    """An answer that lists ``items``."""
    return 200, {"metadata": {"resourceVersion": "1"}, "items": list(items)}
