"""A real control plane in its own namespaces: access rights, and what works without any node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.inside import report_of

from mock_device.lab.build.gobuild import build_embedded_k8s
from mock_device.lab.controlplane.controlplane import ControlPlane
from mock_device.lab.controlplane.pki import create_pki

HOST_DEFAULTS = [
    Path(name) for name in ("/run/kubernetes", "/usr/libexec/kubernetes", "/var/lib/kubelet", "/var/lib/etcd")
]
TIMEOUT_SECONDS = 60


def test_components_stay_in_their_folder_and_on_their_addresses(tmp_path: Path) -> None:
    """Several clusters run at once: every path and address of a component is its cluster's."""
    pki = create_pki(tmp_path / "pki", [])
    for component in ControlPlane(tmp_path / "bin", tmp_path / "data", pki).components():
        options = dict(option.removeprefix("--").split("=", 1) for option in component.argv[1:])
        for value in options.values():
            assert not value.startswith("/") or value.startswith(str(tmp_path)), component.argv
        assert "0.0.0.0" not in options.values()
        assert "leader-elect" not in options or options["leader-elect"] == "false"


def test_api_server_accepts_only_certificates(tmp_path: Path) -> None:
    pki = create_pki(tmp_path / "pki", [])
    components = {item.name: item for item in ControlPlane(tmp_path / "bin", tmp_path / "data", pki).components()}
    argv = components["kube-apiserver"].argv
    assert "--anonymous-auth=false" in argv
    assert "--authorization-mode=Node,RBAC" in argv
    assert not [option for option in argv if option.startswith("--token-auth-file")]


def test_api_server_serves_more_api_versions_if_told(tmp_path: Path) -> None:
    pki = create_pki(tmp_path / "pki", [])
    for served, option in (("", None), ("some/v1=true", "--runtime-config=some/v1=true")):
        plane = ControlPlane(tmp_path / "bin", tmp_path / "data", pki, runtime_config=served)
        found = {item.name: [arg for arg in item.argv if "runtime-config" in arg] for item in plane.components()}
        assert {name: args for name, args in found.items() if args} == ({"kube-apiserver": [option]} if option else {})


@pytest.mark.parametrize(
    ("internet", "others"), [(False, "template ANY ANY {\n        rcode NXDOMAIN"), (True, "forward . 203.0.113.3")]
)
def test_names_outside_are_resolved_with_internet_only(tmp_path: Path, internet: bool, others: str) -> None:
    pki = create_pki(tmp_path / "pki", [])
    ControlPlane(tmp_path / "bin", tmp_path / "data", pki, internet=internet).prepare()
    *_, own, last = (tmp_path / "data/Corefile").read_text().split("\n}\n")[:-1]
    assert others in last
    assert own.startswith("registry.mock-device.internal {")
    assert 'answer "{{ .Name }} 60 IN A 192.168.122.1"' in own


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Report of one run of ``control_plane_inside.py``."""
    folder = tmp_path_factory.mktemp("control-plane")
    before = [path.exists() for path in HOST_DEFAULTS]
    found = report_of("control_plane_inside.py", build_embedded_k8s(), folder, timeout=TIMEOUT_SECONDS)
    assert [path.exists() for path in HOST_DEFAULTS] == before
    return found


@pytest.mark.slow
class TestRunning:
    def test_no_component_ended_unexpectedly(self, report: dict[str, Any]) -> None:
        assert report["ended"] == []

    def test_version_is_stamped(self, report: dict[str, Any]) -> None:
        assert report["admin"]["version"]["gitVersion"].startswith("v1.37.")
        assert report["admin"]["version"]["minor"] == "37"

    def test_dra_is_served(self, report: dict[str, Any]) -> None:
        assert "v1" in report["admin"]["resource versions"]

    def test_request_without_a_certificate_is_refused(self, report: dict[str, Any]) -> None:
        assert report["anonymous"] == 401

    def test_administrator_may_do_everything(self, report: dict[str, Any]) -> None:
        assert report["admin"]["may do everything"]

    def test_node_may_change_only_its_own_objects(self, report: dict[str, Any]) -> None:
        allowed = {question for question, status in report["node"].items() if status < 300}
        assert allowed == {"registers itself", "other registers itself", "labels itself", "lists its pods"}
        assert {status for question, status in report["node"].items() if question not in allowed} == {403}

    def test_scheduler_counts_shared_counters(self, report: dict[str, Any]) -> None:
        dra = report["dra"]
        assert (dra["counters kept"], dra["devices with counters"]) == (1, 2)
        assert dra["allocated"] == 1
        assert "cannot allocate all claims" in dra["scheduler says"]

    def test_manifests_can_be_applied_again_and_deleted(self, report: dict[str, Any]) -> None:
        assert report["dra"]["applied again"]
        assert report["dra"]["left after delete"] == 0

    def test_waits_name_what_is_missing(self, report: dict[str, Any]) -> None:
        assert "1 of 2 nodes" in report["waits"]["node"]
        assert "node9 has not registered" in report["waits"]["node"]
        assert "DaemonSet default/absent does not exist" in report["waits"]["daemonset"]
        assert "Deployment default/stuck is not ready" in report["waits"]["deployment"]
        assert (
            "cannot be scheduled" in report["waits"]["deployment"] or "Unschedulable" in report["waits"]["deployment"]
        )

    def test_service_is_reachable_from_the_api_server(self, report: dict[str, Any]) -> None:
        assert report["service"] == "hello from behind the service"

    def test_names_of_services_resolve(self, report: dict[str, Any]) -> None:
        if "dns" not in report:
            pytest.skip("this Kubernetes binary has no coredns")
        assert report["dns"] == {
            "kubernetes.default.svc.cluster.local": "10.96.0.1",
            "echo.default.svc.cluster.local": "10.96.7.7",
            "nowhere.example": "code 3",
        }

    def test_only_api_server_and_dns_listen_beyond_loopback(self, report: dict[str, Any]) -> None:
        beyond = [address for address in report["listening"] if not address.startswith("127.0.0.1:")]
        assert set(beyond) <= {"192.168.122.1:6443", "192.168.122.1:53"}
