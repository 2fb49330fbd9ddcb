"""Adapting an operator's manifests: preloaded images, and certificates without cert-manager."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import operator_manifests
from mock_device.lab.cluster.operator_manifests import Certificate, Issued

Object = dict[str, Any]
OPERATOR, WORKER = "registry.example.com/kmm/operator:latest", "registry.example.com/kmm/worker:latest"
ARCHIVED = ["localhost/operator:v2", "registry.example.com/kmm/worker:v2"]
ISSUED = Issued(b"authority", b"certificate", b"key")


def deployment(image: str = OPERATOR, **variables: str) -> Object:
    env = [{"name": name, "value": value} for name, value in variables.items()]
    env.append({"name": "POD", "valueFrom": {}})  # type: ignore[dict-item]
    container = {"name": "manager", "image": image, "env": env}
    spec = {"template": {"spec": {"containers": [container], "initContainers": [{"name": "first"}]}}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "manager"}, "spec": spec}


def container_of(item: Object) -> Object:
    (found,) = item["spec"]["template"]["spec"]["containers"]
    return dict(found)


def preloaded(*objects: Object, archives: list[str] | None = None) -> list[Object]:
    return operator_manifests.with_preloaded_images("KMM", objects, ARCHIVED if archives is None else archives)


def test_images_get_their_preloaded_names() -> None:
    before = deployment(RELATED_IMAGE_WORKER=WORKER, RELATED_IMAGE_BUILD="x/kaniko:latest", OTHER=WORKER)
    (changed,) = preloaded(before)
    container = container_of(changed)
    assert (container["image"], container["imagePullPolicy"]) == ("localhost/operator:v2", "IfNotPresent")
    values = {item["name"]: item.get("value") for item in container["env"]}
    assert values == {
        "RELATED_IMAGE_WORKER": "registry.example.com/kmm/worker:v2",
        "RELATED_IMAGE_BUILD": "x/kaniko:latest",
        "OTHER": WORKER,
        "POD": None,
    }
    assert container_of(before)["image"] == OPERATOR


def test_images_without_archive_are_named_with_those_there_are() -> None:
    with pytest.raises(StepError) as caught:
        preloaded(deployment("x/webhook:v2", RELATED_IMAGE_WORKER="x/other:v2"), deployment("x/webhook:v2"))
    assert str(caught.value) == (
        "KMM: expected archives of all images in its manifests, found none of x/webhook:v2, "
        "x/other:v2 (RELATED_IMAGE_WORKER); the archives have localhost/operator:v2, registry.example.com/kmm/worker:v2"
    )


def test_tag_latest_is_refused_because_it_is_pulled_always() -> None:
    with pytest.raises(StepError, match=r"whose images have a version as tag, found localhost/operator:latest: Kubern"):
        preloaded(deployment(), archives=["localhost/operator:latest"])


@pytest.mark.parametrize(
    ("wanted", "archived", "expected"),
    [
        ("quay.io/x/a:1", ["quay.io/x/a:1", "localhost/a:1"], "quay.io/x/a:1"),
        ("quay.io/x/a:1", ["localhost/a:1", "localhost/a:2"], "localhost/a:1"),
        ("quay.io/x/a:1", ["localhost/a:2"], "localhost/a:2"),
        ("quay.io/x/a@sha256:0123", ["localhost/a:2"], "localhost/a:2"),
        ("quay.io/x/a:1", ["localhost/a:2", "localhost/a:3"], None),
        ("quay.io/x/a:1", ["localhost/b:1"], None),
        ("quay.io/x/a:1", [], None),
        ("host:5000/a:1", ["a:1"], "docker.io/library/a:1"),
    ],
)
def test_preloaded_image_of_a_name(wanted: str, archived: list[str], expected: str | None) -> None:
    assert operator_manifests.preloaded_name(wanted, archived) == expected


def test_images_of_all_workloads_but_not_of_schemas() -> None:
    pod_spec = {"containers": [{"image": "b:1"}]}
    objects = [
        deployment("a:1", RELATED_IMAGE_WORKER="w:1", RELATED_IMAGE_BUILD="k:1"),
        {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": pod_spec}}}}},
        {"kind": "Pod", "spec": {"initContainers": [{"image": "c:1"}], "containers": [{"image": "a:1"}]}},
        {"kind": "CustomResourceDefinition", "spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}},
        {"kind": "ConfigMap"},
    ]
    assert operator_manifests.images_of(objects) == ["a:1", "w:1", "b:1", "c:1"]


def test_objects_come_in_the_order_in_which_they_can_be_applied() -> None:
    kinds = ["Deployment", "ConfigMap", "Secret", "CustomResourceDefinition", "ServiceAccount", "Namespace"]
    ordered = operator_manifests.in_order([{"kind": kind} for kind in kinds])
    assert [item["kind"] for item in ordered] == [
        "Namespace",
        "CustomResourceDefinition",
        "Secret",
        "ConfigMap",
        "Deployment",
        "ServiceAccount",
    ]


def test_single_controllers_elect_no_leader() -> None:
    item = deployment()
    item["metadata"]["namespace"] = "kmm"
    item["spec"]["template"]["spec"]["containers"][0]["args"] = ["--config=settings", "--v=1"]
    *_, added = operator_manifests.without_leader_election([item, item])
    assert (added["kind"], added["metadata"]) == ("ConfigMap", {"name": "settings", "namespace": "kmm"})
    assert added["data"] == {"controller_config.yaml": "leaderElection:\n  enabled: false\n"}
    assert operator_manifests.without_leader_election([item, item]) == [item, item, added]


def test_configuration_of_the_user_is_kept() -> None:
    item = deployment()
    item["metadata"]["namespace"] = "kmm"
    item["spec"]["template"]["spec"]["containers"][0]["args"] = ["--config=settings"]
    own = {"kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "kmm"}}
    assert operator_manifests.without_leader_election([item, own]) == [item, own]
    assert operator_manifests.without_leader_election([deployment()]) == [deployment()]


def test_probes_wait_long_enough_for_slow_nodes() -> None:
    item = deployment()
    container = item["spec"]["template"]["spec"]["containers"][0]
    container["livenessProbe"] = {"httpGet": {"path": "/healthz", "port": 8081}, "periodSeconds": 20}
    container["readinessProbe"] = {"timeoutSeconds": 2}
    container["startupProbe"] = {"timeoutSeconds": 30}
    (changed,) = operator_manifests.with_patient_probes([item])
    probes = container_of(changed)
    assert probes["livenessProbe"] == {**container["livenessProbe"], "timeoutSeconds": 10}
    assert (probes["readinessProbe"]["timeoutSeconds"], probes["startupProbe"]["timeoutSeconds"]) == (10, 30)
    assert "timeoutSeconds" not in container["livenessProbe"]
    assert operator_manifests.with_patient_probes([deployment()]) == [deployment()]


def cert_manager_objects() -> list[Object]:
    annotations = {operator_manifests.INJECT_CA: "kmm/serving", "kept": "yes"}
    certificate = {"secretName": "server-cert", "dnsNames": ["webhook.kmm.svc"]}
    api = "cert-manager.io/v1"
    return [
        {"apiVersion": api, "kind": "Issuer", "metadata": {"name": "own", "namespace": "kmm"}, "spec": {}},
        {
            "apiVersion": api,
            "kind": "Certificate",
            "metadata": {"name": "serving", "namespace": "kmm"},
            "spec": certificate,
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "w", "annotations": annotations},
            "webhooks": [{"clientConfig": {"service": {}}}, {"clientConfig": {}}],
        },
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "c", "annotations": {**annotations}},
            "spec": {"conversion": {"webhook": {}}},
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {}},
    ]


def test_lab_takes_the_part_of_cert_manager() -> None:
    asked: list[Certificate] = []

    def issue(certificate: Certificate) -> Issued:
        asked.append(certificate)
        return ISSUED

    webhook, definition, service, secret = operator_manifests.without_cert_manager("KMM", cert_manager_objects(), issue)
    assert asked == [Certificate("kmm", "serving", "server-cert", ("webhook.kmm.svc",))]
    assert webhook["metadata"]["annotations"] == {"kept": "yes"}
    bundles = [item["clientConfig"]["caBundle"] for item in webhook["webhooks"]]
    bundles.append(definition["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"])
    assert {b64decode(bundle) for bundle in bundles} == {ISSUED.ca}
    assert service["kind"] == "Service"
    assert (secret["type"], secret["metadata"]) == ("kubernetes.io/tls", {"name": "server-cert", "namespace": "kmm"})
    assert b64decode(secret["data"]["tls.key"]) == ISSUED.key


def test_unknown_certificate_is_named() -> None:
    objects = [item for item in cert_manager_objects() if item["kind"] != "Certificate"]
    with pytest.raises(StepError, match="Validating.* w wants the CA of Certificate kmm/serving, which .* found none"):
        operator_manifests.without_cert_manager("KMM", objects, lambda _: ISSUED)
