"""The same small image in every form that ``lab load-image`` takes, and in a cluster's registry."""

from __future__ import annotations

import gzip
import shutil
import tarfile
from enum import StrEnum
from pathlib import Path

from mock_device.checks.errors import SkipCheck
from mock_device.lab.base.commands import run
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import images
from mock_device.lab.build.thin_image import write_thin


class ImageForm(StrEnum):
    """Forms of an image on this machine."""

    DOCKER_ARCHIVE = "docker archive"
    COMPRESSED_ARCHIVE = "compressed archive"
    OCI_ARCHIVE = "OCI archive"
    OCI_LAYOUT = "OCI layout"


def archive() -> Path:
    """Docker archive of the image of the tests' containers."""
    return next(file for file in images.build_base_images() if "image-busybox" in file.parts)


def write(form: ImageForm, folder: Path, name: str) -> Path:
    """Write the image in ``form`` below the existing ``folder``; OCI forms have the ``name``."""
    match form:
        case ImageForm.DOCKER_ARCHIVE:
            return archive()
        case ImageForm.COMPRESSED_ARCHIVE:
            path = folder / "image.tar.gz"
            with archive().open("rb") as source, gzip.open(path, "wb", compresslevel=1) as target:
                shutil.copyfileobj(source, target)
        case ImageForm.OCI_ARCHIVE:
            path = folder / "image.tar"
            write_thin(archive(), path, (), name)
        case ImageForm.OCI_LAYOUT:
            path = folder / "layout"
            with tarfile.open(write(ImageForm.OCI_ARCHIVE, folder, name)) as tar:
                tar.extractall(path, filter="data")
    return path


def need_skopeo() -> None:
    """Raise SkipCheck if skopeo is not installed."""
    if shutil.which("skopeo") is None:
        raise SkipCheck("skopeo is not installed: apt-get install skopeo")


def push(registry: str, image: str) -> None:
    """Push the image as ``image`` to ``registry`` (host and port on loopback). Raises SkipCheck, StepError."""
    need_skopeo()
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
    run([*command, f"docker-archive:{archive()}", f"docker://{registry}/{image}"], timeout=Timeout.IMAGE_PUSH.seconds)
