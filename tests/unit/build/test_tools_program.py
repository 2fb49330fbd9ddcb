"""The program ``mock-accel``: compiled here, without a device and with one that a preloaded library stands in for."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from dra_fakes.sysfs import SysfsTree

from mock_device.lab.base.paths import PROJECT
from mock_device.lab.build import images, tools_program

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="this machine has no C compiler")
SOURCES = tools_program.SOURCES
WINDOW = 64 << 10


def compiled(target: Path, *arguments: object) -> Path:
    argv = ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-o", target, *arguments]
    result = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return target


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("tools") / "mock-accel", *sorted(SOURCES.glob("*.c")))


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = (Path(__file__).with_name("fake_device.c"), SOURCES / "sha256.c")
    return compiled(tmp_path_factory.mktemp("fake") / "fake.so", "-shared", "-fPIC", *sources)


@dataclass
class Tool:
    """The program on a node with these folders."""

    program: Path
    sysfs: SysfsTree
    nodes: Path
    preload: Path
    environment: dict[str, str] = field(default_factory=dict)

    def plug(self, name: str) -> None:
        """Add a device with a node."""
        self.sysfs.add(name, f"0000:1{len(self.sysfs.names()) + 1}:00.0", window=WINDOW)
        (self.nodes / name).write_bytes(bytes(WINDOW))
        self.environment["LD_PRELOAD"] = str(self.preload)

    def run(self, *arguments: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        folders = {"MOCK_ACCEL_CLASS_FOLDER": self.sysfs.classes, "MOCK_ACCEL_NODE_FOLDER": self.nodes}
        environment = {**os.environ, **{name: str(path) for name, path in folders.items()}, **self.environment}
        argv = [str(self.program), *map(str, arguments)]
        return subprocess.run(argv, input=data, capture_output=True, timeout=60, env=environment, check=False)

    def refused(self, *arguments: object) -> tuple[int, str]:
        """Exit code and message; nothing is on standard output."""
        result = self.run(*arguments)
        assert result.stdout == b""
        return result.returncode, result.stderr.decode().removeprefix("mock-accel: ").strip()

    def done(self, *arguments: object, data: bytes = b"") -> str:
        """Output of a successful call."""
        result = self.run(*arguments, data=data)
        assert (result.returncode, result.stderr) == (0, b"")
        return result.stdout.decode()


@pytest.fixture
def tool(program: Path, fake: Path, tmp_path: Path) -> Tool:
    nodes = tmp_path / "dev"
    nodes.mkdir()
    return Tool(program, SysfsTree(tmp_path / "sys"), nodes, fake)


COMMANDS = ("list", "identify", "sha256", "copy", "dump", "bench")


def test_help_names_commands_and_exit_codes(tool: Tool) -> None:
    text = tool.done("--help")
    assert re.findall(r"^  (\w+) ", text.partition("Exit codes")[0], re.MULTILINE) == list(COMMANDS)
    assert re.findall(r"^  (\d)  ", text, re.MULTILINE) == list("0123456")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(tool: Tool, command: str) -> None:
    text = tool.done(command, "--help")
    assert text.startswith(f"Usage: mock-accel {command} [OPTION]...")
    assert "--help" in text
    assert ("--device" in text) == (command != "list")


def test_there_is_no_option_that_help_does_not_describe(tool: Tool) -> None:
    text = "".join(tool.done(command, "--help") for command in COMMANDS)
    defined = re.findall(r'\{ "(\w+)", (?:no|required)_argument', (SOURCES / "main.c").read_text())
    assert {f"--{name}" for name in defined} == set(re.findall(r"--\w+", text))


_NUMBER = "expected a number from 1 to"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a command; see: mock-accel --help"),
        (["reset"], "unknown command 'reset'; see: mock-accel --help"),
        (["list", "mock0"], "list: expected 0 arguments, found 1; see: mock-accel list --help"),
        (["list", "--device", "mock0"], "unknown option device; see: mock-accel list --help"),
        (["sha256"], "sha256: expected 1 arguments FILE, found 0; see: mock-accel sha256 --help"),
        (["sha256", "--fast", "x"], "unknown option --fast; see: mock-accel sha256 --help"),
        (["sha256", "-x", "x"], "unknown option -x; see: mock-accel sha256 --help"),
        (["sha256", "--timeout"], "option --timeout: expected a value"),
        (["sha256", "--timeout", "0", "x"], f"option --timeout: {_NUMBER} 60000, found '0'"),
        (["sha256", "--timeout", "60001", "x"], f"option --timeout: {_NUMBER} 60000, found '60001'"),
        (["sha256", "--timeout", "1s", "x"], f"option --timeout: {_NUMBER} 60000, found '1s'"),
        (["sha256", "--timeout", "-1", "x"], f"option --timeout: {_NUMBER} 60000, found '-1'"),
        (["sha256", "--timeout", "", "x"], f"option --timeout: {_NUMBER} 60000, found ''"),
        (["copy", "a"], "copy: expected 2 arguments FROM TO, found 1; see: mock-accel copy --help"),
        (["bench", "--size", "17M"], f"option --size: {_NUMBER} 16777216, maybe with K or M, found '17M'"),
        (
            ["bench", "--size", "99999999999999999999"],
            f"option --size: {_NUMBER} 16777216, maybe with K or M, found '9",
        ),
        (["bench", "--size", "4KB"], f"option --size: {_NUMBER} 16777216, maybe with K or M, found '4KB'"),
        (["bench", "--size", "K"], f"option --size: {_NUMBER} 16777216, maybe with K or M, found 'K'"),
        (["bench", "--jobs", "1000001"], f"option --jobs: {_NUMBER} 1000000, found '1000001'"),
        (["bench", "--depth", "1024"], f"option --depth: {_NUMBER} 1023, found '1024'"),
        (["bench", "--operation", "md5"], "option --operation: expected copy, fill, sha256 or identify, found 'md5'"),
        (["bench", "--cpu", "--depth", "2"], "option --depth: expected 1 with --cpu, found 2"),
        (["bench", "--cpu", "--operation", "identify"], "option --cpu: expected copy, fill or sha256; only the device"),
        (["bench", "--operation", "identify"], "option --size: expected at most 64 bytes for identify, found 4096"),
        (["identify", "--nonce", "abc"], "option --nonce: expected 1 to 64 bytes, two hexadecimal digits each, found"),
        (["identify", "--nonce", "xx"], "option --nonce: expected 1 to 64 bytes, two hexadecimal digits each, found"),
        (["identify", "--nonce", ""], "option --nonce: expected 1 to 64 bytes, two hexadecimal digits each, found ''"),
        (["identify", "--nonce", "00" * 65], "option --nonce: expected 1 to 64 bytes, two hexadecimal digits each"),
        (["identify", "--device", "../null"], "expected the name of a device like mock0, found ../null"),
        (["identify", "--device", "x" * 40], "expected the name of a device like mock0, found xxx"),
    ],
)
def test_wrong_usage(tool: Tool, arguments: list[str], message: str) -> None:
    code, text = tool.refused(*arguments)
    assert code == 2
    assert text.startswith(message)


def test_without_a_device(tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")
    none = f"expected a device in {tool.nodes}, found none; does the container use a claim?"
    for arguments in (["identify"], ["sha256", tmp_path / "data"], ["copy", tmp_path / "data", "-"], ["bench"]):
        assert tool.refused(*arguments) == (3, none)
    tool.nodes.rmdir()
    assert tool.refused("bench") == (3, none)
    code, text = tool.refused("list")
    assert (code, text.partition(";")[0]) == (3, f"expected devices in {tool.sysfs.classes}, found none")


def test_a_device_without_a_node(tool: Tool) -> None:
    path = tool.nodes / "mock0"
    assert tool.refused("identify", "--device", "mock0") == (3, f"{path} cannot be opened: No such file or directory")


def test_a_file_that_is_no_device(tool: Tool) -> None:
    (tool.nodes / "mock0").touch()
    code, text = tool.refused("identify")
    assert (code, text) == (3, f"{tool.nodes}/mock0 is no mock accelerator: Inappropriate ioctl for device")


def test_several_devices(tool: Tool) -> None:
    for name in ("mock10", "mock2"):
        tool.plug(name)
    assert tool.refused("identify") == (
        2,
        f"expected one device in {tool.nodes}, found 2; choose by --device: mock2, mock10",
    )
    assert "device\tmock10\n" in tool.done("identify", "-d", "mock10")


def test_list(tool: Tool) -> None:
    tool.plug("mock0")
    tool.sysfs.add("mock1", "0000:19:00.0")
    lines = [line.split("\t") for line in tool.done("list").splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert [(row["name"], row["uuid"], row["mode"], row["health"]) for row in rows] == [
        ("mock0", "UUID-mock0", "exclusive", "ok"),
        ("mock1", "UUID-mock1", "-", "-"),
    ]
    assert [row["node"] for row in rows] == [f"{tool.nodes}/mock0", "-"]
    assert rows[0]["window_size"] == str(WINDOW)


def test_identify(tool: Tool) -> None:
    tool.plug("mock0")
    found = dict(line.split("\t") for line in tool.done("identify", "--nonce", "00ffAB").splitlines())
    digest = hashlib.sha256(bytes.fromhex("00ffab")).hexdigest()
    assert found == {"device": "mock0", "uuid": "NODE1-NUMA0-PF-1", "nonce": "00ffab", "signature": digest}
    nonces = {tool.done("identify").splitlines()[2] for _ in range(2)}
    assert {len(nonce) for nonce in nonces} == {len("nonce\t") + 32}
    assert len(nonces) == 2


@pytest.mark.parametrize("length", [1, 55, 56, 63, 64, 65, 119, 120, 65536])
@pytest.mark.parametrize("options", [[], ["--window", "--verify"]])
def test_sha256(tool: Tool, length: int, options: list[str]) -> None:
    tool.plug("mock0")
    data = os.urandom(length)
    assert tool.done("sha256", *options, "-", data=data) == f"{hashlib.sha256(data).hexdigest()}  -\n"


def test_sha256_of_files_that_no_job_can_have(tool: Tool, tmp_path: Path) -> None:
    tool.plug("mock0")
    path = tmp_path / "data"
    assert tool.refused("sha256", path) == (1, f"{path} cannot be opened: No such file or directory")
    path.touch()
    assert tool.refused("sha256", path) == (
        1,
        f"{path}: expected 1 to 16777216 bytes, as much as a job may have, found none",
    )
    os.truncate(path, (16 << 20) + 1)
    assert tool.refused("sha256", path)[1].endswith("found more")
    os.truncate(path, WINDOW + 1)
    message = f"{path}: expected at most {WINDOW} bytes, the memory of mock0, found {WINDOW + 1}"
    assert tool.refused("sha256", "--window", path) == (1, message)
    assert tool.refused("sha256", tmp_path)[1] == f"{tmp_path} cannot be read: Is a directory"


@pytest.mark.parametrize("options", [[], ["--window"], ["--window", "--verify"]])
def test_copy(tool: Tool, tmp_path: Path, options: list[str]) -> None:
    tool.plug("mock0")
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom((2 << 20) + 17))
    assert tool.done("copy", *options, source, target) == ""
    assert target.read_bytes() == source.read_bytes()
    assert tool.done("copy", "-", "-", data=b"mock") == "mock"


def test_dump(tool: Tool) -> None:
    tool.plug("mock0")
    content = os.urandom(WINDOW)
    (tool.nodes / "mock0").write_bytes(content)
    assert tool.run("dump").stdout == content


def test_copy_to_a_full_disk(tool: Tool) -> None:
    tool.plug("mock0")
    result = tool.run("copy", "-", "/dev/full", data=b"x")
    assert (result.returncode, result.stderr) == (
        1,
        b"mock-accel: /dev/full cannot be written: No space left on device\n",
    )


@pytest.mark.parametrize("options", [["sha256", "--verify", "-"], ["copy", "--verify", "-", "-"]])
def test_wrong_results_are_noticed(tool: Tool, options: list[str]) -> None:
    tool.plug("mock0")
    tool.environment["FAKE_WRONG"] = "1"
    result = tool.run(*options, data=b"data")
    assert result.returncode == 5
    assert b"differs from" in result.stderr


@pytest.mark.parametrize(
    ("variable", "value", "code", "message"),
    [
        ("FAKE_STATUS", 5, 5, "mock0: the job ended with status 5 (SOURCE_FAULT)"),
        ("FAKE_STATUS", 9, 5, "mock0: the job ended with status 9 (LIMIT)"),
        ("FAKE_STATUS", 77, 5, "mock0: the job ended with status 77 (unknown)"),
        ("FAKE_ERRNO", errno.ETIME, 6, "mock0: the job did not end in 250 ms; the kernel module resets the device"),
        ("FAKE_ERRNO", errno.ECANCELED, 6, "mock0: the job was cancelled, because the device was reset"),
        ("FAKE_ERRNO", errno.EIO, 6, "mock0: the device is lost: Input/output error; look at the node's dmesg"),
        ("FAKE_ERRNO", errno.EINTR, 6, "mock0: interrupted by a signal"),
        ("FAKE_ERRNO", errno.EINVAL, 5, "mock0: the kernel module refuses the job: Invalid argument"),
        ("FAKE_VERSION", 0, 3, "expected a kernel module with interface version 1, found 0"),
    ],
)
@pytest.mark.parametrize("command", [["identify"], ["bench", "--depth", "2"]])
def test_failures(tool: Tool, command: list[str], variable: str, value: int, code: int, message: str) -> None:
    tool.plug("mock0")
    tool.environment[variable] = str(value)
    found, text = tool.refused(*command, "--timeout", 250)
    assert found == code
    assert message in text


@pytest.mark.parametrize("operation", ["copy", "fill", "sha256"])
@pytest.mark.parametrize("options", [["--cpu"], [], ["--depth", "7"]])
def test_bench(tool: Tool, operation: str, options: list[str]) -> None:
    tool.plug("mock0")
    arguments = ["--json", "--operation", operation, "--size", "4K", "--jobs", "20", *options]
    found: dict[str, Any] = json.loads(tool.done("bench", *arguments))
    assert found["device"] == ("cpu" if "--cpu" in options else "mock0")
    assert (found["operation"], found["bytes"], found["jobs"]) == (operation, 4096, 20)
    assert found["jobs_per_second"] == pytest.approx(20 / found["seconds"], rel=0.2)
    latency = found["latency_us"]
    assert 0 <= latency["minimum"] <= latency["median"] <= latency["p99"]


def test_bench_prints_a_table(tool: Tool) -> None:
    tool.plug("mock0")
    lines = dict(line.split("\t") for line in tool.done("bench", "-o", "identify", "-s", 16, "-j", 1).splitlines())
    assert (lines["device"], lines["operation"], lines["bytes"], lines["jobs"]) == ("mock0", "identify", "16", "1")


def test_output_to_a_full_disk(tool: Tool) -> None:
    tool.plug("mock0")
    with Path("/dev/full").open("wb") as full:
        argv = ["sh", "-c", f'MOCK_ACCEL_CLASS_FOLDER="{tool.sysfs.classes}" "{tool.program}" list']
        result = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, timeout=30, check=False)
    assert result.returncode == 1
    assert b"standard output cannot be written: No space left on device" in result.stderr


def test_example_uses_the_image_and_existing_options(tool: Tool) -> None:
    manifest = (PROJECT / "docs/examples/run-a-job.yaml").read_text()
    pod = next(item for item in yaml.safe_load_all(manifest) if item and item["kind"] == "Pod")
    (container,) = pod["spec"]["containers"]
    assert container["image"] == images.TOOLS_IMAGE
    for command, options in re.findall(r"^mock-accel (\w+)(.*)$", container["command"][-1], re.MULTILINE):
        known = tool.done(command, "--help")
        assert all(option in known for option in re.findall(r"--\w+", options))


def test_image_of_the_kernel_module_does_not_depend_on_the_program() -> None:
    assert SOURCES not in images._sources(PROJECT / "kernel-driver")
