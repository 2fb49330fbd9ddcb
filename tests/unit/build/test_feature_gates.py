"""Feature gates of the versions of Kubernetes, and which of them a cluster gets."""

from __future__ import annotations

import json

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.kubernetes_version import KubernetesVersion
from mock_device.lab.build import feature_gates, gobuild
from mock_device.lab.build.feature_gates import Gate, Wanted, in_range, known, of_version

V1_34, V1_35, V1_36, V1_37 = KubernetesVersion


@pytest.mark.parametrize("version", KubernetesVersion)
def test_lists_are_of_the_releases_that_are_built(version: KubernetesVersion) -> None:
    """After a change of a module: python -m mock_device.lab.build.feature_gates."""
    recorded = json.loads(feature_gates.gates_file(version).read_text())["kubernetes"]
    assert recorded == gobuild.kubernetes_release(version)
    assert len(known(version)) > 150


def test_gates_change_from_version_to_version() -> None:
    name = "DRAPartitionableDevices"
    assert [known(version)[name].stage for version in KubernetesVersion] == ["alpha", "alpha", "beta", "beta"]
    assert known(V1_37)["DRAAdminAccess"] == Gate("ga", default=True, locked=True)
    assert known(V1_34)["DRAAdminAccess"] == Gate("beta", default=True, locked=False)
    assert "DRADerivedAttributes" not in known(V1_36)


@pytest.mark.parametrize(
    "gate", [Gate("alpha", default=False, locked=False), Gate("ga", default=True, locked=True)], ids=str
)
def test_words_of_a_gate(gate: Gate) -> None:
    assert Gate.parse(str(gate)) == gate


@pytest.mark.parametrize(
    ("wanted", "on"),
    [
        (True, [V1_34, V1_35, V1_36, V1_37]),
        ({"since": "v1.36"}, [V1_36, V1_37]),
        ({"until": "v1.34"}, [V1_34]),
        ({"since": "v1.35", "until": "v1.36"}, [V1_35, V1_36]),
        ({"since": "v1.33"}, [V1_34, V1_35, V1_36, V1_37]),
        ({"since": "v1.38"}, []),
    ],
)
def test_range_of_versions(wanted: Wanted, on: list[KubernetesVersion]) -> None:
    gates = {version: of_version({"ResourceHealthStatus": wanted}, version) for version in KubernetesVersion}
    assert gates == {version: {"ResourceHealthStatus": True} if version in on else {} for version in KubernetesVersion}


def test_gate_can_be_off() -> None:
    assert of_version({"ResourceHealthStatus": False}, V1_37) == {"ResourceHealthStatus": False}


BAD: list[tuple[str, Wanted, KubernetesVersion, str]] = [
    (
        "DRADerivedAttributes",
        True,
        V1_36,
        "Kubernetes v1.36 has no such gate, v1.37 is the first; "
        "for other versions to go without it: DRADerivedAttributes: {since: v1.37}",
    ),
    ("DRADerivedAttributes", {"since": "v1.35"}, V1_36, "Kubernetes v1.36 has no such gate, v1.37 is the first"),
    ("DRAWings", True, V1_37, "Kubernetes v1.37 has no such gate, nor has any other version of the lab"),
    ("DRAAdminAccess", False, V1_36, "Kubernetes v1.36 has it on and locked (ga)"),
    ("DRAAdminAccess", {"since": "v1.36", "until": "v1.35"}, V1_36, "expected until v1.36 or later, found v1.35"),
]


@pytest.mark.parametrize(("name", "wanted", "version", "reason"), BAD)
def test_gate_that_a_component_would_refuse(name: str, wanted: Wanted, version: KubernetesVersion, reason: str) -> None:
    with pytest.raises(StepError) as raised:
        of_version({name: wanted}, version)
    assert str(raised.value).startswith(f"feature-gates.{name}: {reason}")


def test_gate_of_older_versions() -> None:
    """A gate that later versions have removed names the last version that has it."""
    removed = sorted(known(V1_34).keys() - known(V1_37).keys())
    assert removed
    with pytest.raises(StepError, match=rf"{removed[0]}: Kubernetes v1\.37 has no such gate, v1\.3[456] is the last"):
        of_version({removed[0]: True}, V1_37)


def test_gates_of_a_k3s_are_not_checked() -> None:
    assert in_range({"Wings": True, "Fins": {"since": "v1.36"}, "Legs": {"until": "v1.35"}}, V1_36) == {
        "Wings": True,
        "Fins": True,
    }
