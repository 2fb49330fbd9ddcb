"""What is in a cluster's registry, and under which names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster.cluster import Guests
from mock_device.lab.controlplane import https
from mock_device.lab.controlplane.addresses import REGISTRY_NAME, REGISTRY_PORT

_OK = 200


@dataclass(frozen=True)
class Registry:
    """A cluster's registry."""

    push: str
    """Registry part of names on this machine."""
    pull: str
    """Registry part of names in pods; ``push`` works there, too."""
    images: list[str]
    """Names without the registry."""


def look(guests: Guests) -> Registry:
    """The registry of a running cluster. Raises StepError."""
    here = f"127.0.0.1:{guests.registry_port}"
    repositories = _get(here, "_catalog")["repositories"] or []
    images = [
        f"{repository}:{tag}"
        for repository in sorted(repositories)
        for tag in _get(here, f"{repository}/tags/list")["tags"] or []
    ]
    return Registry(here, f"{REGISTRY_NAME}:{REGISTRY_PORT}", images)


def _get(here: str, path: str) -> dict[str, Any]:
    """Answer to a GET request of the registry's API (OCI distribution specification, "Endpoints")."""
    try:
        status, body = https.request(f"http://{here}/v2/{path}", timeout=Timeout.REGISTRY_ANSWER.seconds)
    except (OSError, HTTPException) as error:
        raise StepError(f"the cluster's registry does not answer at {here}: {error}; see: lab clusters") from error
    if status != _OK:
        raise StepError(f"the cluster's registry answered {status} to {path}: {body.strip()[:300]}")
    answer: dict[str, Any] = json.loads(body)
    return answer
