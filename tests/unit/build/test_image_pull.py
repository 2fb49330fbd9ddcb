"""References of images, and how they are pulled."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.build import image_pull, prerequisites
from mock_device.lab.build.image_pull import argv, is_reference, pull

LAYOUT = Path("/tmp/pulled")


@pytest.mark.parametrize(
    "text",
    ["nginx", "nginx:1.27", "quay.io/a/b-c:v1", "127.0.0.1:5000/app@sha256:" + "0" * 64, "docker-daemon:app:1"],
)
def test_references(text: str) -> None:
    assert is_reference(text)


@pytest.mark.parametrize("text", ["image.tar", "image.tar.gz", "./nginx", "/nginx", "~/nginx", "a b", "Nginx", ""])
def test_other_text_is_no_reference(text: str) -> None:
    assert not is_reference(text)


@pytest.mark.parametrize(
    ("reference", "copied", "insecure"),
    [
        ("nginx", ["docker://nginx", "oci:/tmp/pulled:docker.io/library/nginx:latest"], False),
        ("docker://quay.io/a/b:1", ["docker://quay.io/a/b:1", "oci:/tmp/pulled:quay.io/a/b:1"], False),
        ("127.0.0.1:5000/app:1", ["docker://127.0.0.1:5000/app:1", "oci:/tmp/pulled:127.0.0.1:5000/app:1"], True),
        ("localhost:5000/app:1", ["docker://localhost:5000/app:1", "oci:/tmp/pulled:localhost:5000/app:1"], True),
        ("docker-daemon:app:1", ["docker-daemon:app:1", "oci:/tmp/pulled:docker.io/library/app:1"], False),
    ],
)
def test_command_line(reference: str, copied: list[str], insecure: bool) -> None:
    command = argv(reference, LAYOUT)
    assert command[:5] == ["skopeo", "--override-os", "linux", "--override-arch", "amd64"]
    assert command[-2:] == copied
    assert ("--src-tls-verify=false" in command) is insecure


def test_policy_of_the_user_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy.json"
    monkeypatch.setattr(image_pull, "_POLICIES", (policy,))
    assert "--insecure-policy" in argv("nginx", LAYOUT)
    policy.touch()
    assert "--insecure-policy" not in argv("nginx", LAYOUT)


def test_missing_skopeo_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "_which", lambda _: None)
    with pytest.raises(StepError, match="lacks skopeo, which pulls and converts images: apt-get install skopeo"):
        pull("nginx", tmp_path, tmp_path / "log")


def test_failed_pull_names_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> bytes:
        raise StepError("no such host")

    monkeypatch.setattr(prerequisites, "_which", lambda _: "/usr/bin/skopeo")
    monkeypatch.setattr(image_pull, "run", fails)
    with pytest.raises(StepError, match="cannot pull nginx on this machine: no such host"):
        pull("nginx", tmp_path, tmp_path / "log")
