"""Services are reachable from a pod on another node and from the API server, which calls webhooks through them."""

from __future__ import annotations

import base64
import datetime
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes import client
from kubernetes.client import ApiClient, ApiException
from support import SUPPORT

from mock_device.checks.objects import clean_up, kube, pods
from mock_device.lab.build import images
from mock_device.lab.cluster.cluster import Cluster
from mock_device.lab.kube import kubeclient, manifests
from mock_device.lab.kube.kubeclient import DEFAULT_NAMESPACE

pytestmark = pytest.mark.acceptance

SERVICE = "webhook"
DNS_NAME = f"{SERVICE}.{DEFAULT_NAMESPACE}.svc"
PORT = 8443
TIMEOUT = timedelta(seconds=120)
PROXY_SECONDS = 30.0
GET = (
    "import ssl, urllib.request as r; "
    f"print(r.urlopen('https://{DNS_NAME}.cluster.local/', context=ssl._create_unverified_context(), timeout=30)"
    ".read().decode())"
)


def self_signed() -> tuple[bytes, bytes]:
    """A certificate for DNS_NAME and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DNS_NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(DNS_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return certificate.public_bytes(encoding), key.private_bytes(encoding, pkcs8, serialization.NoEncryption())


def python_pod(name: str, node: str, argv: list[str], volumes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A pod of the driver's image, which has Python; ``volumes`` are mounted at /NAME."""
    pod = pods.build(name, (), node, kube.LABELS)
    pod["metadata"]["labels"]["run"] = name
    pod["spec"]["volumes"] = [{"name": volume, **source} for volume, source in volumes.items()]
    mounts = [{"name": volume, "mountPath": f"/{volume}"} for volume in volumes]
    pod["spec"]["containers"][0] |= {"image": images.DRIVER_IMAGE, "command": argv, "volumeMounts": mounts}
    return pod


def objects(certificate: bytes, key: bytes) -> list[dict[str, Any]]:
    data = {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(key).decode()}
    code = (SUPPORT / "webhook.py").read_text()
    ports = [{"port": 443, "targetPort": PORT}]
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]
    webhook = {
        "name": f"{SERVICE}.example.com",
        "clientConfig": {
            "service": {"name": SERVICE, "namespace": DEFAULT_NAMESPACE},
            "caBundle": data["tls.crt"],
        },
        "rules": rules,
        "objectSelector": {"matchLabels": {"refused": "please"}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    named = {"metadata": {"name": SERVICE}}
    return [
        {"apiVersion": "v1", "kind": "Secret", **named, "data": data},
        {"apiVersion": "v1", "kind": "ConfigMap", **named, "data": {"webhook.py": code}},
        {"apiVersion": "v1", "kind": "Service", **named, "spec": {"selector": {"run": SERVICE}, "ports": ports}},
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            **named,
            "webhooks": [webhook],
        },
    ]


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[ApiClient]:
    """A cluster with the webhook on its last node, and an idle pod on the first."""
    api = kubeclient.connect(cluster.kubeconfig)
    clean_up.delete_everything(api, TIMEOUT)
    first, last = cluster.topology.nodes[0].name, cluster.topology.nodes[-1].name
    made = yaml.safe_dump_all(objects(*self_signed()))
    volumes = {"tls": {"secret": {"secretName": SERVICE}}, "code": {"configMap": {"name": SERVICE}}}
    webhook = python_pod(SERVICE, last, ["python3", "/code/webhook.py"], volumes)
    webhook["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": PORT}, "periodSeconds": 1}
    manifests.apply(api, made, DEFAULT_NAMESPACE)
    try:
        kube.create_pod(api, webhook)
        kube.create_pod(api, python_pod("visitor", first, ["python3", "-c", "import signal; signal.pause()"], {}))
        for name in (SERVICE, "visitor"):
            kube.wait_pod(api, name, pods.runs, TIMEOUT, "Running")
        yield api
    finally:
        manifests.delete(api, made, DEFAULT_NAMESPACE)
        clean_up.delete_everything(api, TIMEOUT)


def test_pod_reaches_a_service_of_another_node_by_its_name(api: ApiClient) -> None:
    assert eventually(lambda: kube.execute(api, "visitor", ["python3", "-c", GET], TIMEOUT)) == "here I am\n"


def test_api_server_calls_a_webhook_by_its_service(api: ApiClient) -> None:
    refused = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="refused", labels={"refused": "please"}))

    def said() -> str:
        with pytest.raises(ApiException) as refusal:
            client.CoreV1Api(api).create_namespaced_config_map(DEFAULT_NAMESPACE, refused)
        body = str(refusal.value.body)
        assert "failed calling webhook" not in body, body
        return body

    assert "the webhook says no" in eventually(said)


def eventually(ask: Callable[[], str]) -> str:
    """Retry ``ask`` until it succeeds: every kube-proxy takes a moment to learn of an endpoint."""
    deadline = time.monotonic() + PROXY_SECONDS
    while True:
        try:
            return ask()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)
