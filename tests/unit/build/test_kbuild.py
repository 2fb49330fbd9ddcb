"""Kernels and sources of the module's build."""

from __future__ import annotations

import re
import subprocess

import pytest

from mock_device.lab.base.paths import PROJECT
from mock_device.lab.build import kbuild

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
    objects = re.search(r"^mock_accel-y := (.*)$", (SOURCE / "Makefile").read_text(), re.MULTILINE)
    assert objects
    assert {f"{source.stem}.o" for source in SOURCE.glob("*.c")} == set(objects[1].split())


def test_every_attribute_in_the_source_is_described() -> None:
    """Needs no guest, unlike the tests that compare with the real attributes."""
    abi = (SOURCE / "ABI/testing/sysfs-class-mock-accel").read_text()
    attributes = set(re.findall(r"DEVICE_ATTR_R[OW]\((\w+)\)", (SOURCE / "sysfs.c").read_text()))
    described = set(re.findall(r"^What:\t\t/sys/class/mock-accel/<name>/(\w+)$", abi, re.MULTILINE))
    assert described == attributes | {"device", "uevent"}
    for entry in abi.split("\n\nWhat:"):
        for field in ("Date:\t\t", "KernelVersion:\t", "Contact:\t", "Description:\n\t\t"):
            assert field in entry, entry
