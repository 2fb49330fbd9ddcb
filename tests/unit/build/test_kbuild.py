"""Kernels and sources of the module's build."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.build import debian, kbuild
from mock_device.lab.build.kbuild import Kernel
from mock_device.lab.build.store import NotCachedError

SOURCE = PROJECT / "kernel-driver"


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("6.1.0-56-cloud-amd64", (6, 1, 0, 56)),
        ("6.12.41+deb13-cloud-amd64", (6, 12, 41)),
        ("7.1~rc3-cloud-amd64", (7, 1)),
        ("cloud", ()),
    ],
)
def test_version_is_parsed_from_the_release(release: str, expected: tuple[int, ...]) -> None:
    assert kbuild.version(release) == expected


def test_kernels_are_ordered_by_number() -> None:
    releases = ["6.12.41+deb13-cloud-amd64", "6.1.0-56-cloud-amd64", "6.1.0-9-cloud-amd64"]
    assert sorted(releases, key=kbuild.version) == [releases[2], releases[1], releases[0]]


def test_readme_names_the_oldest_supported_kernel() -> None:
    assert f"Linux {'.'.join(map(str, kbuild.OLDEST))} or newer" in (SOURCE / "README.md").read_text()


@pytest.mark.parametrize(("version", "patchlevel"), [(kbuild.OLDEST[0], kbuild.OLDEST[1] - 1), (5, 15)])
def test_module_does_not_compile_for_older_kernels(version: int, patchlevel: int) -> None:
    """Sets the variables that the kernel's Makefile defines when it includes this one."""
    variables = [f"KERNELRELEASE={version}.{patchlevel}.9", f"VERSION={version}", f"PATCHLEVEL={patchlevel}"]
    argv = ["make", "--no-print-directory", "-f", str(SOURCE / "Makefile"), *variables]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    oldest = ".".join(map(str, kbuild.OLDEST))
    assert f"mock_accel needs Linux {oldest} or newer, found {version}.{patchlevel}.9" in result.stderr
    assert result.returncode != 0


def test_every_source_is_part_of_the_module() -> None:
    makefile = (SOURCE / "Makefile").read_text().replace("\\\n", "")
    objects = re.search(r"^mock_accel-y := (.*)$", makefile, re.MULTILINE)
    assert objects
    assert {f"{source.stem}.o" for source in SOURCE.glob("*.c")} == set(objects[1].split())


def test_every_attribute_in_the_source_is_described() -> None:
    """Needs no guest, unlike the tests that compare with the real attributes."""
    abi = (SOURCE / "ABI/testing/sysfs-class-mock-accel").read_text()
    sources = "".join(path.read_text() for path in SOURCE.glob("*.c"))
    attributes = set(re.findall(r"DEVICE_ATTR_[RW][OW]\((\w+)\)", sources))
    described = set(re.findall(r"^What:\t\t/sys/class/mock-accel/<name>/(\w+)$", abi, re.MULTILINE))
    assert described == attributes | {"dev", "device", "uevent"}
    for entry in abi.split("\n\nWhat:"):
        for field in ("Date:\t\t", "KernelVersion:\t", "Contact:\t", "Description:\n\t\t"):
            assert field in entry, entry


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The trees of headers that are built, by their hooks; those of the nodes' kernel and two others are cached."""
    built: list[tuple[str, ...]] = []
    kbuild.kernel_of.cache_clear()
    monkeypatch.setattr(kbuild, "module_kernel_release", lambda: "6.12.1-cloud-amd64")
    monkeypatch.setattr(kbuild, "build_root", lambda: Path("/nodes"))
    others = Kernel(Path("/others"), "6.1.0-9-cloud-amd64"), Kernel(Path("/others"), "7.3.4-cloud-amd64")
    monkeypatch.setattr(kbuild, "other_kernels", lambda: others)

    def cached(kind: str, inputs: Any, build: Any, *, what: str) -> Path:
        built.append(inputs["hooks"])
        return Path(f"/{kind}")

    monkeypatch.setattr(kbuild, "cached", cached)
    return built


def test_headers_of_known_kernels_are_used_and_others_are_installed(kernels: list[tuple[str, ...]]) -> None:
    assert kbuild.kernel_of("6.12.1-cloud-amd64") == Kernel(Path("/nodes"), "6.12.1-cloud-amd64")
    assert kbuild.kernel_of("7.3.4-cloud-amd64").root == Path("/others")
    assert kernels == []
    assert kbuild.kernel_of("6.12.1-amd64") == Kernel(Path("/kbuild-release/root"), "6.12.1-amd64")
    assert "apt-get install -y --no-install-recommends linux-headers-6.12.1-amd64" in " ".join(kernels[0])


def test_kernel_that_debian_does_not_have_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kernels: list[tuple[str, ...]]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StepError("E: Unable to locate package")

    def cached(kind: str, inputs: Any, build: Any, *, what: str) -> Path:
        build(tmp_path)
        return tmp_path

    monkeypatch.setattr(kbuild, "cached", cached)
    monkeypatch.setattr(debian, "tree", refuse)
    expected = r"no headers of Linux 5\.99\.0-fake: expected the package linux-headers-5\.99\.0-fake in Debian's trixie"
    with pytest.raises(StepError, match=expected):
        kbuild.kernel_of("5.99.0-fake")


def test_module_is_only_looked_for(monkeypatch: pytest.MonkeyPatch, kernels: list[tuple[str, ...]]) -> None:
    monkeypatch.setattr(kbuild, "_build", lambda *_: Path("/module"))
    assert kbuild.is_built_for("6.12.1-cloud-amd64")

    def missing(*_: object) -> Path:
        raise NotCachedError("module")

    monkeypatch.setattr(kbuild, "_build", missing)
    assert not kbuild.is_built_for("6.12.1-cloud-amd64")
