"""What containers and ordinary users must not reach, from recorded output of the probes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mock_device.checks.driver import isolation

STATUS = "/sys/class/mock-accel/mock0/status"


@pytest.mark.parametrize(
    ("output", "traces"),
    [
        ("PATH=/bin\nproc /proc proc rw 0 0\n", []),
        ("MOCK_ACCEL_DEVICE=mock0\n", ["MOCK_ACCEL_DEVICE=mock0"]),
        ("tmpfs /sys/class/mock-accel tmpfs rw 0 0\n", ["tmpfs /sys/class/mock-accel tmpfs rw 0 0"]),
    ],
)
def test_traces_of_devices_are_reported(output: str, traces: list[str]) -> None:
    expected = [f"expected no trace of a device without a claim, found {trace}" for trace in traces]
    assert isolation.device_complaints(output) == expected


@pytest.mark.parametrize(
    ("uid_map", "right"),
    [("         0     131072      65536\n", True), ("         0          0 4294967295\n", False), ("", False)],
)
def test_users_of_the_node_are_reported(uid_map: str, right: bool) -> None:
    assert (isolation.user_complaints(uid_map) == []) == right


@pytest.mark.parametrize(
    ("output", "complaints"),
    [
        (f"refused {STATUS}\n", []),
        (f"refused {STATUS}\nwritable /x\n", ["expected all writes to be refused, found writable /x"]),
        (f"writable {STATUS}\n", ["expected attributes in sysfs that refuse writes, found none that does"]),
        ("", ["expected attributes in sysfs that refuse writes, found none that does"]),
    ],
)
def test_writable_attributes_are_reported(output: str, complaints: list[str]) -> None:
    assert isolation.write_complaints(output) == complaints


def test_write_probe_finds_what_can_be_written(tmp_path: Path) -> None:
    device = tmp_path / "class/mock-accel/mock0"
    attributes = tmp_path / "devices/0000:11:00.0/mock-accel/mock0"
    attributes.mkdir(parents=True)
    (attributes / "status").write_text("0\n")
    device.mkdir(parents=True)
    (device / "status").symlink_to("../../../devices/0000:11:00.0/mock-accel/mock0/status")
    (device / "broken").symlink_to("nowhere")
    script = isolation.WRITE_PROBE.replace("/sys/", f"{tmp_path}/")
    output = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == [
        f"writable {path}" for path in (device / "status", attributes / "status", device.parent, device)
    ]
    assert (attributes / "status").read_text() == "0\n"


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        ("found 3\n", ""),
        ("open -r /dra.sock\nfound 3\n", "expected no file that user 65534 can open, found open -r /dra.sock"),
        ("found 1\n", "expected a service and a registration socket, found ['found 1']"),
        ("", "expected a service and a registration socket, found []"),
    ],
)
def test_open_files_are_reported(output: str, complaint: str) -> None:
    assert isolation.socket_complaints(output) == ([complaint] if complaint else [])
