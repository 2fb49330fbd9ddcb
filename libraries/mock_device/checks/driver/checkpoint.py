"""The driver's checkpoint of prepared claims on each node, in this project's format (docs/driver.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.session import Session
from mock_device.checks.objects import claim_forms
from mock_device.driver import current
from mock_device.lab.cluster.node_runtime import NodeRuntime


def folder(runtime: NodeRuntime) -> str:
    """The driver's folder among the kubelet's plugins: its service's sockets and the checkpoint."""
    return f"{runtime.kubelet_root}/plugins/{current.driver().name}"


def path(runtime: NodeRuntime) -> str:
    """The driver's checkpoint on a node."""
    return f"{folder(runtime)}/{current.driver().checkpoint}"


class BrokenCheckpoint(Enum):
    """Content of a checkpoint that the driver cannot use."""

    EMPTY = ""
    TRUNCATED = '{"version": 2, "claims": {"half'
    UNKNOWN_VERSION = '{"version": 99, "claims": {}}'


def write(session: Session, node: str, content: str) -> None:
    """Replace the driver's checkpoint on ``node``."""
    session.on_node(node, f"cat > {path(session.runtime(node))} <<'EOF'\n{content}\nEOF")


def read(session: Session) -> dict[str, dict[str, Any]]:
    """The driver's checkpoint on every node; one without claims where the file is missing. Raises CheckError."""
    texts = session.on_nodes(lambda runtime: f"cat {path(runtime)} 2>/dev/null || echo '{{\"claims\": {{}}}}'")
    return {node: _parse(node, text) for node, text in texts.items()}


def _parse(node: str, text: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise CheckError(
            f"{node}: expected JSON in {current.driver().checkpoint}, found {text[:200]!r}: {error}"
        ) from error
    return content


def of_version(content: Mapping[str, Any], version: int) -> str:
    """``content`` as a driver with checkpoint format ``version`` writes it.

    Version 1, of older drivers, has no boot ID. A version above this driver's has
    a field that it does not know.
    """
    if version == 1:
        return json.dumps({"version": 1, "claims": content["claims"]})
    return json.dumps({**content, "version": version, "unknown": {"to": "this driver"}})


def complaints(checkpoints: Mapping[str, Mapping[str, Any]], claims: Iterable[Mapping[str, Any]]) -> list[str]:
    """Claims that checkpoints record though no pod uses them, and used claims of the driver that none records."""
    used = {
        claim["metadata"]["uid"]: f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"
        for claim in claims
        if (claim.get("status") or {}).get("reservedFor") and claim_forms.parse(claim).own_results
    }
    recorded = {uid: node for node, content in checkpoints.items() for uid in content["claims"]}
    found = [
        f"{node}: the checkpoint has claim {checkpoints[node]['claims'][uid]['name']} (uid {uid}), which no pod uses"
        for uid, node in recorded.items()
        if uid not in used
    ]
    return found + [f"no checkpoint has claim {name} (uid {uid})" for uid, name in used.items() if uid not in recorded]
