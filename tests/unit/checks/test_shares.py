"""Claims that share a device, and what containers see of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from support.published_devices import publish
from support.topologies import CLUSTER

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import claim_forms, claims, shares
from mock_device.checks.objects.claims import DeviceRequest
from mock_device.driver import current

Object = dict[str, Any]
PF = CLUSTER.nodes[0].pfs[0]
DRIVER = current.driver().name
_PUBLISHED = publish(PF)
DEVICE = replace(_PUBLISHED, attributes={**_PUBLISHED.attributes, f"{DRIVER}/uuid": PF.uuid})


def claim(name: str, device: str = "mock0", share: str = "", conditions: str = "") -> claim_forms.Claim:
    """An allocated claim; ``conditions`` is the status of its binding condition, empty for no such condition."""
    result: Object = {"request": "r", "driver": DRIVER, "pool": f"node1/{device}", "device": device}
    status: Object = {}
    if share:
        result |= {"shareID": share, "consumedCapacity": {"memory": "8Gi"}}
    if conditions:
        result["bindingConditions"] = ["Attached"]
        entry = {"type": "Attached", "status": conditions, "reason": "R", "message": ""}
        status["devices"] = [{**result, "conditions": [entry]}]
    status["allocation"] = {"devices": {"results": [result] if device else []}}
    item = {"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": {"devices": {}}, "status": status}
    return claim_forms.parse(item)


def test_a_request_for_a_share() -> None:
    request = DeviceRequest("part", capacity=(("memory", shares.memory(replace(PF, memory=16 << 30), 4)),))
    spec = claims.build("c", [request], None, {})["spec"]["devices"]["requests"][0]["exactly"]
    assert spec["capacity"] == {"requests": {"memory": str(4 << 30)}}
    assert str(request) == "1 of mock-accel-pf with memory 4294967296"
    assert shares.window(replace(PF, window=1 << 20), 4) == 256 << 10


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ([claim("a", share="1"), claim("b", share="2")], ""),
        ([claim("a", share="1"), claim("b", share="1")], "expected a shareID of its own for each claim, found 1"),
        ([claim("a", share="1"), claim("b", "mock1", "2")], "expected shares of one device"),
        ([claim("a", share="1"), claim("b")], "claim b: expected one share of a device"),
    ],
)
def test_shares_of_one_device(found: list[claim_forms.Claim], complaint: str) -> None:
    complaints = shares.sharing_complaints(found)
    assert bool(complaints) == bool(complaint)
    assert not complaint or complaint in complaints[0]


@pytest.mark.parametrize(("share", "ready", "fine"), [("1", "True", True), ("1", "False", False), ("2", "True", False)])
def test_status_has_the_share(share: str, ready: str, fine: bool) -> None:
    status = [{"shareID": share, "conditions": [{"type": "Ready", "status": ready}]}]
    assert (shares.status_complaints(claim("a", share="1"), status) == []) == fine


@pytest.mark.parametrize(
    ("conditions", "device", "fine"),
    [("False", "mock0", True), ("True", "mock0", False), ("", "mock0", False), ("", "", False)],
)
def test_a_claim_waits_for_attachment(conditions: str, device: str, fine: bool) -> None:
    assert (shares.attachment_complaints(claim("a", device, conditions=conditions)) == []) == fine


def test_window() -> None:
    assert shares.window_complaints("262144\n", 262144) == []
    assert shares.window_complaints("1048576\n", 262144) == ["expected a window of 262144 bytes, found '1048576'"]


def metadata(uuid: str, name: str = "c") -> str:
    device = DEVICE
    entry = {"driver": DRIVER, "pool": device.pool, "name": device.device, "attributes": {"uuid": {"string": uuid}}}
    return json.dumps({"metadata": {"name": name}, "requests": [{"name": "r", "devices": [entry]}]})


def test_metadata_describes_exactly_the_devices() -> None:
    allocated = [claims.AllocatedDevice("c", "r", DEVICE)]
    uuid = str(DEVICE.attribute("uuid"))
    assert shares.metadata_complaints(metadata(uuid), "c", allocated) == []
    assert "expected the devices" in shares.metadata_complaints(metadata("other"), "c", allocated)[0]
    assert shares.metadata_complaints(metadata(uuid, "d"), "c", allocated) == ["expected the claim 'c', found 'd'"]
    with pytest.raises(CheckError, match="expected an object DeviceMetadata, found 'cat: no file'"):
        shares.metadata_complaints("cat: no file", "c", allocated)
