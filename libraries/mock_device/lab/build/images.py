"""Container images, built by buildah from the components' Containerfiles, without any registry.

An image is stored as a docker-archive tar, the format that ``ctr images import`` reads.
"""

from __future__ import annotations

import runpy
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.base.files import remove_tree
from mock_device.lab.base.paths import PROJECT, log_path
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import debian
from mock_device.lab.build.gobuild import GO_DRIVER
from mock_device.lab.build.rootless import as_root
from mock_device.lab.build.store import Input, cached

REPOSITORY = "localhost/mock-device"
KMOD_IMAGE = f"{REPOSITORY}/mock-accel-kmod:dev"
DRIVER_IMAGE = f"{REPOSITORY}/mock-accel-dra-driver:dev"
TOOLS_IMAGE = f"{REPOSITORY}/mock-accel-tools:dev"
GO_DRIVER_IMAGE = f"{REPOSITORY}/go-driver:dev"
PYTHON_VERSION = "3.13"
"""Version of Python in Debian trixie, and so in the driver's image."""
_POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'
_ARCHIVE = "image.tar"


@dataclass(frozen=True)
class BaseImage:
    """An image that consists of a Debian tree."""

    name: str
    packages: tuple[str, ...]
    hooks: tuple[str, ...]
    """Shell commands, run with the tree as ``$1``."""
    config: str
    """Remaining instructions of its Containerfile."""

    @property
    def tag(self) -> str:
        return f"{REPOSITORY}/{self.name}:1"


_APPLETS = (
    'mkdir -p "$1/usr/bin"; for applet in $(chroot "$1" /usr/bin/busybox --list); do '
    'test -e "$1/usr/bin/$applet" || ln -s busybox "$1/usr/bin/$applet"; done'
)
_MERGED_USR = 'for d in bin sbin lib lib64; do test -e "$1/$d" || ln -s "usr/$d" "$1/$d"; done'
# The shell of busybox-static prefers its own applets to programs on PATH, that of busybox does not. So coreutils can
# replace readlink, whose applet accepts only one file, and the program time, which busybox lacks, can be added.
_GUIDE_PROGRAMS = ("busybox", "readlink", "time")
_GUIDE_LIBRARIES = ("ld-linux-x86-64.so.2", "libc.so.6", "libresolv.so.2")
_GUIDE_FILES_ONLY = (
    'cd "$1/usr" && find . ! -type d'
    + "".join(f" ! -path ./bin/{name}" for name in _GUIDE_PROGRAMS)
    + "".join(f" ! -name {name}" for name in _GUIDE_LIBRARIES)
    + " -delete && find . -type d -empty -delete"
)
_UNNEEDED = (
    "dev",
    "etc/apt",
    "etc/dpkg",
    "var/cache",
    "var/lib/apt",
    "var/lib/dpkg",
    "usr/share/bug",
    "usr/share/lintian",
)
_MOUNT_POINTS = 'mkdir -p "$1/proc" "$1/sys" "$1/dev" "$1/run" "$1/tmp" "$1/var/tmp" "$1/etc" "$1/root"'

BASE_IMAGES = (
    # catatonit -P waits for signals and reaps zombies, as the first process of a pod sandbox must.
    BaseImage("pause", ("catatonit",), (), 'ENTRYPOINT ["/usr/bin/catatonit", "-P"]\n'),
    BaseImage(
        "busybox",
        ("busybox", "coreutils", "time"),
        (_GUIDE_FILES_ONLY, _MERGED_USR, _APPLETS, _MOUNT_POINTS),
        'ENV PATH=/usr/bin:/usr/sbin\nCMD ["sh"]\n',
    ),
    BaseImage(
        "kmod-base",
        ("base-files", "kmod", "busybox-static"),
        (_APPLETS, _MOUNT_POINTS),
        "ENV PATH=/usr/sbin:/usr/bin\n",
    ),
    BaseImage(
        "python-base",
        ("base-files", f"python{PYTHON_VERSION}-minimal", f"libpython{PYTHON_VERSION}-stdlib", "libstdc++6", "dash"),
        (
            f'ln -s python{PYTHON_VERSION} "$1/usr/bin/python3"; test -e "$1/usr/bin/sh" || ln -s dash "$1/usr/bin/sh"',
            f'cd "$1/usr/lib/python{PYTHON_VERSION}" && rm -rf idlelib tkinter turtledemo test ensurepip lib2to3',
            'chroot "$1" /usr/bin/python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash '
            f"/usr/lib/python{PYTHON_VERSION}",
            _MOUNT_POINTS,
        ),
        "ENV PATH=/usr/bin:/usr/sbin\n",
    ),
)


def _buildah(work: Path, log: Path, command: Sequence[str]) -> None:
    """Run buildah with private storage below ``work``, so that parallel builds cannot interfere."""
    argv = ["buildah", "--root", f"{work}/storage", "--runroot", f"{work}/run", "--storage-driver", "vfs"]
    environment = {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(work)}
    run(as_root([*argv, *command]), log=log, timeout=Timeout.IMAGE_BUILD.seconds, env=environment)


def _build(
    folder: Path,
    log: Path,
    *,
    tag: str,
    context: Path,
    containerfile: Path | None = None,
    base: Path | None = None,
    arguments: Mapping[str, str] | None = None,
) -> None:
    """Build an image into ``folder/image.tar``, by default from ``context/Containerfile``."""
    work = folder / "buildah"
    work.mkdir()
    policy = work / "policy.json"
    policy.write_text(_POLICY)
    trust = ["--signature-policy", str(policy)]
    try:
        if base is not None:
            _buildah(work, log, ["pull", "-q", *trust, f"docker-archive:{base}"])
        options = [f"--build-arg={name}={value}" for name, value in (arguments or {}).items()]
        build = ["bud", "-q", *trust, "--pull-never", "--isolation", "chroot", "--layers=false", "--timestamp", "0"]
        _buildah(
            work,
            log,
            [*build, *options, "-t", tag, "-f", str(containerfile or context / "Containerfile"), str(context)],
        )
        _buildah(work, log, ["push", "-q", *trust, tag, f"docker-archive:{folder / _ARCHIVE}:{tag}"])
    finally:
        remove_tree(work)


def base_image(image: BaseImage) -> Path:
    """Archive of a base image; built if it is not cached."""

    def build(folder: Path) -> None:
        log = log_path(f"image-{image.name}")
        tree = folder / "tree"
        debian.tree(tree, image.packages, log=log, variant="extract", hooks=image.hooks)
        for unneeded in _UNNEEDED:
            shutil.rmtree(tree / unneeded, ignore_errors=True)
        containerfile = folder / "Containerfile"
        containerfile.write_text(f"FROM scratch\nCOPY . /\n{image.config}")
        _build(folder, log, tag=image.tag, containerfile=containerfile, context=tree)
        remove_tree(tree)

    inputs = {"packages": image.packages, "hooks": image.hooks, "config": image.config, "tag": image.tag}
    return cached(f"image-{image.name}", inputs, build, what=f"image {image.tag}") / _ARCHIVE


@cache
def build_base_images() -> tuple[Path, ...]:
    """Archives of the images that the node image contains."""
    return tuple(base_image(image) for image in BASE_IMAGES)


def _base(name: str) -> BaseImage:
    return next(image for image in BASE_IMAGES if image.name == name)


TEST_IMAGE = _base("busybox").tag
"""Image of the pods that tests make."""


def test_image() -> Path:
    """Archive of TEST_IMAGE; built if it is not cached."""
    return base_image(_base("busybox"))


def kmod_image(module: Path, kernel_release: str) -> Path:
    """Archive of the image that contains the kernel module ``module`` and loads it into ``kernel_release``."""
    component = PROJECT / "kernel-driver"
    base = _base("kmod-base")
    archive = base_image(base)

    def build(folder: Path) -> None:
        context = folder / "context"
        shutil.copytree(component, context, ignore=shutil.ignore_patterns("tests", "manifests", "tools"))
        shutil.copy2(module, context / module.name)
        firmware = runpy.run_path(str(component / "firmware.py"))
        (context / "mock-accel.fw").write_bytes(firmware["image"]())
        arguments = {"BASE": base.tag, "KERNEL_RELEASE": kernel_release}
        _build(folder, log_path("image-kmod"), tag=KMOD_IMAGE, context=context, base=archive, arguments=arguments)
        shutil.rmtree(context)

    inputs: dict[str, Input] = {
        "module": module,
        "sources": _sources(component),
        "kernel": kernel_release,
        "base": str(archive),
    }
    return cached("image-kmod", inputs, build, what=f"image {KMOD_IMAGE}") / _ARCHIVE


def kmod_variant(archive: Path, tag: str, files: Mapping[str, str]) -> Path:
    """Archive of the image of ``archive`` (``kmod_image``) under another ``tag``, with ``files`` added.

    Names of ``files`` are absolute paths in the image; values are their texts.
    """

    def build(folder: Path) -> None:
        context = folder / "context"
        context.mkdir()
        for name, text in files.items():
            path = context / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        containerfile = folder / "Containerfile"
        containerfile.write_text(f"FROM {KMOD_IMAGE}\nCOPY . /\n")
        log = log_path("image-kmod-variant")
        _build(folder, log, tag=tag, context=context, containerfile=containerfile, base=archive)
        shutil.rmtree(context)

    inputs: dict[str, Input] = {
        "base": str(archive),
        "tag": tag,
        "files": [f"{name}={text}" for name, text in sorted(files.items())],
    }
    return cached("image-kmod-variant", inputs, build, what=f"image {tag}") / _ARCHIVE


def _sources(component: Path) -> list[str | Path]:
    """Files and folders of a component that go into its image."""
    excluded = {"tests", "manifests", "tools", "README.md", "Makefile", "__pycache__"}
    return [path for path in sorted(component.iterdir()) if path.name not in excluded]


def install_command(target: Path) -> list[str | Path]:
    """pip's command that installs packages for Debian's Python (PYTHON_VERSION) into ``target``; lacks the packages."""
    argv: list[str | Path] = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
    argv += ["--only-binary=:all:", "--target", target, "--python-version", PYTHON_VERSION]
    for platform in ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"):
        argv += ["--platform", platform]
    return argv


def _site_packages() -> Path:
    """The driver's dependencies for the image's version of Python, installed by pip on the host."""
    requirements = PROJECT / "dra-driver" / "requirements.txt"

    def build(folder: Path) -> None:
        argv = [*install_command(folder / "site-packages"), "-r", requirements]
        run(argv, log=log_path("driver-packages"), timeout=Timeout.PIP.seconds)

    inputs: dict[str, Input] = {"requirements": requirements, "python": PYTHON_VERSION}
    return cached("driver-packages", inputs, build, what="Python packages of the driver") / "site-packages"


def driver_image() -> Path:
    """Archive of the DRA driver's image."""
    component = PROJECT / "dra-driver"
    base = _base("python-base")
    archive, packages = base_image(base), _site_packages()

    def build(folder: Path) -> None:
        context = folder / "context"
        left_out = shutil.ignore_patterns("tests", "manifests", "__pycache__", "*.egg-info")
        shutil.copytree(component, context, ignore=left_out)
        shutil.copytree(packages, context / "site-packages")
        arguments = {"BASE": base.tag}
        _build(folder, log_path("image-driver"), tag=DRIVER_IMAGE, context=context, base=archive, arguments=arguments)
        shutil.rmtree(context)

    inputs: dict[str, Input] = {"sources": _sources(component), "packages": str(packages), "base": str(archive)}
    return cached("image-driver", inputs, build, what=f"image {DRIVER_IMAGE}") / _ARCHIVE


def tools_image(program: Path) -> Path:
    """Archive of the image with ``program``, which runs jobs on devices."""
    base = _base("busybox")
    archive = base_image(base)
    containerfile = PROJECT / "kernel-driver/tools/Containerfile"

    def build(folder: Path) -> None:
        context = folder / "context"
        context.mkdir()
        for file in (program, containerfile):
            shutil.copy2(file, context)
        arguments = {"BASE": base.tag}
        _build(folder, log_path("image-tools"), tag=TOOLS_IMAGE, context=context, base=archive, arguments=arguments)
        shutil.rmtree(context)

    inputs: dict[str, Input] = {"program": str(program), "containerfile": containerfile, "base": str(archive)}
    return cached("image-tools", inputs, build, what=f"image {TOOLS_IMAGE}") / _ARCHIVE


def go_driver_image(program: Path) -> Path:
    """Archive of the image with ``program``, the example of a driver in Go, and nothing else."""
    containerfile = GO_DRIVER / "Containerfile"

    def build(folder: Path) -> None:
        context = folder / "context"
        context.mkdir()
        for file in (program, containerfile):
            shutil.copy2(file, context)
        _build(folder, log_path("image-go-driver"), tag=GO_DRIVER_IMAGE, context=context)
        shutil.rmtree(context)

    inputs: dict[str, Input] = {"program": str(program), "containerfile": containerfile, "tag": GO_DRIVER_IMAGE}
    return cached("image-go-driver", inputs, build, what=f"image {GO_DRIVER_IMAGE}") / _ARCHIVE


def program_image(name: str, program: Path, path: str) -> Path:
    """Archive of an image that runs the static ``program`` at ``path``, beside a shell; ``name`` is that of its build.

    The image's own name is ``localhost/mock-device/NAME:dev``.
    """
    base = _base("busybox")
    archive = base_image(base)
    tag = f"{REPOSITORY}/{name}:dev"

    def build(folder: Path) -> None:
        context = folder / "context"
        file = context / path.lstrip("/")
        file.parent.mkdir(parents=True)
        shutil.copy2(program, file)
        containerfile = folder / "Containerfile"
        containerfile.write_text(f'FROM {base.tag}\nCOPY . /\nENTRYPOINT ["{path}"]\n')
        log = log_path(f"image-{name}")
        _build(folder, log, tag=tag, context=context, containerfile=containerfile, base=archive)
        shutil.rmtree(context)

    inputs: dict[str, Input] = {"program": program, "path": path, "tag": tag, "base": str(archive)}
    return cached(f"image-{name}", inputs, build, what=f"image {tag}") / _ARCHIVE
