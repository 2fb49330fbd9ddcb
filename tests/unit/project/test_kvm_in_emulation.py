"""``make test-kvm``: its command line, what it reads of the outer guest, its bounds and messages."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import kvm_in_emulation
import pytest
from kvm import machine, material, plan
from kvm.bad_kernel import bad_kernel
from kvm.machine import Watch
from kvm.plan import SHORT, WHOLE, Plan, Step
from kvm.report import Progress, Report, Result
from support import PYTHONPATH

from mock_device import topology
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.variables import topology_path
from mock_device.lab.build.outer_guest import OuterGuest
from mock_device.lab.build.qemu_build import Qemu
from mock_device.lab.build.store import NotCachedError

FIRST, SECOND, THIRD = (Step(name, f"what {name} proves", seconds) for name, seconds in (("a", 5), ("b", 7), ("c", 9)))
PLAN = Plan("some", (FIRST, SECOND, THIRD), nominal=15, memory_mib=1, spare_bytes=0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "report.log"


@pytest.fixture
def watch(report: Path, clock: Clock) -> Watch:
    return Watch(PLAN, report, clock)


def say(report: Path, *lines: object) -> None:
    with report.open("a") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)


def ended(step: Step, failure: str = "") -> dict[str, object]:
    return {"end": step.name, "seconds": 1.5, "failure": failure}


def test_steps_of_a_program_are_read_as_they_were_reported(report: Path) -> None:
    writer = Report(report)
    with writer.step(SECOND):
        pass
    with pytest.raises(StepError), writer.step(THIRD):
        raise StepError("expected x,\nfound y")
    progress = Progress(PLAN.steps)
    for line in report.read_text().splitlines():
        progress.read(line)
    assert [(one.step, one.result, one.reason) for one in progress.results] == [
        ("b", "passed", ""),
        ("c", "failed", "expected x,\nfound y"),
    ]
    assert [one.result for one in progress.all()] == ["passed", "failed", "not run"]
    assert progress.failed


def test_exception_without_words_has_its_type_as_reason(report: Path) -> None:
    with pytest.raises(TimeoutError), Report(report).step(SECOND):
        raise TimeoutError
    assert json.loads(report.read_text().splitlines()[-1])["failure"] == "TimeoutError"


@pytest.mark.parametrize("line", ['{"begin": "z"}', '{"end": "a"}', "[1]", "Linux version 6"])
def test_line_of_no_step_is_an_error(line: str) -> None:
    with pytest.raises(ValueError):
        Progress(PLAN.steps).read(line)


def test_first_line_ends_the_boot(watch: Watch, report: Path, clock: Clock) -> None:
    assert not watch.look(None)
    clock.now += 4
    with report.open("w") as file:
        file.write('{"begin": "b"')
    assert not watch.look(None), "the line is not complete"
    assert watch.progress.running is FIRST
    with report.open("a") as file:
        file.write("}\n")
    assert not watch.look(None)
    assert watch.progress.results == [Result("a", FIRST.what, "passed", 4.0)]
    assert watch.progress.running is SECOND


def test_all_steps_passed_is_the_end(watch: Watch, report: Path) -> None:
    say(report, {"begin": "b"}, ended(SECOND), {"begin": "c"}, ended(THIRD))
    assert watch.look(None)
    assert {one.result for one in watch.progress.all()} == {"passed"}


def test_step_that_hangs_is_named(watch: Watch, report: Path, clock: Clock) -> None:
    say(report, {"begin": "b"})
    assert not watch.look(None)
    clock.now += SECOND.seconds
    assert not watch.look(None)
    clock.now += 1
    assert watch.look(None)
    assert watch.progress.results[-1] == Result(
        "b", SECOND.what, "failed", 8.0, "it hangs: expected its end within 7 s"
    )


def test_boot_that_hangs_is_named(watch: Watch, clock: Clock) -> None:
    clock.now += 6
    assert watch.look(None)
    assert [(one.step, one.result) for one in watch.progress.all()] == [
        ("a", "failed"),
        ("b", "not run"),
        ("c", "not run"),
    ]


def test_whole_run_is_bounded(watch: Watch, report: Path, clock: Clock) -> None:
    clock.now += 4
    say(report, {"begin": "b"})
    assert not watch.look(None)
    clock.now += 6
    say(report, ended(SECOND), {"begin": "c"})
    assert not watch.look(None)
    clock.now += 6
    assert watch.look(None)
    assert watch.progress.results[-1].step == "c"
    assert watch.progress.results[-1].reason == "expected the end of all steps within 15 s"


@pytest.mark.parametrize(
    ("lines", "step", "reason"),
    [
        ([], "a", "the outer guest ended (QEMU's exit code 1) during this step"),
        ([{"begin": "b"}], "b", "the outer guest ended (QEMU's exit code 1) during this step"),
        ([{"begin": "b"}, ended(SECOND)], "c", "the outer guest ended (QEMU's exit code 1) before this step"),
        ([{"begin": "b"}, ended(SECOND, "no KVM")], "b", "no KVM"),
    ],
)
def test_outer_guest_that_ends_early(
    watch: Watch, report: Path, lines: list[dict[str, object]], step: str, reason: str
) -> None:
    say(report, *lines)
    assert watch.look(1)
    assert (watch.progress.results[-1].step, watch.progress.results[-1].reason) == (step, reason)


def test_console_ends_with_its_last_words(tmp_path: Path) -> None:
    console = tmp_path / "console.log"
    assert machine.last_lines(console) == ""
    console.write_bytes(b"".join(b"line %d\r\n\r\n" % number for number in range(50)) + b"\xff half")
    lines = machine.last_lines(console).splitlines()
    assert len(lines) == 30
    assert lines[-2:] == ["line 49", "\ufffd half"]


QEMU = """
import json, sys, time
from pathlib import Path
Path(sys.argv[1]).write_text("".join(json.dumps(line) + "\\n" for line in json.loads(sys.argv[2])))
time.sleep(float(sys.argv[3]))
"""


def test_outer_guest_is_followed_and_killed(tmp_path: Path) -> None:
    lines = [{"begin": "b"}, ended(SECOND), {"begin": "c"}, ended(THIRD)]
    argv = [sys.executable, "-c", QEMU, str(tmp_path / "report.log"), json.dumps(lines), "60"]
    told: list[Result] = []
    begin = time.monotonic()
    watch = machine.run(argv, {}, PLAN, tmp_path, told.append)
    assert time.monotonic() - begin < 30
    assert [one.step for one in told] == ["a", "b", "c"]
    assert watch.progress.complete


RUNS = """
import sys
from pathlib import Path
from kvm import machine
from kvm.plan import Plan, Step
plan = Plan("some", (Step("boot", "", 60),), nominal=60, memory_mib=1, spare_bytes=0)
code = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'w'), flush=True); time.sleep(60)"
try:
    machine.run([sys.executable, "-c", code, sys.argv[1]], {}, plan, Path(sys.argv[2]), print)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    argv = ["env", "--default-signal=INT", sys.executable, "-c", RUNS, str(pid), str(tmp_path)]
    with subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": PYTHONPATH}) as child:
        deadline = time.monotonic() + 30
        while not (pid.exists() and pid.read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
    assert not Path("/proc", pid.read_text().strip()).exists()


def test_command_line_of_the_outer_guest(tmp_path: Path) -> None:
    qemu = Qemu(["qemu"], ["qemu-img"], "11.1")
    outer = OuterGuest(Path("/o/disk.raw"), Path("/o/vmlinuz"), Path("/o/initrd"))
    console, report = tmp_path / "console.log", tmp_path / "report.log"
    argv = machine.argv(qemu, outer, Path("/m.raw"), Path("/n/disk.raw"), 2048, console, report)
    options = dict(itertools.pairwise(argv))
    assert (options["-accel"], options["-cpu"], options["-smp"]) == ("tcg,thread=single", "max", "1")
    drives = [argv[index + 1] for index, word in enumerate(argv) if word == "-drive"]
    assert [drive.split(",")[2] for drive in drives] == ["file=/o/disk.raw", "file=/m.raw", "file=/n/disk.raw"]
    assert all("snapshot=on" in drive for drive in drives), "artifacts of the cache must not change"
    assert "-no-reboot" in argv, "a reset must end QEMU"


def test_plans_have_room_for_their_steps() -> None:
    for each in (SHORT, WHOLE):
        assert each.steps[0] is plan.BOOT, "it ends with the first line of the report"
        assert len({step.name for step in each.steps}) == len(each.steps)
        assert max(step.seconds for step in each.steps) < each.seconds


def test_guest_on_kvm_is_the_smallest_cluster_with_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    whole = topology.load(topology_path(plan.TOPOLOGY))
    file.write_text(material.small_topology(whole.text))
    small = topology.load(file)
    (node,) = small.nodes
    assert [numa.memory for numa in node.numa_nodes] == [192 << 20] * 2
    assert node.functions == whole.nodes[0].functions


def test_missing_artifact_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise NotCachedError("node image: not in the cache")

    monkeypatch.setattr(material, "build_node_image", missing)
    with pytest.raises(StepError, match=r"node image: not in the cache; .* build it: make setup"):
        material.artifacts(SHORT)


def test_kernel_jumps_to_where_no_memory_is() -> None:
    kernel = bad_kernel()
    assert kernel[0x202:0x206] == b"HdrS"
    assert kernel[0x200] == 0xEB
    target = 0x202 + kernel[0x201]
    assert kernel[target : target + 1] == b"\xfa"
    assert b"\xea" + 0xFED40000.to_bytes(4, "little") + b"\x08\x00" in kernel


def test_too_little_memory_is_an_error() -> None:
    kvm_in_emulation.check_memory(SHORT, 3 << 30)
    with pytest.raises(StepError, match=r"expected 2560 MiB of free memory for the outer guest, found 1024; stop clus"):
        kvm_in_emulation.check_memory(SHORT, 1 << 30)


RESULTS = [
    Result("a", "one", "passed", 1.25),
    Result("b", "two", "failed", 3.0, "it hangs"),
    Result("c", "three", "not run", 0.0),
]


@pytest.mark.parametrize(
    ("found", "last", "code"),
    [(RESULTS, "1 passed, 1 failed, 1 not run", 1), (RESULTS[:1], "1 passed, 0 failed", 0)],
)
def test_last_line_counts_the_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: list[Result], last: str, code: int
) -> None:
    asked: list[Plan] = []

    def run(chosen: Plan, _: Path) -> list[Result]:
        asked.append(chosen)
        return found

    monkeypatch.setattr(kvm_in_emulation, "run", run)
    assert kvm_in_emulation.main(["--cluster"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split("\t")[:3] == ["a", "passed", "1.2"]
    assert lines[-1] == last
    assert asked == [WHOLE]


def test_json_is_for_scripts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(kvm_in_emulation, "run", lambda *_: RESULTS)
    assert kvm_in_emulation.main(["--json"]) == 1
    assert [one["result"] for one in json.loads(capsys.readouterr().out)] == ["passed", "failed", "not run"]


def test_wrong_usage_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert kvm_in_emulation.main(["--clusters"]) == 2
    assert kvm_in_emulation.main(["--help"]) == 0
    assert "inside an emulated guest" in capsys.readouterr().out


def test_factor_of_a_slow_machine_counts_outside_and_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_TIMEOUT_FACTOR", raising=False)
    assert machine.kernel_options().endswith(" LAB_TIMEOUT_FACTOR=4")
    monkeypatch.setenv("LAB_TIMEOUT_FACTOR", "2")
    assert machine.kernel_options().endswith(" LAB_TIMEOUT_FACTOR=8")
    assert (FIRST.seconds, PLAN.seconds) == (10, 30)
    monkeypatch.setenv("LAB_TIMEOUT_FACTOR", "8")
    assert FIRST.inner_seconds == pytest.approx(9), "what the outer guest says for a factor of 2"
    monkeypatch.setenv("LAB_TIMEOUT_FACTOR", "20")
    assert machine.kernel_options().endswith(" LAB_TIMEOUT_FACTOR=20")
