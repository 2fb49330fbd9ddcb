"""Events on claims that cannot be prepared, for whoever asks why a pod does not start (kubectl describe)."""

from __future__ import annotations

import hashlib
import http.client
import queue
import threading
import time
from dataclasses import dataclass
from urllib.parse import quote

from mock_accel_dra import DRIVER_NAME, klog
from mock_accel_dra.api import ApiError, Client

REASON = "PrepareFailed"
_LONGEST_MESSAGE = 1024
"""core/v1 Event, validation.go: note and message of an event."""
_WAITING = 100
"""Events that wait to be written; more are dropped: the kubelet tries again, and so does its error."""


@dataclass(frozen=True)
class Failure:
    """A claim that cannot be prepared."""

    namespace: str
    claim: str
    uid: str
    message: str

    @property
    def event_name(self) -> str:
        """The same for the same failure, so that the API server refuses to have it twice."""
        digest = hashlib.sha256(f"{self.uid} {self.message}".encode()).hexdigest()
        return f"{self.claim[:200]}.{digest[:16]}"


class EventWriter:
    """Writes events in a thread of its own: the kubelet's call does not wait for them."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node
        self._queue: queue.Queue[Failure] = queue.Queue(_WAITING)
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def __call__(self, namespace: str, claim: str, uid: str, message: str) -> None:
        """Write an event soon."""
        try:
            self._queue.put_nowait(Failure(namespace, claim, uid, message[:_LONGEST_MESSAGE]))
        except queue.Full:
            klog.warning("Event dropped", claim=f"{namespace}/{claim}", text=message)

    def _run(self) -> None:
        while True:
            failure = self._queue.get()
            try:
                self._client.create(f"/api/v1/namespaces/{quote(failure.namespace)}/events", self._event(failure))
            except ApiError as error:
                if error.status != http.client.CONFLICT:
                    klog.error("Event is not written", claim=f"{failure.namespace}/{failure.claim}", err=error)

    def _event(self, failure: Failure) -> dict[str, object]:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": failure.event_name, "namespace": failure.namespace},
            "involvedObject": {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceClaim",
                "namespace": failure.namespace,
                "name": failure.claim,
                "uid": failure.uid,
            },
            "type": "Warning",
            "reason": REASON,
            "message": failure.message,
            "source": {"component": DRIVER_NAME, "host": self._node},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
