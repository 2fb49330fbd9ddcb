"""Files with the attributes of devices, for containers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import cdi
from mock_accel_dra.api import Client
from mock_accel_dra.metadata_files import MetadataFiles
from mock_accel_dra.prepare import PrepareError, Preparer
from mock_accel_dra.state import State

NODE = "mock-cluster-node1"
PATH = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/one"
IN_CONTAINER = "/var/run/kubernetes.io/dra-device-attributes"


def result(device: str, request: str = "gpu", driver: str = "mock-accel.example.com") -> dict[str, Any]:
    return {"request": request, "driver": driver, "pool": f"{NODE}/{device}", "device": device}


class Rig:
    """A node with two devices."""

    def __init__(self, sysfs: SysfsTree, folder: Path, api: FakeApiServer) -> None:
        self.api = api
        self.folder = folder / "plugin"
        self.cdi = folder / "cdi"
        for number in range(2):
            sysfs.add(f"mock{number}", f"0000:1{number}:00.0")
        self.files = MetadataFiles(self.folder, self.cdi)
        self.state = State(folder / "state.json")
        self.preparer = Preparer(
            api=Client(api.url),
            node=NODE,
            sysfs=sysfs.root,
            cdi_folder=self.cdi,
            state=self.state,
            metadata=self.files,
        )

    def prepare(self, *results: dict[str, Any], **metadata: Any) -> list[Any]:
        self.api.add_claim("one", list(results))
        self.api.objects[PATH]["metadata"] |= metadata
        return self.preparer.prepare("default", "one", "uid-one")

    def mount(self, request: str) -> Any:
        """The mount that the CDI device of a request brings."""
        content = json.loads((self.cdi / f"mock-accel.example.com_metadata_uid-one_{request}.json").read_text())
        (device,) = content["devices"]
        assert (content["kind"], device["name"]) == ("mock-accel.example.com/metadata", f"uid-one_{request}")
        return device["containerEdits"]["mounts"][0]

    def left(self) -> list[str]:
        """Names of all files of metadata."""
        folders = [self.cdi, self.folder]
        return sorted(path.name for folder in folders for path in folder.rglob("*metadata*.json"))


@pytest.fixture
def rig(sysfs: SysfsTree, tmp_path: Path, node_less_api: FakeApiServer) -> Rig:
    return Rig(sysfs, tmp_path, node_less_api)


def test_a_container_finds_the_attributes_of_its_devices(rig: Rig) -> None:
    first, second, other = rig.prepare(
        result("mock0"), result("mock1"), result("mock1", "more/big"), result("port", driver="other.example.com")
    )
    assert first.more_ids == ("mock-accel.example.com/metadata=uid-one_gpu",)
    assert second.more_ids == ()
    assert other.more_ids == ("mock-accel.example.com/metadata=uid-one_more",)
    mount = rig.mount("gpu")
    assert mount["containerPath"] == f"{IN_CONTAINER}/resourceclaims/one/gpu/mock-accel.example.com-metadata.json"
    assert mount["options"] == ["ro", "bind"]
    content = json.loads(Path(mount["hostPath"]).read_text())
    assert (content["kind"], content["apiVersion"]) == ("DeviceMetadata", "metadata.resource.k8s.io/v1beta1")
    assert content["metadata"] == {"name": "one", "namespace": "default", "uid": "uid-one", "generation": 1}
    (request,) = content["requests"]
    assert [device["name"] for device in request["devices"]] == ["mock0", "mock1"]
    assert request["devices"][0]["attributes"]["uuid"] == {"string": "UUID-mock0"}
    assert json.loads(Path(rig.mount("more")["hostPath"]).read_text())["requests"][0]["name"] == "more/big"


def test_a_claim_of_a_template_is_found_by_its_name_in_the_pod(rig: Rig) -> None:
    rig.prepare(result("mock0"), annotations={"resource.kubernetes.io/pod-claim-name": "accel"})
    assert rig.mount("gpu")["containerPath"].startswith(f"{IN_CONTAINER}/resourceclaimtemplates/accel/gpu/")
    assert json.loads(Path(rig.mount("gpu")["hostPath"]).read_text())["podClaimName"] == "accel"


def test_unprepare_removes_the_files(rig: Rig) -> None:
    rig.prepare(result("mock0"))
    assert len(rig.left()) == 2
    rig.preparer.unprepare("default", "one", "uid-one")
    assert rig.left() == []


def test_a_failed_prepare_leaves_no_files(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cdi, "write", full)
    with pytest.raises(PrepareError, match="No space left"):
        rig.prepare(result("mock0"))
    assert rig.left() == []


def test_files_of_unknown_claims_are_removed(rig: Rig) -> None:
    rig.prepare(result("mock0"))
    rig.files.keep({"uid-one"})
    assert len(rig.left()) == 2
    rig.files.keep(set())
    assert rig.left() == []
