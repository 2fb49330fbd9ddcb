"""The driver as a Helm release: what must stay, and what is reported."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace as Object
from typing import Any

import pytest
from kubernetes.client import ApiClient
from support.recorded_cluster import NODE1, claim, pod

from mock_device.checks.driver import driver, release
from mock_device.checks.driver.driver import Component
from mock_device.checks.driver.release import RunningState
from mock_device.checks.errors import CheckError
from mock_device.lab.cluster import deploy
from mock_device.lab.cluster.cluster import ALWAYS, Capability
from mock_device.lab.cluster.release import Revision

STATE = RunningState("uid-1", NODE1, ("containerd://1",), (f"{NODE1}/mock0 mock0",))


def test_state_of_a_pod_has_the_devices_of_its_own_claims() -> None:
    body = pod("keeps", containerStatuses=[{"name": "main", "containerID": "containerd://1"}])
    body["metadata"]["uid"] = "uid-1"
    elsewhere = claim("keeps", "mock1")
    elsewhere["metadata"]["namespace"] = "other"
    assert release.parse_state(body, [claim("keeps", "mock0"), elsewhere, claim("else", "mock2")]) == STATE


def test_every_change_of_the_state_is_named() -> None:
    assert release.state_complaints("keeps", STATE, STATE) == []
    now = replace(STATE, containers=("containerd://2",), devices=())
    assert release.state_complaints("keeps", STATE, now) == [
        "pod 'keeps': expected its containers to stay ('containerd://1',), found ('containerd://2',)",
        f"pod 'keeps': expected its devices to stay {STATE.devices}, found ()",
    ]


def test_replaced_pods_are_named() -> None:
    assert release.replaced_complaints({"a": "1"}, {"a": "1"}) == []
    assert release.replaced_complaints({"a": "1", "b": "2"}, {"b": "2", "c": "3"}) == [
        "expected pod a to stay, it is gone",
        "expected no new pod, found c",
    ]


def test_values_have_names() -> None:
    assert release.parse_values(["a.b=1", "c="]) == {"a.b": "1", "c": ""}
    for wrong in ("a", "=1"):
        with pytest.raises(CheckError, match=f"expected a value as name=value, .*, found '{wrong}'"):
            release.parse_values([wrong])


def test_revision_in_use_is_the_deployed_one() -> None:
    history = [Revision(1, "superseded", "a"), Revision(2, "deployed", "b"), Revision(3, "failed", "c")]
    assert release.revision_in_use(history).number == 2
    with pytest.raises(CheckError, match=r"expected a deployed revision .*: 3 is failed \(c\); look at: helm history"):
        release.revision_in_use(history[2:])
    with pytest.raises(CheckError, match="found: no revision"):
        release.revision_in_use([])


def test_release_of_a_cluster_that_exists_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "release_of", lambda _: pytest.fail("Helm was asked"))
    session: Any = Object(cluster=Object(capabilities=ALWAYS))
    release.restore_manifests(session, timedelta(seconds=1))


def test_plain_manifests_that_serve_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "release_of", lambda _: Object(history=list))
    monkeypatch.setattr(driver, "pods", lambda *_: {"agent": Object()})
    monkeypatch.setattr(deploy, "install_driver", lambda _: pytest.fail("the driver was installed"))
    session: Any = Object(api=None, cluster=Object(capabilities=frozenset(Capability)))
    release.restore_manifests(session, timedelta(seconds=1))


def running(image: str, **variables: str) -> Object:
    environment = [Object(name=name, value=value) for name, value in variables.items()]
    return Object(spec=Object(containers=[Object(image=image, env=environment)]))


def test_pods_with_another_image_or_setting_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = {
        Component.NODE_AGENT: {"agent-1": running("driver:next", V="5"), "agent-2": running("driver:dev")},
        Component.CONTROLLER: {"controller": running("driver:next")},
    }
    monkeypatch.setattr(driver, "pods", lambda _, component: pods[component])
    api = ApiClient()
    assert release.image_complaints(api, "next") == ["pod agent-2: expected an image with tag next, found driver:dev"]
    assert release.variable_complaints(api, "V", "5") == ["pod agent-2: expected V=5, found None"]
