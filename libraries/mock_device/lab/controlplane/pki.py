"""Certificates of a cluster: its authorities, and one identity for each component.

Names and groups are those that Kubernetes' Node and RBAC authorisers know
("PKI certificates and requirements", kubernetes documentation): the common
name is the user, organisations are its groups.

Keys are ECDSA P-256: created in a millisecond, and supported by every client.
"""

from __future__ import annotations

import ipaddress
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mock_device.lab.base.files import write_file
from mock_device.lab.controlplane.addresses import HOST_ADDRESS

ADMIN_GROUP = "mock-device:admins"
"""Group of the cluster's administrator; ``lab.controlplane.bootstrap`` binds it to ``cluster-admin``."""
KUBELET_CLIENT = "kube-apiserver-kubelet-client"
"""User name of the API server when it calls a kubelet."""
DNS_USER = "system:coredns"
API_SERVICE_ADDRESS = "10.96.0.1"
API_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
    "::1",
    HOST_ADDRESS,
    API_SERVICE_ADDRESS,
)
VALIDITY = timedelta(days=365)
BACKDATING = timedelta(days=1)
"""Certificates are valid from a day before they are issued: a guest's clock may be slow."""
_BOOTSTRAP_VALIDITY = timedelta(minutes=15)


@dataclass(frozen=True)
class Identity:
    """A certificate with its key, and the authority that issued its peers' certificates."""

    name: str
    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True)
class Pki:
    """Files of a cluster's certificates. All keys are readable by their owner only."""

    directory: Path
    server_authority: str = "ca"
    """File name of the authority that issued the certificates of servers; k3s has one for clients, one for servers."""

    @property
    def ca(self) -> Path:
        """Certificate of the cluster's authority, which issues all certificates of clients."""
        return self.directory / "ca.crt"

    @property
    def server_ca(self) -> Path:
        """Certificate of the authority that clients of the API server and of kubelets trust."""
        return self.directory / f"{self.server_authority}.crt"

    @property
    def etcd_ca(self) -> Path:
        """Certificate of etcd's authority; separate, so that the cluster's certificates give no access to etcd."""
        return self.directory / "etcd-ca.crt"

    @property
    def front_proxy_ca(self) -> Path:
        """Certificate of the authority that aggregated API servers trust."""
        return self.directory / "front-proxy-ca.crt"

    @property
    def service_account_key(self) -> Path:
        """Key that signs tokens of service accounts."""
        return self.directory / "sa.key"

    @property
    def service_account_public_key(self) -> Path:
        return self.directory / "sa.pub"

    def identity(self, name: str) -> Identity:
        """The identity ``name``: ``admin``, ``apiserver``, ``node-<node>``, ``kube-proxy-<node>``, …"""
        ca = {"etcd": self.etcd_ca, "apiserver-etcd-client": self.etcd_ca}.get(name, self.server_ca)
        return Identity(name, self.directory / f"{name}.crt", self.directory / f"{name}.key", ca)

    def node(self, name: str) -> Identity:
        """Client and serving certificate of a node's kubelet."""
        return self.identity(f"node-{name}")

    def node_proxy(self, name: str) -> Identity:
        """Client certificate of a node's kube-proxy."""
        return self.identity(f"kube-proxy-{name}")

    @contextmanager
    def bootstrap_identity(self) -> Iterator[Identity]:
        """A superuser (``system:masters``) for the first objects of a cluster, for 15 minutes at most.

        RBAC lets only a superuser bind the administrators' group. The key is in a
        separate folder, which is removed on exit.
        """
        authority = _Authority.load(self.ca)
        with tempfile.TemporaryDirectory(prefix=".bootstrap-", dir=self.directory) as folder:
            authority.issue(
                Path(folder), "bootstrap", "mock-device:bootstrap", ("system:masters",), validity=_BOOTSTRAP_VALIDITY
            )
            yield Identity("bootstrap", Path(folder, "bootstrap.crt"), Path(folder, "bootstrap.key"), self.server_ca)


class _Authority:
    """A certificate authority: its key and certificate."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate

    @staticmethod
    def create(directory: Path, file_name: str, common_name: str) -> _Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(common_name, ())
        builder = _builder(name, name, key.public_key(), VALIDITY)
        usage = _key_usage(signs_certificates=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(usage, critical=True)
        certificate = builder.sign(key, hashes.SHA256())
        _write(directory / file_name, key, certificate)
        return _Authority(key, certificate)

    @staticmethod
    def load(certificate: Path) -> _Authority:
        key = load_pem_private_key(certificate.with_suffix(".key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{certificate.with_suffix('.key')}: expected an ECDSA key, found {type(key).__name__}")
        return _Authority(key, x509.load_pem_x509_certificate(certificate.read_bytes()))

    def issue(
        self,
        directory: Path,
        file_name: str,
        common_name: str,
        groups: Sequence[str] = (),
        *,
        serves: Sequence[str] = (),
        client: bool = True,
        validity: timedelta = VALIDITY,
    ) -> None:
        """Write ``<file_name>.crt`` and ``.key``; ``serves`` are the names and addresses of a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common_name, groups), self._certificate.subject, key.public_key(), validity)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] if client else []
        if serves:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
            names = x509.SubjectAlternativeName([_general_name(name) for name in serves])
            builder = builder.add_extension(names, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        _write(directory / file_name, key, builder.sign(self._key, hashes.SHA256()))


def create_pki(directory: Path, nodes: Sequence[tuple[str, str]]) -> Pki:
    """Create all certificates and keys of a cluster in ``directory``.

    ``nodes`` are the name and the IPv4 address of each node. Existing files are
    replaced, so that all certificates are issued by the same authorities.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    cluster = _Authority.create(directory, "ca", "mock-device cluster CA")
    etcd = _Authority.create(directory, "etcd-ca", "mock-device etcd CA")
    front_proxy = _Authority.create(directory, "front-proxy-ca", "mock-device front proxy CA")

    loopback = ("localhost", "127.0.0.1")
    # etcd is its own peer: its certificate serves clients and peers, and is a peer's client certificate.
    etcd.issue(directory, "etcd", "etcd", serves=loopback)
    etcd.issue(directory, "apiserver-etcd-client", "kube-apiserver-etcd-client")
    front_proxy.issue(directory, "front-proxy-client", "front-proxy-client")
    cluster.issue(directory, "apiserver", "kube-apiserver", serves=API_SERVER_NAMES, client=False)
    cluster.issue(directory, "apiserver-kubelet-client", KUBELET_CLIENT)
    cluster.issue(directory, "controller-manager", "system:kube-controller-manager", serves=loopback)
    cluster.issue(directory, "scheduler", "system:kube-scheduler", serves=loopback)
    cluster.issue(directory, "kube-proxy", "system:kube-proxy")
    cluster.issue(directory, "coredns", DNS_USER)
    cluster.issue(directory, "admin", "mock-device:admin", (ADMIN_GROUP,))
    for name, address in nodes:
        cluster.issue(directory, f"node-{name}", f"system:node:{name}", ("system:nodes",), serves=(name, address))
        cluster.issue(directory, f"kube-proxy-{name}", "system:kube-proxy")

    signer = ec.generate_private_key(ec.SECP256R1())
    pki = Pki(directory)
    write_file(pki.service_account_key, _private_pem(signer), 0o600)
    public = signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_file(pki.service_account_public_key, public)
    return pki


K3S_AUTHORITIES = {
    "ca": "client-ca",
    "server-ca": "server-ca",
    "front-proxy-ca": "request-header-ca",
    "etcd-ca": "etcd/server-ca",
    "etcd-peer-ca": "etcd/peer-ca",
}
"""Authorities of a k3s cluster: our file name, and that of k3s below ``server/tls``, both without extension."""


def create_k3s_pki(directory: Path) -> Pki:
    """Create the authorities of a k3s cluster, and certificates of its clients on this machine, in ``directory``.

    k3s uses authorities that it finds in ``server/tls`` at its first start, and issues all other
    certificates itself (k3s documentation, "k3s certificate", using custom CA certificates).
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    made = {name: _Authority.create(directory, name, f"mock-device {name}") for name in K3S_AUTHORITIES}
    made["ca"].issue(directory, "admin", "mock-device:admin", (ADMIN_GROUP,))
    made["ca"].issue(directory, "coredns", DNS_USER)
    return Pki(directory, "server-ca")


def create_server(directory: Path, file_name: str, names: Sequence[str]) -> Identity:
    """Create a server's identity for DNS ``names`` in ``directory``, issued by an authority that issues no other.

    For webhooks: their callers trust the authority by its certificate, which is copied
    into the webhook's configuration. The authority's key is not kept.
    """
    authority_name = f"{file_name}-ca"
    # A DNS name may be longer than a common name, which has at most 64 characters (RFC 5280, appendix A).
    authority = _Authority.create(directory, authority_name, f"mock-device {file_name} CA")
    (directory / f"{authority_name}.key").unlink()
    authority.issue(directory, file_name, file_name, serves=names, client=False)
    return Identity(
        file_name, directory / f"{file_name}.crt", directory / f"{file_name}.key", directory / f"{authority_name}.crt"
    )


def _name(common_name: str, groups: Sequence[str]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, validity: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
        .not_valid_before(now - BACKDATING)
        .not_valid_after(now + validity)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    write_file(path.with_name(f"{path.name}.key"), _private_pem(key), 0o600)
    write_file(path.with_name(f"{path.name}.crt"), certificate.public_bytes(Encoding.PEM))
