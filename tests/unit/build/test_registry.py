"""The registry of a cluster, as containerd and users ask it."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.build.gobuild import build_registry
from mock_device.lab.cluster.cluster import Guests
from mock_device.lab.cluster.registry import look
from mock_device.lab.controlplane import https

pytestmark = pytest.mark.slow
TIMEOUT_SECONDS = 30.0
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}).encode()
OWN, OTHER = "registry.mock-device.internal:5000", "docker.io"


class Running:
    """A registry on a free port of loopback."""

    def __init__(self, folder: Path, *, internet: bool) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v2/"
        command = [str(build_registry()), f"--address=127.0.0.1:{self.port}", f"--folder={folder / 'layers'}"]
        command += ["--names=registry.mock-device.internal,127.0.0.1", *(["--internet"] if internet else [])]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self._silent():
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _silent(self) -> bool:
        try:
            return https.request(self.url)[0] != 200
        except OSError:
            return True

    def push(self, name: str, tag: str) -> None:
        media_type = "application/vnd.oci.image.manifest.v1+json"
        path = f"{self.url}{name}/manifests/{tag}"
        assert https.request(path, method="PUT", body=MANIFEST, content_type=media_type)[0] == 201

    def ask(self, name: str, tag: str, registry: str) -> tuple[int, str]:
        """Status and text of what containerd gets for ``name`` of ``registry``."""
        status, body = https.request(f"{self.url}{name}/manifests/{tag}?ns={registry}")
        return status, body if status == 200 else json.loads(body)["errors"][0]["message"]


@pytest.fixture(params=[False, True], ids=["no-internet", "internet"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path, internet=request.param)
    running.internet = request.param  # type: ignore[attr-defined]
    yield running
    running.process.kill()
    running.process.wait()


def test_pushed_image_is_served_under_the_registrys_names(registry: Running) -> None:
    registry.push("driver", "1")
    for name in (OWN, f"127.0.0.1:{registry.port}"):
        assert registry.ask("driver", "1", name) == (200, MANIFEST.decode())
    assert registry.ask("driver", "2", OWN) == (404, "Unknown manifest")


def test_image_kept_for_another_registry_is_served_under_its_name(registry: Running) -> None:
    registry.push("docker.io/library/nginx", "1")
    digest = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
    for tag in ("1", digest):
        assert registry.ask("library/nginx", tag, OTHER) == (200, MANIFEST.decode())


def test_other_image_is_refused_with_the_ways_to_get_it(registry: Running) -> None:
    if registry.internet:  # type: ignore[attr-defined]
        # containerd asks the image's own registry next.
        assert registry.ask("library/nginx", "1", OTHER) == (404, "this registry does not keep this image")
    else:
        assert registry.ask("library/nginx", "1", OTHER) == (
            403,
            "this cluster has no internet: bring the image by lab load-image or lab registry, "
            "or start the cluster by lab up --internet",
        )


def test_image_that_was_not_loaded_is_refused(registry: Running) -> None:
    status, message = registry.ask("driver", "dev", "localhost")
    assert status == 403
    assert message == "the node lacks this image, and no registry has names with localhost: bring it by lab load-image"


def test_images_are_listed(registry: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guests, "__abstractmethods__", frozenset())
    guests = Guests()  # type: ignore[abstract]
    guests.registry_port = registry.port
    assert look(guests).images == []
    registry.push("driver", "2")
    registry.push("driver", "1")
    registry.push("app", "1")
    found = look(guests)
    assert found.images == ["app:1", "driver:1", "driver:2"]
    assert (found.push, found.pull) == (f"127.0.0.1:{registry.port}", OWN)
    registry.process.kill()
    registry.process.wait()
    with pytest.raises(
        StepError, match=f"registry does not answer at 127.0.0.1:{registry.port}: .*; see: lab clusters"
    ):
        look(guests)
