"""A small API server over real HTTP, with the paths, selectors and refusals that the driver needs."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from dra_fakes import strategy

Object = dict[str, Any]
Answer = tuple[int, Object, dict[str, str]]
"""Status, content and headers."""
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
NODES = "/api/v1/nodes"
_WATCH_SECONDS = 3600.0
_NAMESPACE = re.compile(r"/namespaces/[^/]+")
_COLLECTION = re.compile(r"(/api(?:s/resource\.k8s\.io)?/v1/(?:namespaces/[^/]+/)?[a-z]+)(?:/([^/]+))?")


class FakeApiServer:
    """Objects by path, with resource versions, field selectors and watches."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.requests: list[tuple[str, str]] = []
        """Method and path of every request."""
        self.broken: int | None = None
        """Status with which every request is refused."""
        self.refused: dict[str, int] = {}
        """Status with which writes of an object are refused, by a part of the object's name."""
        self.refused_fields: set[str] = set()
        """Fields of slices because of which a slice is refused with 422, as by an API server that validates it."""
        self.gates_off: set[str] = set()
        """Disabled feature gates (names in ``strategy``)."""
        self.watch_ends_at_once = False
        self._applied: dict[str, dict[str, list[Object]]] = {}
        """``status.devices`` that each field manager has applied to an object, by its path."""
        self.retry_after: int | None = None
        """Seconds in the header Retry-After of refusals by ``broken``."""
        self.before: Callable[[str, str], Answer | None] = lambda method, path: None
        """Called with method and path before a request is handled; may wait, and may return another answer."""
        self._versions = itertools.count(1)
        self._changed = threading.Condition()
        self._events: list[tuple[str, str, Object]] = []
        self._closing = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        """Stop the server and end all watches."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def put(self, path: str, item: Object) -> None:
        """Set an object, as another client would."""
        with self._changed:
            kind = "MODIFIED" if path in self.objects else "ADDED"
            self._store(path, item, kind)

    def remove(self, path: str) -> None:
        """Delete an object, as another client would."""
        with self._changed:
            self._notify("DELETED", path, self.objects.pop(path))

    def add_node(self, name: str, uid: str = "node-uid") -> None:
        """Add a node."""
        self.put(f"{NODES}/{name}", {"metadata": {"name": name, "uid": uid}})

    def add_slice(self, name: str) -> None:
        """Add a slice of another driver, without devices."""
        spec = {"driver": "other.example.com", "nodeName": "other", "pool": {"name": name, "generation": 1}}
        self.put(f"{SLICES}/{name}", {"metadata": {"name": name}, "spec": spec})

    def add_claim(
        self,
        name: str,
        results: list[Object] | None,
        uid: str = "",
        namespace: str = "default",
        pod: str = "pod",
        config: list[Object] | None = None,
    ) -> None:
        """Add or replace a claim, allocated to ``results`` with ``config`` and reserved for ``pod`` (empty for none).

        With ``results`` None the claim has no allocation and no reservation.
        """
        path = f"/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims/{name}"
        status: Object = {}
        if results is not None:
            status["allocation"] = {"devices": {"results": results, **({"config": config} if config else {})}}
            if pod:
                status["reservedFor"] = [{"resource": "pods", "name": pod, "uid": f"uid-{pod}"}]
        self.put(
            path, {"metadata": {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}"}, "status": status}
        )

    def slices(self) -> dict[str, Object]:
        """ResourceSlices by name."""
        with self._changed:
            return {
                path.rpartition("/")[2]: item for path, item in self.objects.items() if path.startswith(f"{SLICES}/")
            }

    def published(self) -> set[str]:
        """Names of the published devices. Raises AssertionError if a pool is incomplete for the scheduler."""
        pools: dict[str, list[Object]] = {}
        for item in self.slices().values():
            pools.setdefault(item["spec"]["pool"]["name"], []).append(item["spec"])
        for name, specs in pools.items():
            count, numbers = specs[0]["pool"]["resourceSliceCount"], {spec["pool"]["generation"] for spec in specs}
            assert len(specs) == count, f"pool {name}: expected {count} slices, found {len(specs)}"
            assert len(numbers) == 1, f"pool {name}: expected one generation, found {numbers}"
        return {device["name"] for specs in pools.values() for spec in specs for device in spec.get("devices") or []}

    def generations(self) -> dict[str, int]:
        """Pool generation of each slice, by the slice's name."""
        return {name: item["spec"]["pool"]["generation"] for name, item in self.slices().items()}

    def writes(self) -> list[tuple[str, str]]:
        """Requests other than GET."""
        return [request for request in self.requests if request[0] != "GET"]

    def wait_for_slices(self, names: set[str], timeout: float = 10.0) -> None:
        """Wait until exactly the slices ``names`` exist."""
        with self._changed:
            if not self._changed.wait_for(lambda: set(self.slices()) == names, timeout):
                raise AssertionError(f"expected slices {sorted(names)}, found {sorted(self.slices())}")

    def wait_for(self, prefix: str, timeout: float = 10.0) -> None:
        """Wait until there is an object whose path begins with ``prefix``."""
        with self._changed:
            if not self._changed.wait_for(lambda: any(path.startswith(prefix) for path in self.objects), timeout):
                raise AssertionError(f"expected an object {prefix}…, found {sorted(self.objects)}")

    def wait_until(self, path: str, done: Callable[[Object], bool], timeout: float = 10.0) -> None:
        """Wait until ``done(object)`` is true for the object ``path``."""
        with self._changed:
            if not self._changed.wait_for(lambda: path in self.objects and done(self.objects[path]), timeout):
                raise AssertionError(f"{path}: found {json.dumps(self.objects.get(path))}")

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Object | None) -> tuple[int, Object]:
        """Status and content for one request that is not a watch."""
        with self._changed:
            self.requests.append((method, path))
            if self.broken is not None:
                return self.broken, {"message": "broken on purpose"}
            if body and (refusal := self._refusal(path, query, body)):
                return refusal
            if method == "PATCH" and body:
                return self._apply(path.removesuffix("/status"), body, query.get("fieldManager", ""))
            match = _COLLECTION.fullmatch(path)
            if match is None:
                return 404, {"message": f"no such path {path}"}
            if match[2] is None and method == "DELETE":
                return self._delete_all(path)
            if match[2] is None:
                return self._create(path, body) if method == "POST" and body else (200, self._list(path, query))
            if path not in self.objects:
                return 404, {"message": f'"{match[2]}" not found'}
            if method == "DELETE":
                deleted = self.objects.pop(path)
                self._notify("DELETED", path, deleted)
                return 200, deleted
            if method == "PUT" and body:
                return self._update(path, body)
            return 200, self.objects[path]

    def watch(
        self, path: str, query: Mapping[str, str], position: int, seconds: float
    ) -> tuple[int, list[tuple[str, Object]]]:
        """Wait for events on ``path`` after ``position``; an empty list on close or after ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or len(self._events) > position, seconds)
            new = self._events[position:]
            return len(self._events), [
                (kind, item) for kind, where, item in new if where.startswith(path) and _selected(item, query)
            ]

    def _refusal(self, path: str, query: Mapping[str, str], body: Object) -> tuple[int, Object] | None:
        if "name" not in body.get("metadata", {}):
            return None
        for part, status in self.refused.items():
            if part in body["metadata"]["name"]:
                return status, {"message": f"{body['metadata']['name']} is refused on purpose"}
        is_slice = path.startswith(SLICES)
        if is_slice and any(f'"{field}"' in json.dumps(body) for field in self.refused_fields):
            return 422, {"message": f"expected none of {sorted(self.refused_fields)}"}
        if is_slice and (message := strategy.undecodable(body)):
            return 400, {"message": message}
        found = [*(strategy.complaints if is_slice else strategy.named)(body)]
        found += strategy.field_manager(query.get("fieldManager", ""))
        return (422, {"message": "; ".join(found)}) if found else None

    @property
    def closing(self) -> bool:
        return self._closing

    def position_of(self, version: str) -> int:
        """Index of the first event for a watch from ``version``."""
        with self._changed:
            for index, (_, _, item) in enumerate(self._events):
                if int(item["metadata"]["resourceVersion"]) > int(version):
                    return index
            return len(self._events)

    def _list(self, path: str, query: Mapping[str, str]) -> Object:
        folders = {where: where.rpartition("/")[0] for where in self.objects}
        # A collection is listed for one namespace or for all.
        items = [
            self.objects[where] for where, folder in folders.items() if path in (folder, _NAMESPACE.sub("", folder))
        ]
        items = [item for item in items if _selected(item, query)]
        return {"metadata": {"resourceVersion": str(next(self._versions))}, "items": items}

    def _create(self, path: str, body: Object) -> tuple[int, Object]:
        where = f"{path}/{body['metadata']['name']}"
        if where in self.objects:
            return 409, {"message": f'"{body["metadata"]["name"]}" already exists', "reason": "AlreadyExists"}
        self._store(where, {**body, "status": {"phase": "Pending"}} if path.endswith("/pods") else body, "ADDED")
        return 201, self.objects[where]

    def _delete_all(self, path: str) -> tuple[int, Object]:
        """Delete a whole collection; label selectors are ignored."""
        for where in [where for where in self.objects if where.rpartition("/")[0] == path]:
            self._notify("DELETED", where, self.objects.pop(where))
        return 200, {"status": "Success"}

    def _update(self, path: str, body: Object) -> tuple[int, Object]:
        before = self.objects[path]
        if body["metadata"].get("resourceVersion") != before["metadata"]["resourceVersion"]:
            return 409, {"message": "the object has been modified"}
        for field in ("driver", "nodeName"):
            if body["spec"][field] != before["spec"][field]:
                return 422, {"message": f"spec.{field}: field is immutable"}
        if body["spec"]["pool"]["name"] != before["spec"]["pool"]["name"]:
            return 422, {"message": "spec.pool.name: field is immutable"}
        self._store(path, body, "MODIFIED")
        return 200, self.objects[path]

    def _apply(self, path: str, body: Object, manager: str) -> tuple[int, Object]:
        """Server-side apply of a status: entries of ``devices`` by their key, conditions in them by type."""
        if (before := self.objects.get(path)) is None:
            return 404, {"message": "not found"}
        if body["metadata"].get("uid", before["metadata"]["uid"]) != before["metadata"]["uid"]:
            return 409, {"message": "the uid is another one"}
        version = before["metadata"]["resourceVersion"]
        if body["metadata"].get("resourceVersion", version) != version:
            return 409, {"message": "the object has been modified"}
        if not before.get("status", {}).get("devices"):
            self._applied.pop(path, None)
        applied = self._applied.setdefault(path, {})
        applied[manager] = body["status"].get("devices") or []
        status = {**before.get("status", {}), **body["status"], "devices": strategy.merged(applied.values())}
        self._store(path, {**before, "status": status}, "MODIFIED")
        return 200, self.objects[path]

    def _store(self, path: str, item: Object, kind: str) -> None:
        stored = json.loads(json.dumps(item))
        if path.startswith(SLICES):
            stored = strategy.admitted(item, self.objects.get(path), self.gates_off)
        stored["metadata"].setdefault("uid", f"uid-{stored['metadata']['name']}")
        stored["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[path] = stored
        self._notify(kind, path, stored)

    def _notify(self, kind: str, path: str, item: Object) -> None:
        item = {**item, "metadata": {**item["metadata"], "resourceVersion": str(next(self._versions))}}
        self._events.append((kind, path, item))
        self._changed.notify_all()


def _selected(item: Object, query: Mapping[str, str]) -> bool:
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        field, _, value = term.partition("=")
        if item["spec"].get(field.removeprefix("spec.")) != value:
            return False
    return True


def _handler(api: FakeApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query))
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            if query.get("watch"):
                self._watch(parts.path, query)
                return
            headers: dict[str, str] = {}
            if (instead := api.before(self.command, parts.path)) is not None:
                api.requests.append((self.command, parts.path))
                status, content, headers = instead
            else:
                status, content = api.answer(self.command, parts.path, query, body)
            data = json.dumps(content).encode()
            self.send_response(status)
            if status >= 400 and api.retry_after is not None:
                self.send_header("Retry-After", str(api.retry_after))
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

        def _watch(self, path: str, query: Mapping[str, str]) -> None:
            self.close_connection = True
            self.send_response(200)
            # Chunked, as by the real API server: otherwise some clients wait for a full buffer.
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            position = api.position_of(query["resourceVersion"])
            end = time.monotonic() + float(query.get("timeoutSeconds", _WATCH_SECONDS))
            while not api.closing and not api.watch_ends_at_once and (left := end - time.monotonic()) > 0:
                position, events = api.watch(path, query, position, left)
                try:
                    for kind, item in events:
                        line = json.dumps({"type": kind, "object": item}).encode() + b"\n"
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
                        self.wfile.flush()
                except ConnectionError:
                    return
            with contextlib.suppress(ConnectionError):
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler
