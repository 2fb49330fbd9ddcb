"""Certificates of webhooks, issued by the lab for clusters without cert-manager."""

from __future__ import annotations

import tempfile
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cryptography import x509
from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.lab.cluster.operator_manifests import Certificate, Issued
from mock_device.lab.controlplane.pki import create_server

_RENEW_BEFORE = timedelta(days=30)


def issue(api: ApiClient, certificate: Certificate) -> Issued:
    """The certificate in its Secret if it still serves, else a new one from a new authority.

    A webhook's pod sees a changed Secret only after a minute or so, in which its callers
    would trust another authority: so a good certificate is kept.
    """
    if (found := _existing(api, certificate)) and _serves(found, certificate.serves):
        return found
    with tempfile.TemporaryDirectory(prefix="mock-device-") as folder:
        identity = create_server(Path(folder), "webhook", certificate.serves)
        return Issued(identity.ca.read_bytes(), identity.certificate.read_bytes(), identity.key.read_bytes())


def _existing(api: ApiClient, certificate: Certificate) -> Issued | None:
    try:
        secret: Any = client.CoreV1Api(api).read_namespaced_secret(certificate.secret, certificate.namespace)
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return None
    data = secret.data or {}
    if not {"ca.crt", "tls.crt", "tls.key"} <= data.keys():
        return None
    return Issued(b64decode(data["ca.crt"]), b64decode(data["tls.crt"]), b64decode(data["tls.key"]))


def _serves(issued: Issued, names: tuple[str, ...]) -> bool:
    """Whether the certificate is for ``names``, and is valid for another month."""
    try:
        found = x509.load_pem_x509_certificate(issued.certificate)
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound):
        return False
    served = extension.value.get_values_for_type(x509.DNSName)
    return set(names) <= set(served) and found.not_valid_after_utc > datetime.now(UTC) + _RENEW_BEFORE
