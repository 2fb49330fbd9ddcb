"""Apply and delete the objects of manifests."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import ApiClient, ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.kube import kubeclient

_FIELD_MANAGER = "lab"
_RETRY_SECONDS = 0.5
_WATCH_SECONDS = 20.0
"""Of one watch, which must end before the time-out of its request; the dynamic client names none."""


def read_manifest(manifest: Path | str) -> list[dict[str, Any]]:
    """Objects of a manifest, which is a file or YAML text; empty documents are skipped, Lists are flattened."""
    text = manifest.read_text() if isinstance(manifest, Path) else manifest
    objects = []
    for document in yaml.safe_load_all(text):
        if not document:
            continue
        if document.get("kind", "").endswith("List") and "items" in document:
            objects += document["items"]
        else:
            objects.append(document)
    return objects


def apply(api: ApiClient, manifest: Path | str, namespace: str | None = None) -> list[str]:
    """Apply every object by server-side apply; idempotent. Returns ``Kind namespace/name`` of each.

    ``namespace`` is for objects that name none. Raises StepError with the object
    that the API server refuses, and its reason.
    """
    return apply_objects(api, read_manifest(manifest), namespace)


def apply_objects(api: ApiClient, objects: Iterable[dict[str, Any]], namespace: str | None = None) -> list[str]:
    """Like ``apply``, for objects that have been read."""
    done = []
    with dynamic_client(api) as dynamic:
        for item in objects:
            title = _title(item, namespace)
            try:
                resource = dynamic.resources.get(api_version=item["apiVersion"], kind=item["kind"])
                dynamic.server_side_apply(
                    resource,
                    body=item,
                    namespace=_namespace(item, namespace, resource.namespaced),
                    field_manager=_FIELD_MANAGER,
                    force_conflicts=True,
                )
            except ResourceNotFoundError as error:
                raise StepError(f"{title}: the cluster has no {item['apiVersion']} {item['kind']}") from error
            except ApiException as error:
                raise StepError(f"{title}: the API server refuses it, {kubeclient.refusal(error)}") from error
            done.append(title)
    return done


def delete(api: ApiClient, manifest: Path | str, namespace: str | None = None, timeout: float | None = None) -> None:
    """Delete every object, last one first, and wait until they and their dependents are gone.

    Missing objects are no error. ``timeout`` is wall time in seconds for all
    objects together, by default Timeout.API_DELETE; when it expires, StepError names the object that remains.
    """
    delete_objects(api, read_manifest(manifest), namespace, timeout)


def delete_objects(
    api: ApiClient,
    objects: Sequence[dict[str, Any]],
    namespace: str | None = None,
    timeout: float | None = None,
) -> None:
    """Like ``delete``, for objects that have been read."""
    seconds = Timeout.API_DELETE.seconds if timeout is None else timeout
    deadline = time.monotonic() + seconds
    with dynamic_client(api) as dynamic:
        for item in reversed(objects):
            try:
                resource = dynamic.resources.get(api_version=item["apiVersion"], kind=item["kind"])
            except ResourceNotFoundError:
                continue
            where = _namespace(item, namespace, resource.namespaced)
            name = item["metadata"]["name"]
            try:
                dynamic.delete(resource, name=name, namespace=where, body={"propagationPolicy": "Foreground"})
            except NotFoundError:
                continue
            if not _gone(dynamic, resource, name, where, deadline):
                raise _remains(item, namespace, seconds)


def wait_gone(api: ApiClient, objects: Iterable[dict[str, Any]], namespace: str | None, timeout: float) -> None:
    """Wait until none of ``objects`` exists; something else deletes them.

    ``timeout`` is wall time in seconds for all of them; when it expires, StepError names the object that remains.
    """
    deadline = time.monotonic() + timeout
    with dynamic_client(api) as dynamic:
        for item in objects:
            try:
                resource = dynamic.resources.get(api_version=item["apiVersion"], kind=item["kind"])
            except ResourceNotFoundError:
                continue
            where = _namespace(item, namespace, resource.namespaced)
            if not _gone(dynamic, resource, item["metadata"]["name"], where, deadline):
                raise _remains(item, namespace, timeout)


def _remains(item: dict[str, Any], namespace: str | None, timeout: float) -> StepError:
    return StepError(f"{_title(item, namespace)} is still there after {timeout:.0f} s: see its finalizers and events")


def _gone(dynamic: Any, resource: Any, name: str, namespace: str | None, deadline: float) -> bool:
    """Watch an object until it is deleted; False if it still exists at the ``deadline``."""
    while (remaining := deadline - time.monotonic()) > 0:
        begin = time.monotonic()
        listing = dynamic.get(resource, namespace=namespace, field_selector=f"metadata.name={name}")
        if not listing.items:
            return True
        events = dynamic.watch(
            resource,
            namespace=namespace,
            name=name,
            resource_version=listing.metadata.resourceVersion,
            timeout=max(1, int(min(remaining, _WATCH_SECONDS))),
        )
        try:
            if any(event["type"] == "DELETED" for event in events):
                return True
        except ApiException as error:
            if error.status != HTTPStatus.GONE:
                raise
        # Pause also after a watch that ended at once without an error.
        time.sleep(max(min(begin + _RETRY_SECONDS, deadline) - time.monotonic(), 0))
    return False


def _namespace(item: dict[str, Any], default: str | None, namespaced: bool) -> str | None:
    return item["metadata"].get("namespace") or default or "default" if namespaced else None


def _title(item: dict[str, Any], namespace: str | None) -> str:
    where = item["metadata"].get("namespace") or namespace
    return f"{item['kind']} {where + '/' if where else ''}{item['metadata']['name']}"


@contextmanager
def dynamic_client(api: ApiClient) -> Iterator[Any]:
    """A dynamic client with a private discovery cache.

    By default the client caches a cluster's API in the temporary folder under
    host and port, and would use it for the next cluster on the same port.
    """
    with tempfile.TemporaryDirectory(prefix="mock-device-") as folder:
        yield DynamicClient(api, cache_file=str(Path(folder, "discovery.json")))  # type: ignore[no-untyped-call]
