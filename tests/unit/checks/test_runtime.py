"""containerd's default runtime and CDI folders, from ``containerd config dump``."""

from __future__ import annotations

import pytest

from mock_device.checks.nodes.runtime import ContainerRuntime, cdi_folders, complaint, default_runtime

# The relevant part of `containerd config dump`.
DUMP = """\
version = 3
root = '/var/lib/containerd'
state = '/run/containerd'

[plugins]
  [plugins.'io.containerd.cri.v1.images']
    snapshotter = 'overlayfs'

  [plugins.'io.containerd.cri.v1.runtime']
    enable_cdi = true
    cdi_spec_dirs = ['/etc/cdi', '/var/run/cdi']

    [plugins.'io.containerd.cri.v1.runtime'.containerd]
      default_runtime_name = 'crun'

      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes]
        [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.crun]
          runtime_type = 'io.containerd.runc.v2'

          [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.crun.options]
            BinaryName = '/usr/bin/crun'
            SystemdCgroup = true

        [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
          runtime_type = 'io.containerd.runc.v2'
"""


@pytest.mark.parametrize(
    ("name", "runtime"),
    [("crun", ContainerRuntime("crun", "/usr/bin/crun")), ("runc", ContainerRuntime("runc", ""))],
)
def test_default_runtime_and_binary_are_read(name: str, runtime: ContainerRuntime) -> None:
    dump = DUMP.replace("default_runtime_name = 'crun'", f"default_runtime_name = '{name}'")
    assert default_runtime(dump) == runtime


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("default_runtime_name = 'crun'", "", "'default_runtime_name'"),
        ("default_runtime_name = 'crun'", "default_runtime_name = 'kata'", "'kata'"),
        ("cri.v1.runtime", "grpc.v1.cri", "'io.containerd.cri.v1.runtime'"),
    ],
)
def test_configuration_without_default_runtime_is_rejected(old: str, new: str, missing: str) -> None:
    assert old in DUMP
    with pytest.raises(ValueError) as caught:
        default_runtime(DUMP.replace(old, new))
    assert str(caught.value) == (
        f"containerd's configuration has no {missing} for a default runtime of io.containerd.cri.v1.runtime"
    )


def test_invalid_toml_is_rejected() -> None:
    with pytest.raises(ValueError, match="line 1"):
        default_runtime("containerd: command not found")


@pytest.mark.parametrize(
    ("old", "new", "folders"),
    [
        ("crun", "crun", ("/etc/cdi", "/var/run/cdi")),
        ("cdi_spec_dirs = ['/etc/cdi', '/var/run/cdi']", "cdi_spec_dirs = ['/opt/cdi']", ("/opt/cdi",)),
        ("cdi_spec_dirs = ['/etc/cdi', '/var/run/cdi']", "", ("/etc/cdi", "/var/run/cdi")),
        ("enable_cdi = true", "enable_cdi = false", ()),
    ],
)
def test_cdi_folders_are_read(old: str, new: str, folders: tuple[str, ...]) -> None:
    assert old in DUMP
    assert cdi_folders(DUMP.replace(old, new)) == folders


@pytest.mark.parametrize(
    ("expected", "config", "found"),
    [
        ("crun", DUMP, ""),
        ("runc", DUMP, "node1: expected default runtime runc, found crun (/usr/bin/crun)"),
        ("crun", DUMP.replace("/usr/bin/crun", "/usr/bin/runc"), "node1: expected default runtime crun, found crun ("),
        ("crun", "version = 3", "node1: containerd's configuration has no 'plugins' for a default runtime"),
    ],
)
def test_other_default_runtime_is_reported(expected: str, config: str, found: str) -> None:
    assert complaint("node1", config, expected).startswith(found)
    assert bool(complaint("node1", config, expected)) == bool(found)
