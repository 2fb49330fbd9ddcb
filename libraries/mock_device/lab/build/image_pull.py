"""Pulls images on this machine, by skopeo(1): from registries, from Docker, from podman's store."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import prerequisites
from mock_device.lab.build.image_source import full_name

_TRANSPORTS = ("docker://", "docker-daemon:", "containers-storage:")
# github.com/distribution/reference, regexp.go: a domain or path components, a tag, a digest.
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:[A-Za-z0-9.-]+(?::\d+)?/)?{_COMPONENT}(?:/{_COMPONENT})*(?::[\w][\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)
_LOOKS_LIKE_PATH = re.compile(r"[/.~].*|.*\.(tar|tgz|gz|oci)")
_POLICIES = (Path("/etc/containers/policy.json"), Path("~/.config/containers/policy.json"))


def is_reference(text: str) -> bool:
    """Whether ``text`` names an image: a reference, maybe with a transport of skopeo."""
    name = without_transport(text)
    return bool(_REFERENCE.fullmatch(name)) and (name != text or not _LOOKS_LIKE_PATH.fullmatch(text))


def without_transport(reference: str) -> str:
    """The name of the image in ``reference``."""
    for transport in _TRANSPORTS:
        if reference.startswith(transport):
            return reference.removeprefix(transport)
    return reference


def pull(reference: str, folder: Path, log: Path) -> Path:
    """Pull the image for nodes (linux/amd64) into an OCI layout below ``folder``, which is returned.

    ``reference`` has the transport ``docker://`` (a registry) by default; ``docker-daemon:`` and
    ``containers-storage:`` read from Docker and podman. Raises StepError if skopeo is missing or fails.
    """
    prerequisites.need(prerequisites.SKOPEO)
    layout = folder / "pulled"
    try:
        run(argv(reference, layout), log=log, timeout=Timeout.IMAGE_PULL.seconds)
    except StepError as error:
        raise StepError(f"cannot pull {reference} on this machine: {error}") from error
    return layout


def argv(reference: str, layout: Path) -> list[str]:
    """skopeo's command line that copies ``reference`` to the OCI layout ``layout``."""
    transport = next((one for one in _TRANSPORTS if reference.startswith(one)), "")
    source = reference if transport else f"docker://{reference}"
    command = ["skopeo", "--override-os", "linux", "--override-arch", "amd64"]
    if not any(path.expanduser().is_file() for path in _POLICIES):
        # skopeo refuses to work without a policy; Debian has it in a package that skopeo only recommends.
        command.append("--insecure-policy")
    command.append("copy")
    if transport in ("", "docker://") and _is_loopback(without_transport(reference)):
        # As Docker does: a registry of this machine is asked by HTTP, too.
        command.append("--src-tls-verify=false")
    return [*command, source, f"oci:{layout}:{full_name(without_transport(reference)).replace('@', '-')}"]


def _is_loopback(name: str) -> bool:
    host = name.partition("/")[0].partition(":")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
