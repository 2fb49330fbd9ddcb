"""The image of the examples and the suites' pods has the programs that the guides use, and is small."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from mock_device.checks.objects import pods
from mock_device.lab.base.commands import run
from mock_device.lab.build import images
from mock_device.lab.build.rootless import in_tree
from mock_device.lab.cluster import deploy

TIMEOUT_SECONDS = 60
MOST_BYTES = 6 << 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def archive() -> Path:
    """The image of the suites' pods, from the cache of `make setup`."""
    (image,) = (image for image in images.BASE_IMAGES if image.tag == pods.IMAGE)
    return images.base_image(image)


@pytest.fixture(scope="module")
def tree(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's files, unpacked."""
    folder = tmp_path_factory.mktemp("tree")
    with tarfile.open(archive) as image:
        manifest = image.extractfile("manifest.json")
        assert manifest is not None
        ((layer,),) = (entry["Layers"] for entry in json.load(manifest))
        with tarfile.open(fileobj=image.extractfile(layer)) as files:
            files.extractall(folder, filter="fully_trusted")
    # A container's runtime makes it.
    (folder / "dev").mkdir()
    return folder


def in_shell(tree: Path, line: str) -> str:
    """Output of a command in the image's shell."""
    return run(in_tree(tree, ["sh", "-c", line]), timeout=TIMEOUT_SECONDS).decode()


def test_readlink_accepts_several_files(tree: Path) -> None:
    """As in `readlink /sys/class/mock-accel/*/device/physfn | sort -u | wc -l`."""
    line = "cd /tmp && mkdir -p a b && ln -sf ../x a/physfn && ln -sf ../x b/physfn && readlink */physfn"
    assert in_shell(tree, f"{line} | wc -l").strip() == "2"
    assert in_shell(tree, f"{line} | sort -u").strip() == "../x"


def test_time_measures_a_command(tree: Path) -> None:
    assert in_shell(tree, "time -p true 2>&1").split()[::2] == ["real", "user", "sys"]


@pytest.mark.parametrize("name", ["awk", "basename", "env", "find", "grep", "ls", "sed", "seq", "sort", "tr", "xargs"])
def test_programs_of_the_guide_exist(tree: Path, name: str) -> None:
    assert in_shell(tree, f"command -v {name}").strip() in (f"/usr/bin/{name}", f"/usr/sbin/{name}")


def test_image_is_small(archive: Path) -> None:
    assert archive.stat().st_size < MOST_BYTES


def test_image_of_the_go_driver_has_its_program_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    program = tmp_path / "go-driver"
    program.write_text("#!/bin/false\n")
    program.chmod(0o755)
    with tarfile.open(images.go_driver_image(program)) as image:
        manifest = image.extractfile("manifest.json")
        assert manifest is not None
        (entry,) = json.load(manifest)
        config = image.extractfile(entry["Config"])
        assert config is not None
        assert json.load(config)["config"]["Entrypoint"] == ["/go-driver"]
        (layer,) = entry["Layers"]
        with tarfile.open(fileobj=image.extractfile(layer)) as files:
            assert [(file.name, oct(file.mode & 0o777)) for file in files if file.isfile()] == [("go-driver", "0o755")]
    assert entry["RepoTags"] == [images.GO_DRIVER_IMAGE]


def test_variant_of_the_module_s_image_has_its_name_and_one_more_file() -> None:
    tag = f"{images.REPOSITORY}/mock-accel-kmod:of-a-test"
    archive = images.kmod_variant(deploy.kmod_image(), tag, {"/firmware/some.bin": "some text"})
    with tarfile.open(archive) as image:
        manifest = image.extractfile("manifest.json")
        assert manifest is not None
        (entry,) = json.load(manifest)
        assert entry["RepoTags"] == [tag]
        with tarfile.open(fileobj=image.extractfile(entry["Layers"][-1])) as files:
            text = files.extractfile("firmware/some.bin")
            assert text is not None and text.read() == b"some text"
            assert [name for name in files.getnames() if "mock_accel.ko" in name] == []
