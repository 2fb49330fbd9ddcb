"""Files of an operator that are the user's: rendered manifests, and archives with its images.

The project has neither: KMM and cert-manager are not in its package registries.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mock_device.lab.base.errors import StepError
from mock_device.lab.build.image_source import images_in, opened, unpacked
from mock_device.lab.kube.manifests import read_manifest

_SEPARATOR = ":"
_MANIFEST_PATTERNS = ("*.yaml", "*.yml")
_ARCHIVE_PATTERNS = ("*.tar", "*.tar.gz", "*.tgz")
_LAYOUT = "oci-layout"
"""File of each OCI layout (image-spec, image-layout.md)."""

Object = dict[str, Any]


class MissingFilesError(StepError):
    """The user has not said where an operator's files are, or they are not there."""


@dataclass(frozen=True)
class OperatorFiles:
    """Manifests and image archives of an operator."""

    operator: str
    """Name for messages, such as ``KMM``."""
    manifests: tuple[Path, ...]
    archives: tuple[Path, ...]

    def objects(self) -> list[Object]:
        """All objects of the manifests. Raises StepError with the file that has none."""
        found: list[Object] = []
        for path in self.manifests:
            try:
                objects = read_manifest(path)
            except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
                raise StepError(f"{path}: expected rendered manifests (YAML) of {self.operator}: {error}") from error
            if not objects or not all(_is_object(item) for item in objects):
                raise StepError(
                    f"{path}: expected Kubernetes objects of {self.operator}, found something else; "
                    "render them first: kubectl kustomize FOLDER, or helm template"
                )
            found += objects
        return found

    def image_names(self) -> dict[str, Path]:
        """Names of all images in the archives, each with its archive. Raises StepError."""
        return {name: archive for archive in self.archives for name in names_of(archive)}

    def checksums(self) -> dict[str, str]:
        """SHA-256 (hex) of each file, by file name; files with equal names have their folder's name before it.

        Of an OCI layout, it is that of its index.
        """
        paths = (*self.manifests, *self.archives)
        names = [path.name for path in paths]
        return {
            (path.name if names.count(path.name) == 1 else f"{path.parent.name}/{path.name}"): _sha256(path)
            for path in paths
        }


def find(
    operator: str, manifests: Sequence[str], archives: Sequence[str], *, sources: tuple[str, str]
) -> OperatorFiles:
    """Files that match patterns; a folder stands for the manifests or archives in it.

    ``sources`` says where the two lists of patterns come from, for messages. Raises MissingFilesError
    with the pattern that nothing matches.
    """
    return OperatorFiles(
        operator,
        tuple(_matches(operator, manifests, _MANIFEST_PATTERNS, sources[0], "rendered manifests (YAML)")),
        tuple(_matches(operator, archives, _ARCHIVE_PATTERNS, sources[1], "image archives (docker save, skopeo copy)")),
    )


def patterns(variable: str, default: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Patterns of an environment ``variable``, separated by colons; ``default`` if it is not set."""
    value = environment.get(variable, "")
    return [part for part in value.split(_SEPARATOR) if part] or list(default)


def names_of(archive: Path) -> list[str]:
    """Full names of the images of an archive or a layout. Raises StepError."""
    with (
        tempfile.TemporaryDirectory(prefix="mock-device-") as folder,
        opened(unpacked(archive, Path(folder))) as source,
    ):
        return [name for image in images_in(archive, source) for name in image.names]


def _matches(operator: str, wanted: Sequence[str], in_folder: Sequence[str], source: str, what: str) -> list[Path]:
    if not wanted:
        raise MissingFilesError(
            f"{operator}: expected {what}, found none: set {source}, to files, folders or patterns; "
            "see docs/how-to/kmm.md"
        )
    found: list[Path] = []
    for pattern in wanted:
        files: list[Path] = []
        for path in _glob(Path(pattern).expanduser().absolute()):
            is_file = not path.is_dir() or (path / _LAYOUT).is_file()
            files += [path] if is_file else [item for kind in in_folder for item in sorted(path.glob(kind))]
        if not files:
            raise MissingFilesError(
                f"{operator}: expected {what} at {pattern!r}, found no file; it comes from {source}"
            )
        found += [file for file in files if file not in found]
    return found


def _glob(pattern: Path) -> list[Path]:
    return sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))


def _is_object(item: Any) -> bool:
    return isinstance(item, dict) and {"apiVersion", "kind", "metadata"} <= item.keys()


def _sha256(path: Path) -> str:
    # The index of an OCI layout names everything else by its digest.
    with (path / "index.json" if path.is_dir() else path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
