"""``lab deploy``: the cluster's own driver, another one beside it, and their removal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mock_device.commands import cli
from mock_device.driver import current, description
from mock_device.driver.description import Driver
from mock_device.lab.cluster import client, deploy, drivers, image_loading

DESCRIPTION = """\
name: gpu.example.org
namespace: gpus
images: [gpu.tar]
device-classes: {all: gpu}
pods:
  node-agent: {workload: plugin, labels: {app: gpu}, container: driver}
"""
OURS = description.load(description.DEFAULT)


class Fake:
    """A fake cluster that has our driver, and what was done with it."""

    name = "default"
    log_dir = Path("logs")

    def __init__(self) -> None:
        self.drivers: Sequence[Driver] = [OURS]
        self.done: list[tuple[str, str]] = []

    def record_drivers(self, found: Sequence[Driver]) -> None:
        self.drivers = found

    def noting(self, what: str) -> Callable[..., list[str]]:
        def note(_: Any, item: Any) -> list[str]:
            self.done.append((what, getattr(item, "name", str(item))))
            return ["removed\tDaemonSet plugin"]

        return note


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake = Fake()

    def attach(*_: object, any_driver: bool) -> Fake:
        assert any_driver
        current.use(drivers.chosen() or fake.drivers[0])
        return fake

    monkeypatch.delenv(drivers.VARIABLE, raising=False)
    monkeypatch.setattr(drivers, "_chosen", None)
    monkeypatch.setattr(client, "attach", attach)
    monkeypatch.setattr(image_loading, "load", fake.noting("image"))
    monkeypatch.setattr(deploy, "BUILT", {"driver-image": ("image", lambda: SimpleNamespace(name="built"))})
    for name in ("install_driver", "wait_published", "remove_driver"):
        monkeypatch.setattr(deploy, name, fake.noting(name))
    yield fake
    current.use(None)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    (tmp_path / "gpu.tar").touch()
    path = tmp_path / "gpu.yaml"
    path.write_text(DESCRIPTION)
    return path


def test_driver_of_the_cluster_is_deployed_again_with_the_image_that_nodes_have(cluster: Fake) -> None:
    assert cli.main(["deploy"]) == 0
    assert cluster.done == [("install_driver", OURS.name), ("wait_published", OURS.name)]
    assert list(cluster.drivers) == [OURS]


def test_another_driver_is_deployed_beside_it_with_its_images(cluster: Fake, other: Path) -> None:
    assert cli.main(["deploy", "--driver", str(other)]) == 0
    name = "gpu.example.org"
    assert cluster.done == [("image", "gpu.tar"), ("install_driver", name), ("wait_published", name)]
    assert [driver.name for driver in cluster.drivers] == [OURS.name, name]


def test_removed_driver_is_forgotten_but_for_the_last_one(
    cluster: Fake, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.drivers = [OURS, description.read(other)]
    assert cli.main(["deploy", "--undo", "--driver", str(other)]) == 0
    assert list(cluster.drivers) == [OURS]
    assert capsys.readouterr().out == "removed\tDaemonSet plugin\n"
    drivers._chosen = None
    assert cli.main(["deploy", "--undo"]) == 0
    assert list(cluster.drivers) == [OURS]
    assert cluster.done == [("remove_driver", "gpu.example.org"), ("remove_driver", OURS.name)]


def test_wrong_description_is_named_before_the_cluster_is_asked(
    monkeypatch: pytest.MonkeyPatch, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the cluster was asked")

    monkeypatch.setattr(client, "attach", forbidden)
    monkeypatch.setattr(drivers, "_chosen", None)
    other.write_text(DESCRIPTION.replace("namespace", "space"))
    assert cli.main(["deploy", "--driver", str(other)]) == 1
    assert f"{other}:2: unknown keys space; expected name, namespace" in capsys.readouterr().err
