"""Adapts an operator's manifests to a slow cluster that pulls no images and may have no cert-manager.

Images get the names under which they are preloaded. No leader is elected, and probes wait
longer for an answer. Without cert-manager, the lab issues the certificates that the manifests ask for.
"""

from __future__ import annotations

import copy
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mock_device.lab.base.errors import StepError
from mock_device.lab.build.image_source import full_name

Object = dict[str, Any]
INJECT_CA = "cert-manager.io/inject-ca-from"
"""Annotation that names the Certificate (``namespace/name``) whose CA cert-manager writes into the object."""
_CERT_MANAGER = "cert-manager.io/"
_RELATED_IMAGE = "RELATED_IMAGE_"
_NEEDED_RELATED = ("RELATED_IMAGE_WORKER",)
"""KMM starts pods of these images by itself. Others serve builds and signatures in the cluster."""
_LATEST = "latest"
_CONFIG_ARGUMENT = "--config="
_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
_PROBE_ANSWER_SECONDS = 10
"""In the probes of manifests; Kubernetes' default is 1 s."""
_FIRST = ("Namespace", "CustomResourceDefinition", "Secret", "ConfigMap")
"""Kinds that the others need, in this order."""


@dataclass(frozen=True)
class Certificate:
    """A certificate that an operator's manifests ask cert-manager for."""

    namespace: str
    name: str
    secret: str
    serves: tuple[str, ...]
    """DNS names."""

    @property
    def key(self) -> str:
        """As INJECT_CA names it."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Issued:
    """An issued certificate; all in PEM."""

    ca: bytes
    certificate: bytes
    key: bytes


def in_order(objects: Iterable[Object]) -> list[Object]:
    """Objects in the order in which they can be applied."""
    return sorted(objects, key=lambda item: _FIRST.index(item["kind"]) if item["kind"] in _FIRST else len(_FIRST))


def with_preloaded_images(operator: str, objects: Sequence[Object], preloaded: Sequence[str]) -> list[Object]:
    """Objects whose containers use ``preloaded`` images and never ask a registry for them.

    Raises StepError with each image that the manifests name and no archive has.
    """
    missing: list[str] = []
    changed = copy.deepcopy(list(objects))
    for container in _containers(changed):
        if name := preloaded_name(container["image"], preloaded):
            container["image"] = name
            container["imagePullPolicy"] = "IfNotPresent"
        else:
            missing.append(container["image"])
        for variable in container.get("env") or []:
            if not variable["name"].startswith(_RELATED_IMAGE) or "value" not in variable:
                continue
            if name := preloaded_name(variable["value"], preloaded):
                variable["value"] = name
            elif variable["name"] in _NEEDED_RELATED:
                missing.append(f"{variable['value']} ({variable['name']})")
    if missing:
        raise StepError(
            f"{operator}: expected archives of all images in its manifests, found none of "
            f"{', '.join(dict.fromkeys(missing))}; the archives have {', '.join(sorted(preloaded)) or 'no image'}"
        )
    if latest := sorted(name for name in images_of(changed) if _split(name)[1] == _LATEST and name in preloaded):
        raise StepError(
            f"{operator}: expected archives whose images have a version as tag, found {', '.join(latest)}: "
            "Kubernetes asks the registry for an image with tag 'latest'; "
            "tag them before they are saved: docker tag NAME:latest NAME:VERSION"
        )
    return changed


def images_of(objects: Sequence[Object]) -> list[str]:
    """Images that ``objects`` need on the nodes: of their containers, and of the pods that KMM starts."""
    found = []
    for container in _containers(objects):
        found.append(container["image"])
        found += [variable["value"] for variable in container.get("env") or [] if variable["name"] in _NEEDED_RELATED]
    return list(dict.fromkeys(found))


def preloaded_name(wanted: str, preloaded: Iterable[str]) -> str | None:
    """The preloaded image that stands for ``wanted``, an image in a manifest; None without one.

    It has the same name; or else the same last part of the repository's name, with the
    same tag or as the only one: manifests and archives may name different registries.
    """
    names = sorted(preloaded)
    if wanted in names:
        return full_name(wanted)
    repository, tag = _split(wanted)
    same = [name for name in names if _last_part(name) == repository.rpartition("/")[2]]
    exact = [name for name in same if _split(name)[1] == tag]
    candidates = exact or same
    return full_name(candidates[0]) if len(candidates) == 1 else None


def without_leader_election(objects: Sequence[Object]) -> list[Object]:
    """Objects, and the configuration of KMM's controllers that they name but do not have.

    A controller ends when it cannot renew its lease within 10 s, which is too short for slow or restored nodes; there
    is only one replica of each. Format: KMM's documentation, "Configuring".
    """
    there = {
        (item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects if item["kind"] == "ConfigMap"
    }
    wanted = {
        (item["metadata"].get("namespace"), argument.removeprefix(_CONFIG_ARGUMENT)): None
        for item in objects
        for container in _containers([item])
        for argument in container.get("args") or []
        if argument.startswith(_CONFIG_ARGUMENT)
    }
    return [
        *objects,
        *(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": namespace},
                "data": {"controller_config.yaml": "leaderElection:\n  enabled: false\n"},
            }
            for namespace, name in wanted
            if (namespace, name) not in there
        ),
    ]


def with_patient_probes(objects: Sequence[Object]) -> list[Object]:
    """Objects whose probes wait at least 10 s for an answer. How often a probe may fail is unchanged.

    An operator that is busy on a slow node answers later than within Kubernetes' default of 1 s; the kubelet would
    restart it, or take its webhook out of service, though nothing is wrong with it.
    """
    changed = copy.deepcopy(list(objects))
    for container in _containers(changed):
        for probe in (container[name] for name in _PROBES if name in container):
            probe["timeoutSeconds"] = max(probe.get("timeoutSeconds", 1), _PROBE_ANSWER_SECONDS)
    return changed


def certificates_of(objects: Iterable[Object]) -> list[Certificate]:
    """Certificates that the manifests ask cert-manager for."""
    return [
        Certificate(
            item["metadata"].get("namespace", "default"),
            item["metadata"]["name"],
            item["spec"]["secretName"],
            tuple(item["spec"].get("dnsNames") or ()),
        )
        for item in objects
        if item["kind"] == "Certificate" and item["apiVersion"].startswith(_CERT_MANAGER)
    ]


def without_cert_manager(
    operator: str, objects: Sequence[Object], issue: Callable[[Certificate], Issued]
) -> list[Object]:
    """Objects without those of cert-manager, whose work is done: secrets exist, and CAs are injected.

    Raises StepError if an object wants the CA of a certificate that the manifests do not have.
    """
    wanted = {certificate.key: certificate for certificate in certificates_of(objects)}
    issued = {key: issue(certificate) for key, certificate in wanted.items()}
    kept = [copy.deepcopy(item) for item in objects if not item["apiVersion"].startswith(_CERT_MANAGER)]
    for item in kept:
        key = (item["metadata"].get("annotations") or {}).pop(INJECT_CA, None)
        if key is None:
            continue
        if key not in issued:
            raise StepError(
                f"{operator}: {item['kind']} {item['metadata']['name']} wants the CA of Certificate {key}, "
                f"which its manifests do not have; found {', '.join(issued) or 'none'}"
            )
        for place in _ca_places(item):
            place["caBundle"] = b64encode(issued[key].ca).decode()
    return kept + [_secret(wanted[key], issued[key]) for key in issued]


def _secret(certificate: Certificate, issued: Issued) -> Object:
    data = {"tls.crt": issued.certificate, "tls.key": issued.key, "ca.crt": issued.ca}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": certificate.secret, "namespace": certificate.namespace},
        "data": {name: b64encode(content).decode() for name, content in data.items()},
    }


def _ca_places(item: Object) -> Iterator[Object]:
    """Where an object has a ``caBundle``: in webhooks, in a CRD's conversion, in an APIService."""
    match item["kind"]:
        case "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration":
            yield from (webhook["clientConfig"] for webhook in item.get("webhooks") or [])
        case "CustomResourceDefinition":
            if "webhook" in (conversion := item["spec"].get("conversion") or {}):
                yield conversion["webhook"].setdefault("clientConfig", {})
        case "APIService":
            yield item["spec"]


def _containers(objects: Iterable[Object]) -> Iterator[Object]:
    """Containers of all workloads: objects with a pod template, pods, and cron jobs."""
    for item in objects:
        spec = item.get("spec") or {}
        if item["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        pod = spec if item["kind"] == "Pod" else (spec.get("template") or {}).get("spec") or {}
        if item["kind"] == "CustomResourceDefinition":
            continue
        for kind in ("initContainers", "containers"):
            yield from (container for container in pod.get(kind) or [] if "image" in container)


def _split(name: str) -> tuple[str, str]:
    """Repository and tag of an image's name; a digest is no tag."""
    name, at, _ = name.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        return name, "" if at else _LATEST
    return repository, tag


def _last_part(name: str) -> str:
    return _split(name)[0].rpartition("/")[2]
