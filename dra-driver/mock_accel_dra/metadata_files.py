"""Files that tell a container the attributes of its devices (feature DeviceMetadata).

Format and places are those of k8s.io/dynamic-resource-allocation 0.37: ``api/metadata`` (the file, and where a
container finds it) and ``kubeletplugin/metadata.go`` (the CDI devices). A container reads
``/var/run/kubernetes.io/dra-device-attributes/resourceclaims/<claim>/<request>/<driver>-metadata.json``, or
``resourceclaimtemplates/<name in the pod>/…`` for a claim made from a template.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from mock_accel_dra import DRIVER_NAME, allocations, files, klog
from mock_accel_dra.cdi import CDI_VERSION
from mock_accel_dra.discovery import Device
from mock_accel_dra.features import Feature
from mock_accel_dra.settings import AgentSettings
from mock_accel_dra.slices import attributes
from mock_accel_dra.state import State

Object = dict[str, Any]
KIND = f"{DRIVER_NAME}/metadata"
"""Of the CDI devices."""
_FOLDER = "dra-device-metadata"
_API_VERSION = "metadata.resource.k8s.io/v1beta1"
_IN_CONTAINER = Path("/var/run/kubernetes.io/dra-device-attributes")
_POD_CLAIM = "resource.kubernetes.io/pod-claim-name"
"""Annotation of a claim made from a template: its name in the pod (resource.k8s.io/v1, PodResourceClaimAnnotation)."""
_MODE = 0o755


def of(settings: AgentSettings, state: State) -> MetadataFiles | None:
    """The files of the node, without those of claims that are not in ``state``; None if the feature is off.

    Raises OSError.
    """
    if Feature.DEVICE_METADATA not in settings.features:
        return None
    found = MetadataFiles(settings.plugin_dir, settings.cdi_root)
    found.keep({claim.uid for claim in state.claims()})
    return found


class MetadataFiles:
    """The files of the claims of one node."""

    def __init__(self, folder: Path, cdi_folder: Path) -> None:
        """``folder`` is that of the driver; the container runtime must see both folders at the same paths."""
        self._folder = folder / _FOLDER
        self._cdi = cdi_folder

    def write(self, claim: Object, devices: Mapping[str, Device]) -> dict[str, str]:
        """Write the files of ``claim`` for those of its ``devices`` that are here; CDI devices by request.

        Raises OSError.
        """
        by_name = {device.published_name: device for device in devices.values()}
        requests: dict[str, list[Object]] = {}
        for result in allocations.own_results(claim):
            if result["device"] in by_name:
                requests.setdefault(str(result["request"]).partition("/")[0], []).append(result)
        return {name: self._write(claim, name, results, by_name) for name, results in requests.items()}

    def _write(self, claim: Object, request: str, results: list[Object], devices: Mapping[str, Device]) -> str:
        metadata = claim["metadata"]
        uid, pod_claim = metadata["uid"], (metadata.get("annotations") or {}).get(_POD_CLAIM)
        content = {
            "kind": "DeviceMetadata",
            "apiVersion": _API_VERSION,
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": uid, "generation": 1},
            **({"podClaimName": pod_claim} if pod_claim else {}),
            "requests": [{"name": results[0]["request"], "devices": [_device(item, devices) for item in results]}],
        }
        path = self._folder / uid / request / "metadata.json"
        for folder in (self._folder, path.parents[1], path.parent):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(_MODE)  # mkdir obeys the umask
        files.write_atomically(path, json.dumps(content, indent=2) + "\n")
        place = Path("resourceclaimtemplates", pod_claim) if pod_claim else Path("resourceclaims", metadata["name"])
        mount = {
            "hostPath": str(path),
            "containerPath": str(_IN_CONTAINER / place / request / f"{DRIVER_NAME}-metadata.json"),
            "options": ["ro", "bind"],
        }
        name = f"{uid}_{request}"
        spec = {
            "cdiVersion": CDI_VERSION,
            "kind": KIND,
            "devices": [{"name": name, "containerEdits": {"mounts": [mount]}}],
        }
        self._cdi.mkdir(parents=True, exist_ok=True)
        files.write_atomically(self._cdi_file(uid, request), json.dumps(spec, indent=2) + "\n")
        return f"{KIND}={name}"

    def remove(self, uid: str) -> None:
        """Remove the files of the claim with ``uid``, if there are any. Raises OSError."""
        for path in self._cdi.glob(self._cdi_file(uid, "*").name):
            files.remove(path)
        if (self._folder / uid).is_dir():
            files.remove(self._folder / uid)

    def keep(self, uids: Container[str]) -> None:
        """Remove the files of all other claims, which an agent that was killed may have left. Raises OSError."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if path.name not in uids:
                klog.warning("Removed the metadata of a claim that is not prepared", uid=path.name)
                self.remove(path.name)

    def _cdi_file(self, uid: str, request: str) -> Path:
        return self._cdi / f"{DRIVER_NAME}_metadata_{uid}_{request}.json"


def _device(result: Object, devices: Mapping[str, Device]) -> Object:
    key = {"driver": DRIVER_NAME, "pool": result["pool"], "name": result["device"]}
    return {**key, "attributes": attributes(devices[result["device"]])}
