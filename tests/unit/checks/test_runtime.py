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


# The relevant part of what CRI-O prints (`crio status config`), by its documentation.
CRIO = """\
[crio]
  [crio.runtime]
    default_runtime = "crun"
    cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
    [crio.runtime.runtimes]
      [crio.runtime.runtimes.crun]
        runtime_path = "/usr/libexec/crio/crun"
      [crio.runtime.runtimes.runc]
        runtime_path = ""
"""


@pytest.mark.parametrize(
    ("config", "name", "runtime"),
    [
        (DUMP, "crun", ContainerRuntime("crun", "/usr/bin/crun")),
        (DUMP, "runc", ContainerRuntime("runc", "runc")),
        (DUMP.replace("cri.v1.runtime", "grpc.v1.cri"), "crun", ContainerRuntime("crun", "/usr/bin/crun")),
        (CRIO, "crun", ContainerRuntime("crun", "/usr/libexec/crio/crun")),
        (CRIO, "runc", ContainerRuntime("runc", "runc")),
    ],
)
def test_default_runtime_and_binary_are_read(config: str, name: str, runtime: ContainerRuntime) -> None:
    for key in ("default_runtime_name = 'crun'", 'default_runtime = "crun"'):
        config = config.replace(key, key.replace("crun", name))
    assert default_runtime(config) == runtime


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        (DUMP.replace("default_runtime_name = 'crun'", ""), "'default_runtime_name'"),
        (DUMP.replace("default_runtime_name = 'crun'", "default_runtime_name = 'kata'"), "'kata'"),
        (CRIO.replace('default_runtime = "crun"', ""), "'default_runtime'"),
    ],
)
def test_configuration_without_default_runtime_is_rejected(config: str, missing: str) -> None:
    with pytest.raises(ValueError) as caught:
        default_runtime(config)
    assert str(caught.value) == f"the runtime's configuration has no {missing}, so no default OCI runtime"


def test_configuration_of_something_else_is_rejected() -> None:
    with pytest.raises(ValueError, match="expected the configuration of containerd or CRI-O, found 'version = 3'"):
        default_runtime("version = 3")


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
        ("crun", "version = 3", "node1: expected the configuration of containerd or CRI-O, found 'version = 3'"),
        ("", DUMP.replace("_name = 'crun'", "_name = 'runc'"), ""),
        ("", CRIO, ""),
        ("", "version = 3", "node1: expected the configuration of containerd or CRI-O, found 'version = 3'"),
    ],
)
def test_other_default_runtime_is_reported(expected: str, config: str, found: str) -> None:
    assert complaint("node1", config, expected).startswith(found)
    assert bool(complaint("node1", config, expected)) == bool(found)


def test_cdi_folders_of_crio_are_read() -> None:
    assert cdi_folders(CRIO) == ("/etc/cdi", "/var/run/cdi")
