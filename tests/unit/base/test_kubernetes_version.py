"""Minor versions of Kubernetes."""

from __future__ import annotations

import json

import pytest

from mock_device.lab.base.defaults import DEFAULT_KUBERNETES
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.kubernetes_version import KubernetesVersion, minor
from mock_device.lab.base.variables import PROFILE_SCHEMA


def test_versions_are_in_ascending_order() -> None:
    assert list(KubernetesVersion) == sorted(KubernetesVersion, key=lambda version: version.number)
    assert KubernetesVersion.V1_34 < KubernetesVersion.V1_37
    assert max(KubernetesVersion) == DEFAULT_KUBERNETES


def test_clusters_are_upgraded_version_by_version() -> None:
    assert [version.next for version in KubernetesVersion] == [*list(KubernetesVersion)[1:], None]


def test_profiles_can_name_all_of_them() -> None:
    key = json.loads(PROFILE_SCHEMA.read_text())["properties"]["kubernetes"]
    assert (key["enum"], key["default"]) == (list(KubernetesVersion), DEFAULT_KUBERNETES)


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("v1.36.3", KubernetesVersion.V1_36),
        ("v1.37", KubernetesVersion.V1_37),
        ("v1.34.4+k3s1", KubernetesVersion.V1_34),
        ("v1.3", None),
        ("v1.371.0", None),
        ("", None),
    ],
)
def test_version_of_a_release(release: str, version: KubernetesVersion | None) -> None:
    assert KubernetesVersion.of(release) is version


def test_number_of_a_release() -> None:
    assert (minor("v1.36.3"), minor("v1.37"), minor("v1.9.0+k3s1"), KubernetesVersion.V1_35.number) == (36, 37, 9, 35)


@pytest.mark.parametrize("release", ["", "1.37", "v2.1", "v1", "v1.x.2"])
def test_what_is_no_release_is_refused(release: str) -> None:
    with pytest.raises(StepError, match="expected a version of Kubernetes such as v1.37"):
        minor(release)
