"""Checkpoints on the nodes, compared with the cluster's claims."""

from __future__ import annotations

import json
from typing import Any

from mock_device.checks.driver import checkpoint as checkpoints


def checkpoint(*uids: str) -> dict[str, Any]:
    claims = {uid: {"namespace": "default", "name": f"name-{uid}", "devices": []} for uid in uids}
    return {"version": 2, "bootID": "b", "claims": claims}


def claim(uid: str, *, used: bool = True, driver: str = "mock-accel.example.com") -> dict[str, Any]:
    results = [{"request": "r", "driver": driver, "pool": "node1/mock0", "device": "mock0"}]
    allocation = {"devices": {"results": results}}
    status = {"allocation": allocation, "reservedFor": [{"resource": "pods", "name": "p"}]} if used else {}
    return {"metadata": {"uid": uid, "namespace": "default", "name": f"name-{uid}"}, "spec": {}, "status": status}


def test_matching_checkpoints_have_no_complaints() -> None:
    found = {"node1": checkpoint("a"), "node2": checkpoint("b")}
    others = [claim("c", used=False), claim("d", driver="gpu.example.com")]
    assert checkpoints.complaints(found, [claim("a"), claim("b"), *others]) == []


def test_leaked_and_missing_claims_are_named() -> None:
    found = {"node1": checkpoint("gone"), "node2": checkpoint()}
    assert checkpoints.complaints(found, [claim("a")]) == [
        "node1: the checkpoint has claim name-gone (uid gone), which no pod uses",
        "no checkpoint has claim default/name-a (uid a)",
    ]


def test_checkpoint_of_version_1_has_no_boot_id() -> None:
    assert json.loads(checkpoints.of_version(checkpoint("a"), 1)) == {"version": 1, "claims": checkpoint("a")["claims"]}


def test_newer_checkpoint_has_unknown_fields() -> None:
    content = json.loads(checkpoints.of_version(checkpoint("a"), 3))
    assert content["version"] == 3
    assert content["claims"] == checkpoint("a")["claims"]
    assert set(content) - set(checkpoint("a"))
