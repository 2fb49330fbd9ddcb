"""What of Kubernetes a cluster has, and what to do when a test needs more."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kubernetes import client

from mock_device.lab.base.errors import StepError
from mock_device.lab.kube import features, kubeclient
from mock_device.lab.kube.features import Gate, MissingFeatureError, Needed, Offered, Version

METRICS = """\
# HELP kubernetes_feature_enabled [BETA] This metric records the data about the stage and enablement of a k8s feature.
# TYPE kubernetes_feature_enabled gauge
kubernetes_feature_enabled{name="DRAAdminAccess",stage=""} 1
kubernetes_feature_enabled{name="DRAConsumableCapacity",stage="BETA"} 1
kubernetes_feature_enabled{name="DRAResourcePoolStatus",stage="ALPHA"} 0
go_threads 12
"""
OFFERED = Offered("v1.37.2", features.parse_gates(METRICS), frozenset({"v1", "resource.k8s.io/v1"}))
ANSWERS = {
    "/version/": json.dumps(
        {
            "major": "1",
            "minor": "37",
            "gitVersion": "v1.37.2",
            "gitCommit": "",
            "gitTreeState": "",
            "buildDate": "",
            "goVersion": "",
            "compiler": "",
            "platform": "",
        }
    ),
    "/apis/": json.dumps(
        {
            "kind": "APIGroupList",
            "groups": [
                {
                    "name": "resource.k8s.io",
                    "versions": [
                        {"groupVersion": "resource.k8s.io/v1", "version": "v1"},
                        {"groupVersion": "resource.k8s.io/v1beta2", "version": "v1beta2"},
                    ],
                }
            ],
        }
    ),
    "/metrics": METRICS,
}


@contextmanager
def api_server(answers: dict[str, str]) -> Iterator[client.ApiClient]:
    """A client of a server that has these answers, and refuses other paths."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path, '{"message": "not for you"}').encode()
            self.send_response(200 if self.path in answers else 403)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the output of tests free of requests."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        settings = client.Configuration(host=f"http://127.0.0.1:{server.server_address[1]}")
        settings.no_proxy = "127.0.0.1"
        try:
            yield kubeclient.BoundedApiClient(settings)
        finally:
            server.shutdown()


def test_gates_have_stage_and_state() -> None:
    assert dict(OFFERED.gates) == {
        "DRAAdminAccess": Gate("DRAAdminAccess", "GA", True),
        "DRAConsumableCapacity": Gate("DRAConsumableCapacity", "beta", True),
        "DRAResourcePoolStatus": Gate("DRAResourcePoolStatus", "alpha", False),
    }


def test_running_api_server_is_asked() -> None:
    with api_server(ANSWERS) as api:
        found = features.read(api)
    assert found.version == "v1.37.2"
    assert set(found.api_versions) == {"resource.k8s.io/v1", "resource.k8s.io/v1beta2"}
    assert found.gates == OFFERED.gates


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({**ANSWERS, "/metrics": "go_threads 12\n"}, "expected metric kubernetes_feature_enabled .*, found none"),
        ({path: text for path, text in ANSWERS.items() if path != "/metrics"}, "403: not for you"),
    ],
)
def test_api_server_that_hides_its_gates_is_reported(answers: dict[str, str], reason: str) -> None:
    with api_server(answers) as api, pytest.raises(StepError, match=reason):
        features.read(api)


def test_cluster_without_answer_is_reported() -> None:
    with api_server({}) as api:
        pass
    with pytest.raises(StepError, match="no answer"):
        features.read(api)


def test_what_is_on_and_served_is_enough() -> None:
    gates = frozenset({"DRAAdminAccess", "DRAConsumableCapacity"})
    features.check(OFFERED, Needed(gates, frozenset({"resource.k8s.io/v1"}), Version(1, 37)))
    features.check(OFFERED, Needed(since=Version(1, 36)))


@pytest.mark.parametrize(
    ("needed", "reason"),
    [
        (
            Needed(frozenset({"DRAResourcePoolStatus"}), since=Version(1, 36)),
            r"^feature gate DRAResourcePoolStatus \(alpha\) of Kubernetes v1\.37\.2 is off; turn it on by "
            r"feature-gates: \{DRAResourcePoolStatus: true\} in the cluster's profile, .*PROFILE:alpha$",
        ),
        (
            Needed(api_versions=frozenset({"resource.k8s.io/v1alpha3"}), since=Version(1, 36)),
            r"v1\.37\.2 does not serve resource\.k8s\.io/v1alpha3; turn it on by "
            r"runtime-config: \{resource\.k8s\.io/v1alpha3: true\}",
        ),
        (
            Needed(frozenset({"DRANext"}), since=Version(1, 38)),
            r"^expected Kubernetes 1\.38 or newer, the first one with DRANext, found v1\.37\.2$",
        ),
        (Needed(since=Version(2, 0)), r"^expected Kubernetes 2\.0 or newer, found v1\.37\.2$"),
    ],
)
def test_what_is_missing_is_named_with_the_way_to_turn_it_on(needed: Needed, reason: str) -> None:
    with pytest.raises(MissingFeatureError, match=reason):
        features.check(OFFERED, needed)


def test_gates_are_found_whatever_the_case_of_a_tag() -> None:
    features.check(OFFERED, Needed(frozenset({"draadminaccess"}), since=Version(1, 34)))
    with pytest.raises(MissingFeatureError, match=r"gate DRAResourcePoolStatus \(alpha\)"):
        features.check(OFFERED, Needed(frozenset({"draresourcepoolstatus"}), since=Version(1, 36)))


def test_gate_that_does_not_exist_is_an_error_of_the_test() -> None:
    with pytest.raises(StepError, match="found DRATypo; correct the tag") as raised:
        features.check(OFFERED, Needed(frozenset({"DRATypo"}), since=Version(1, 37)))
    assert not isinstance(raised.value, MissingFeatureError)


def test_versions_are_compared_by_their_numbers() -> None:
    assert Version.parse("v1.9.3") < Version.parse("1.37") < Version.parse("v2.0")
    assert str(Version.parse("v1.37.2+k3s1")) == "1.37"
    with pytest.raises(ValueError, match="expected a version of Kubernetes such as 1.37, found 'latest'"):
        Version.parse("latest")
