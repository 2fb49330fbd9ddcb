"""What ``suites/features.robot`` asks of Kubernetes, on real control planes of both profiles, without nodes."""

from __future__ import annotations

from typing import Any

import pytest
from support.inside import report_of

from mock_device.lab.build.gobuild import build_embedded_k8s
from mock_device.lab.cluster import profile

TIMEOUT_SECONDS = 300
pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS + 30)
NO_GATES_OF_OURS = {
    # Kubernetes' own work on the speed and the form of DRA: nothing that users could ask for.
    "DRASchedulerFilterTimeout",
}


def report(folder: Any, name: str) -> dict[str, Any]:
    return report_of("features_inside.py", build_embedded_k8s(), folder, name, timeout=TIMEOUT_SECONDS)


@pytest.fixture(scope="module")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return report(tmp_path_factory.mktemp("alpha"), "alpha")


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return report(tmp_path_factory.mktemp("default"), "embedded")


def gates(found: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Stage and state of the gates of DRA."""
    every = found["features"]["gates"]
    return {
        name: tuple(gate) for name, gate in every.items() if name.startswith("DRA") and name not in NO_GATES_OF_OURS
    }


@pytest.mark.slow
class TestGates:
    def test_default_profile_has_on_what_is_beta(self, default: dict[str, Any]) -> None:
        off = {name for name, (stage, enabled) in gates(default).items() if not enabled}
        assert off == {name for name, (stage, _) in gates(default).items() if stage == "alpha"}
        assert "scheduling.k8s.io/v1beta1" in default["features"]["served"]
        assert "resource.k8s.io/v1alpha3" not in default["features"]["served"]

    def test_profile_alpha_has_everything_on(self, alpha: dict[str, Any]) -> None:
        assert {name for name, (_, enabled) in gates(alpha).items() if not enabled} == set()
        assert {"scheduling.k8s.io/v1beta1", "resource.k8s.io/v1alpha3"} <= set(alpha["features"]["served"])

    def test_profile_alpha_names_gates_that_are_alpha(self, default: dict[str, Any]) -> None:
        more = profile.load("alpha").feature_gates.keys() - profile.load("embedded").feature_gates.keys()
        assert more == {name for name, (stage, _) in gates(default).items() if stage == "alpha"}


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["alpha", "default"])
class TestFeatures:
    @pytest.fixture
    def found(self, chosen: str, request: pytest.FixtureRequest) -> dict[str, Any]:
        found: dict[str, Any] = request.getfixturevalue(chosen)
        return found

    def test_extended_resource_has_the_name_of_its_class(self, found: dict[str, Any]) -> None:
        assert found["extended"] == {"complaints": [], "devices": 2}

    def test_admin_access_sees_everything_where_it_is_allowed(self, found: dict[str, Any]) -> None:
        assert (found["admin"]["sees"], found["admin"]["uses"]) == (6, 1)
        assert "admin access to devices requires" in found["admin"]["refused"]

    def test_tainted_devices_make_new_pods_wait(self, found: dict[str, Any]) -> None:
        assert "cannot allocate all claims" in found["no schedule"]["reason"]
        assert found["no schedule"]["deleted"] == "None"

    def test_pods_are_evicted_when_they_no_longer_tolerate_the_taint(self, found: dict[str, Any]) -> None:
        evicted = found["no execute"]
        assert (evicted["reason"], evicted["early"], evicted["stays"]) == (
            "DeletionByDeviceTaintManager",
            "None",
            "None",
        )
        assert 12 <= evicted["later"] < 20
        assert "DeletionByDeviceTaintManager" in evicted["extended"]

    def test_toleration_without_an_effect_tolerates_no_eviction(self, found: dict[str, Any]) -> None:
        """As docs/features.md says of 1.37.2; if this fails, the page and the suite are out of date."""
        assert "DeletionByDeviceTaintManager" in found["no execute"]["any-effect"]

    def test_first_alternative_that_fits_is_taken(self, found: dict[str, Any]) -> None:
        assert found["alternatives"] == {"alternatives": ["two", "two"]}

    def test_attributes_differ_and_all_devices_wait_for_the_last(self, found: dict[str, Any]) -> None:
        assert found["attributes"] == {"numa nodes": ["0", "1"], "all": 6}

    def test_another_driver_may_not_write_the_status(self, found: dict[str, Any]) -> None:
        assert "resourceclaims/driver" in found["status"]["refused"]

    def test_pods_of_a_group_share_a_claim(self, found: dict[str, Any]) -> None:
        first, second = found["group"]["devices"]
        assert first == second
        assert len(first) == 1
        assert (found["group"]["reserved"], found["group"]["kept"]) == ([], [])


@pytest.mark.slow
class TestPoolStatus:
    def test_it_agrees_with_slices_claims_and_rules(self, alpha: dict[str, Any]) -> None:
        assert (alpha["pools"]["free"], alpha["pools"]["in use"]) == ([], [])

    def test_allocated_device_with_a_taint_is_counted_twice(self, alpha: dict[str, Any]) -> None:
        """As docs/features.md says of 1.37.2; if this fails, the page is out of date."""
        (complaint,) = alpha["pools"]["allocated and tainted"]
        assert complaint.endswith("expected unavailableDevices 0, found 1")

    def test_it_is_not_there_without_its_gate(self, default: dict[str, Any]) -> None:
        assert "404: " in default["pools"]
