"""Outputs of ``mock-accel``: signatures, digests, windows, figures; and the commands that containers run."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
from pathlib import Path

import pytest
from mock_accel_server.operations import Signer

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import job_pods, jobs
from mock_device.checks.objects.job_pods import Outcome
from mock_device.checks.objects.jobs import ExitCode, Identity

SECRET, UUID = b"0123456789abcdef", "NODE1-NUMA0-PF"
NONCE = bytes(range(16))


def identity(signature: bytes) -> str:
    return f"device\tmock0\nuuid\t{UUID}\nnonce\t{NONCE.hex()}\nsignature\t{signature.hex()}\n"


def test_signature_is_that_of_the_device_server() -> None:
    expected = Signer(SECRET, UUID).sign(NONCE)
    assert jobs.signature_of(SECRET, UUID, NONCE) == expected
    found = jobs.parse_identity(identity(expected))
    assert found == Identity("mock0", UUID, NONCE, expected)
    assert jobs.identity_complaints(found, "mock0", UUID, NONCE, SECRET) == []


def test_signature_of_another_device_is_noticed() -> None:
    other = hmac.digest(SECRET, b"OTHER", "sha256")
    found = Identity("mock1", "OTHER", NONCE, hmac.digest(other, NONCE, "sha256"))
    assert jobs.identity_complaints(found, "mock0", UUID, NONCE[::-1], SECRET) == [
        "expected device mock0, found mock1",
        f"expected uuid {UUID}, found OTHER",
        f"expected nonce {NONCE[::-1].hex()}, found {NONCE.hex()}",
        f"signature {found.signature.hex()} of nonce {NONCE[::-1].hex()} is not that of device {UUID}",
    ]


@pytest.mark.parametrize("output", ["", "mock-accel: no device\n", identity(b"").replace(NONCE.hex(), "xyz")])
def test_output_that_is_no_identity(output: str) -> None:
    with pytest.raises(CheckError, match="expected device, uuid, nonce and signature, found "):
        jobs.parse_identity(output)


@pytest.mark.parametrize("size", [1, 8, 4097, 1 << 20])
def test_pattern_is_the_same_in_a_container_and_in_python(size: int, tmp_path: Path) -> None:
    path = tmp_path / "data"
    subprocess.run(["sh", "-c", jobs.pattern_command(size, str(path))], check=True)
    content = path.read_bytes()
    assert content == jobs.pattern(size)
    assert len(content) == size
    assert jobs.digest_complaints(f"{hashlib.sha256(content).hexdigest()}  {path}\n", size) == []


def test_wrong_digest() -> None:
    (complaint,) = jobs.digest_complaints("", 8)
    digest = hashlib.sha256(b"1000000\n").hexdigest()
    assert complaint == f"SHA-256 of 8 bytes: expected {digest}, found none"
    (complaint,) = jobs.digest_complaints("00ff  /tmp/x\n", 8)
    assert complaint.endswith("found 00ff")


def test_outcome() -> None:
    assert jobs.outcome_complaints(Outcome(6, "mock0: the device is lost"), ExitCode.LOST, "is lost") == []
    for found in (Outcome(5, "is lost"), Outcome(6, "")):
        (complaint,) = jobs.outcome_complaints(found, ExitCode.LOST, "is lost")
        assert complaint.startswith(f"expected exit code 6 (LOST) and 'is lost', found exit code {found.code} and ")


@pytest.mark.parametrize(("zeros", "empty"), [(True, True), (False, False)])
def test_device_memory(zeros: bool, empty: bool, tmp_path: Path) -> None:
    program = tmp_path / "mock-accel"
    program.write_text(f"#!/bin/sh\nprintf '\\0\\0{'' if zeros else 'x'}\\0'\n")
    program.chmod(0o755)
    command = ["sh", "-c", jobs.window_probe(str(tmp_path))]
    output = subprocess.run(
        command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    found = Outcome(0, output.stdout)
    assert jobs.window_complaints(found, empty=empty) == []
    (complaint,) = jobs.window_complaints(found, empty=not empty)
    wanted, size, used = ("data of a job", 3, 0) if zeros else ("all zeros", 4, 1)
    assert complaint == f"device memory of {size} bytes: expected {wanted}, found {used} bytes that are not zero"


@pytest.mark.parametrize("found", [Outcome(3, "mock-accel: no device"), Outcome(0, "0\n0\n"), Outcome(0, "4096\n")])
def test_device_memory_that_cannot_be_read(found: Outcome) -> None:
    with pytest.raises(CheckError, match="expected size and content of the device memory, found "):
        jobs.window_complaints(found, empty=True)


def test_figures_of_a_bench() -> None:
    figures = {"jobs_per_second": 400.5, "bytes_per_second": 1640448, "latency_us": {"median": 2500.0}}
    assert jobs.parse_bench(json.dumps(figures)) == jobs.Bench(400.5, 1640448, 0.0025)
    for text in ("mock-accel: lost", "{}", '{"jobs_per_second": 1, "bytes_per_second": 2, "latency_us": 3}'):
        with pytest.raises(CheckError, match="expected the figures of a bench as JSON, found "):
            jobs.parse_bench(text)


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(["sh", "-c", script, "sh", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        (["true"], Outcome(0, "")),
        (["sh", "-c", "echo one; echo two >&2; exit 6"], Outcome(6, "one\ntwo")),
        (["printf", "exit 3"], Outcome(0, "exit 3")),
    ],
)
def test_commands_in_containers(command: list[str], outcome: Outcome) -> None:
    assert job_pods.parse(run(job_pods._RUN, *command)) == outcome


def test_job_in_the_background(tmp_path: Path) -> None:
    script = job_pods._START.replace(job_pods.FOLDER, str(tmp_path))
    output = run(f"{script} wait", "slow", "sh", "-c", 'echo "$0"; exit 6', "a  b")
    assert output == ""
    assert job_pods.parse((tmp_path / "slow").read_text()) == Outcome(6, "a  b")
    assert job_pods.parse("working\n") is None
    # An earlier result is gone as soon as the job has been started.
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    assert run(f'{script} cat "$output"; echo open >{gate}; wait', "slow", "cat", str(gate)) == ""
    assert job_pods.parse((tmp_path / "slow").read_text()) == Outcome(0, "open")


def test_pod_has_the_program_and_a_folder_for_each_container() -> None:
    body = job_pods.build("job", ["claim"], "node1", containers={"first": ["claim"], "second": ["claim"]})
    assert body["spec"]["volumes"] == [{"name": "tmp", "emptyDir": {}}]
    for container in body["spec"]["containers"]:
        assert container["image"] == job_pods.IMAGE
        assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
        assert container["resources"]["claims"] == [{"name": "claim"}]
    assert job_pods.build("job", [], None, as_root=True)["spec"]["securityContext"] == {"runAsUser": 0}
