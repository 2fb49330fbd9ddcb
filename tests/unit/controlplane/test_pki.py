"""Certificates and keys of a cluster."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mock_device.lab.controlplane.https import tls_context
from mock_device.lab.controlplane.pki import ADMIN_GROUP, BACKDATING, Identity, Pki, create_server


def certificate_of(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.certificate.read_bytes())


def subject_of(identity: Identity) -> tuple[str | bytes, set[str | bytes]]:
    subject = certificate_of(identity).subject
    name = subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    return name, {item.value for item in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)}


@pytest.mark.parametrize(
    ("identity", "user", "groups"),
    [
        ("node-node1", "system:node:node1", {"system:nodes"}),
        ("kube-proxy-node2", "system:kube-proxy", set()),
        ("kube-proxy", "system:kube-proxy", set()),
        ("controller-manager", "system:kube-controller-manager", set()),
        ("scheduler", "system:kube-scheduler", set()),
        ("apiserver-kubelet-client", "kube-apiserver-kubelet-client", set()),
        ("admin", "mock-device:admin", {ADMIN_GROUP}),
    ],
)
def test_users_and_groups_are_those_that_kubernetes_expects(
    pki: Pki, identity: str, user: str, groups: set[str | bytes]
) -> None:
    assert subject_of(pki.identity(identity)) == (user, groups)


def test_no_lasting_certificate_is_a_superuser(pki: Pki) -> None:
    for path in pki.directory.glob("*.crt"):
        subject = x509.load_pem_x509_certificate(path.read_bytes()).subject.rfc4514_string()
        assert "system:masters" not in subject, path


def test_superuser_is_short_lived_and_leaves_no_key(pki: Pki) -> None:
    before = set(pki.directory.rglob("*"))
    with pki.bootstrap_identity() as superuser:
        assert subject_of(superuser)[1] == {"system:masters"}
        left = certificate_of(superuser).not_valid_after_utc - datetime.now(UTC)
        assert left <= timedelta(minutes=15)
        assert stat.S_IMODE(superuser.key.stat().st_mode) == 0o600
    assert set(pki.directory.rglob("*")) == before


def test_every_certificate_belongs_to_its_key_and_authority(pki: Pki) -> None:
    authorities = {
        certificate.subject: certificate
        for certificate in (
            x509.load_pem_x509_certificate(path.read_bytes()) for path in (pki.ca, pki.etcd_ca, pki.front_proxy_ca)
        )
    }
    assert len(authorities) == 3
    for path in pki.directory.glob("*.crt"):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        certificate.verify_directly_issued_by(authorities[certificate.issuer])
        key = load_pem_private_key(path.with_suffix(".key").read_bytes(), None)
        assert key.public_key() == certificate.public_key()


def test_certificates_are_valid_for_a_slow_clock(pki: Pki) -> None:
    certificate = certificate_of(pki.node("node1"))
    assert certificate.not_valid_before_utc < datetime.now(UTC) - BACKDATING + timedelta(minutes=5)
    assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=300)


def test_keys_are_readable_by_their_owner_only(pki: Pki) -> None:
    keys = list(pki.directory.glob("*.key"))
    assert len(keys) > 10
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE(pki.directory.stat().st_mode) == 0o700


def test_node_certificate_serves_its_address_and_is_a_client(pki: Pki) -> None:
    certificate = certificate_of(pki.node("node2"))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.168.122.212"]
    assert names.get_values_for_type(x509.DNSName) == ["node2"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


def test_service_account_key_pair_matches(pki: Pki) -> None:
    private = load_pem_private_key(pki.service_account_key.read_bytes(), None)
    assert private.public_key() == load_pem_public_key(pki.service_account_public_key.read_bytes())


@pytest.mark.parametrize("name", ["127.0.0.1", "192.168.122.1", "10.96.0.1", "kubernetes.default.svc", "localhost"])
def test_api_server_certificate_has_all_its_names(pki: Pki, name: str) -> None:
    """A TLS handshake with a client certificate, like those with the API server."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki.ca))
    server.verify_mode = ssl.CERT_REQUIRED
    serving = pki.identity("apiserver")
    server.load_cert_chain(serving.certificate, serving.key)
    near, far = socket.socketpair()
    near.settimeout(10)
    far.settimeout(10)

    def serve() -> None:
        with server.wrap_socket(far, server_side=True) as connection:
            connection.sendall(connection.recv(1))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with tls_context(pki.identity("admin")).wrap_socket(near, server_hostname=name) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
    thread.join(10)


def test_etcd_does_not_accept_certificates_of_the_cluster(pki: Pki) -> None:
    etcd = x509.load_pem_x509_certificate(pki.etcd_ca.read_bytes())
    with pytest.raises(ValueError, match="[Ii]ssuer"):
        certificate_of(pki.identity("admin")).verify_directly_issued_by(etcd)


def test_server_has_an_authority_whose_key_is_not_kept(tmp_path: Path) -> None:
    names = [f"{'webhook' * 8}.namespace.svc", "webhook"]
    identity = create_server(tmp_path, "webhook", names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["webhook-ca.crt", "webhook.crt", "webhook.key"]
    certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(identity.ca.read_bytes()))
    served = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert served.get_values_for_type(x509.DNSName) == names
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
