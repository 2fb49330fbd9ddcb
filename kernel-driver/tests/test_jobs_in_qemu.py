"""Jobs through /dev/mock-accel: ``job`` (tests/modules/job.c) uses it in the guest."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from device_servers import SECRET
from mock_accel_server.device import Device
from module_guest import DONE, ModuleGuest
from module_state import BUSY, DRIVER, INVALID, PCI, UNLOAD, card, pfs, published

from mock_device.topology import Node

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("known_state")]

NODES = "/dev/mock-accel"
_EINVAL, _EBUSY, _EIO, _ETIME, _ECANCELED = 22, 16, 5, 62, 125


def job(guest: ModuleGuest, name: str, *arguments: str | int) -> str:
    """Output of the test program; it must succeed."""
    return guest.ok(f"/job {NODES}/{name} {' '.join(map(str, arguments))}")


def fails(guest: ModuleGuest, name: str, *arguments: str | int) -> str:
    """Output of the test program, which must fail."""
    answer = guest.run(f"/job {NODES}/{name} {' '.join(map(str, arguments))}")
    assert answer.code == 1, answer
    return answer.text


def pattern(length: int) -> bytes:
    return bytes(i % 251 for i in range(length))


def pinned(guest: ModuleGuest) -> int:
    """Pages that are pinned now."""
    counters = "awk '/nr_foll_pin_(acquired|released)/ {print $2}' /proc/vmstat"
    acquired, released = map(int, guest.ok(f"echo 1 > /proc/sys/vm/stat_refresh; {counters}").split())
    return acquired - released


@contextmanager
def held(guest: ModuleGuest, name: str, jobs: int, timeout_ms: int = 20000) -> Iterator[None]:
    """Another process has the node open, with ``jobs`` jobs in the ring."""
    command = f"/job {NODES}/{name} hold {jobs} {timeout_ms}"
    guest.ok(f"rm -f /tmp/held; {command} > /tmp/held 2>&1 & echo $! > /tmp/holder")
    try:
        guest.until(lambda: guest.run("cat /tmp/held").text, "held")
        yield
    finally:
        guest.run("kill -9 $(cat /tmp/holder); wait")
        guest.until(lambda: guest.run("kill -0 $(cat /tmp/holder)").code == 0, False)


@contextmanager
def hanging(device: Device) -> Iterator[None]:
    """The next job of the device hangs; at the end no more."""
    with device.lock:
        device.jobs.faults.hang_next = True
    try:
        yield
    finally:
        with device.lock:
            device.jobs.clear_faults()


def test_nodes_belong_to_root(guest: ModuleGuest, node: Node) -> None:
    pf, vf, _ = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    shown = guest.ok(f"stat -c '%n %a %u:%g %F' {NODES}/*").splitlines()
    names = sorted([*pfs(node), vf.name])
    assert shown == [f"{NODES}/{name} 600 0:0 character special file" for name in names]


def test_info_matches_sysfs_and_topology(guest: ModuleGuest, node: Node) -> None:
    pf, vf, _ = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    for function in (pf, vf):
        lines = job(guest, function.name, "info").splitlines()
        assert lines[0] == f"{function.name} {function.uuid}"
        size = int(guest.read(function.name, "window_size"))
        assert list(map(int, lines[1:])) == [size, size, 1, 255, 0x10000, 2 + function.is_vf]
    assert guest.read(pf.name, "firmware_version") == "1.0"
    assert guest.read(pf.name, "health") == "ok"


@pytest.mark.parametrize("length", [1, 4096, 1 << 20])
def test_digest_is_that_of_the_bytes(guest: ModuleGuest, length: int) -> None:
    assert job(guest, "mock1", "sha256", length) == hashlib.sha256(pattern(length)).hexdigest()


def test_devices_sign_with_keys_of_their_own(guest: ModuleGuest, node: Node) -> None:
    pf, *vfs = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", str(len(vfs))) == DONE
    for function in (pf, *vfs):
        key = hmac.digest(SECRET, function.uuid.encode(), "sha256")
        assert job(guest, function.name, "identify", 20) == hmac.new(key, pattern(20), "sha256").hexdigest()


def test_copy_writes_exactly_its_bytes(guest: ModuleGuest) -> None:
    before = [int(guest.read("mock1", name)) for name in ("jobs", "bytes", "jobs_failed")]
    lengths = [1, 4095, 70001, 1 << 20]
    for length in lengths:
        assert job(guest, "mock1", "copy", length) == str(length)
    after = [int(guest.read("mock1", name)) for name in ("jobs", "bytes", "jobs_failed")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [len(lengths), sum(lengths), 0]


def test_window_is_shared_and_empty_for_the_next_user(guest: ModuleGuest, node: Node) -> None:
    pf, vf, _ = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    for name in (pf.name, vf.name, pf.name):
        assert job(guest, name, "window", 65536) == "window"


def test_many_jobs_wait_in_the_ring(guest: ModuleGuest) -> None:
    """More than the ring has descriptors."""
    assert job(guest, "mock1", "many", 300, 4096) == "300"


def test_wrong_arguments_are_refused(guest: ModuleGuest) -> None:
    """Among them a longer structure that is accepted, because the rest is zero."""
    codes = [2**64 - 0, 7, _EINVAL, _EINVAL, _EINVAL, _EINVAL, _EINVAL, 14, 14, 25]
    assert [int(line) for line in job(guest, "mock1", "refused").splitlines()] == [0, *codes[1:]]


def test_exclusive_mode_and_limits_last_until_the_device_is_free(guest: ModuleGuest) -> None:
    assert guest.write("mock1", "status", "1") == DONE
    settings = {"mode": "exclusive", "job_limit": "7", "window_limit": "8192"}
    for attribute, value in settings.items():
        assert guest.write("mock1", attribute, value) == DONE
        assert guest.read("mock1", attribute) == value
    for attribute, value in (("mode", "both"), ("job_limit", "256"), ("window_limit", "4097"), ("reset", "0")):
        assert guest.write("mock1", attribute, value) == INVALID
    assert job(guest, "mock1", "info").splitlines()[2:5] == ["8192", "0", "7"]
    assert fails(guest, "mock1", "map", 12288) == f"error {_EINVAL}"
    assert fails(guest, "mock1", "window", 12288) == f"error {_EINVAL}"
    with held(guest, "mock1", 0):
        assert fails(guest, "mock1", "info") == f"error {_EBUSY}"
        assert guest.write("mock1", "mode", "shared") == BUSY
        assert guest.write("mock1", "job_limit", "8") == BUSY
    guest.ok(f"echo 1 > {PCI}/{guest.devices()['mock1']}/reset")
    assert job(guest, "mock1", "info").splitlines()[2:5] == ["8192", "0", "7"], "a reset keeps them"
    assert guest.write("mock1", "status", "0") == DONE
    assert [guest.read("mock1", attribute) for attribute in settings] == ["shared", "0", "0"]


def test_hung_job_ends_and_the_device_works_again(guest: ModuleGuest) -> None:
    hangs = int(guest.read("mock1", "hangs"))
    with hanging(guest.served["mock1"]):
        assert fails(guest, "mock1", "copy", 4096, 300) == f"error {_ETIME}"
    guest.until(partial(guest.read, "mock1", "health"), "ok")
    assert guest.read("mock1", "hangs") == str(hangs + 1)
    assert job(guest, "mock1", "copy", 4096) == "4096"


def test_process_that_dies_leaves_nothing(guest: ModuleGuest) -> None:
    """Its jobs are stopped, its pages are unpinned, and its window is empty."""
    hangs = guest.read("mock1", "hangs")
    with hanging(guest.served["mock1"]), held(guest, "mock1", 3):
        pass
    assert pinned(guest) == 0
    assert job(guest, "mock1", "window", 65536) == "window"
    assert guest.read("mock1", "hangs") == hangs, "stopping it needs no reset"


def test_processes_that_wait_for_room_pin_nothing(guest: ModuleGuest) -> None:
    """The jobs of a device pin 64 MiB at most: two copies of 16 MiB, however many processes submit one."""
    sleeping = "grep -l '^State:.S' $(grep -lx job /proc/[0-9]*/comm | sed s,comm,status,) | wc -l"
    with hanging(guest.served["mock1"]):
        guest.ok(f"for i in 1 2 3 4; do /job {NODES}/mock1 copy {16 << 20} 60000 > /tmp/many.$i 2>&1 & done")
        guest.until(partial(guest.ok, sleeping), "4")
        # The buffers do not begin with a page.
        assert pinned(guest) == (64 << 20) // 4096 + 4
        assert guest.write("mock1", "reset", "1") == DONE
        guest.until(lambda: guest.run("cat /tmp/many.* | grep -c error").text, "2")
    guest.until(lambda: guest.run("grep -lx job /proc/[0-9]*/comm").text, "")
    ended = sorted(guest.ok("cat /tmp/many.*").splitlines())
    assert ended == [str(16 << 20)] * 2 + [f"error {_ECANCELED}"] * 2
    assert pinned(guest) == 0


def test_reset_cancels_jobs_of_pf_and_vf(guest: ModuleGuest, node: Node) -> None:
    """A reset of the PF is one of its VFs, which work afterwards, interrupts included."""
    pf, vf, _ = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    with hanging(guest.served[vf.name]):
        guest.ok(f"/job {NODES}/{vf.name} copy 4096 > /tmp/canceled 2>&1 &")
        guest.until(lambda: guest.served[vf.name].jobs.faults.hanging, True)
        guest.ok(f"echo 1 > {PCI}/{pf.bdf}/reset")
        guest.until(lambda: guest.run("cat /tmp/canceled").text, f"error {_ECANCELED}")
    for function in (pf, vf):
        assert job(guest, function.name, "copy", 70001) == "70001"


def test_reset_by_attribute(guest: ModuleGuest) -> None:
    with hanging(guest.served["mock1"]):
        guest.ok(f"/job {NODES}/mock1 copy 4096 > /tmp/canceled 2>&1 &")
        guest.until(lambda: guest.served["mock1"].jobs.faults.hanging, True)
        assert guest.write("mock1", "reset", "1") == DONE
        guest.until(lambda: guest.run("cat /tmp/canceled").text, f"error {_ECANCELED}")
    guest.until(partial(guest.read, "mock1", "health"), "ok")
    assert job(guest, "mock1", "copy", 4096) == "4096"


def test_unbinding_ends_jobs_and_mappings(guest: ModuleGuest, node: Node) -> None:
    address = pfs(node)["mock1"]
    with hanging(guest.served["mock1"]):
        guest.ok(f"/job {NODES}/mock1 copy 4096 > /tmp/lost 2>&1 &")
        guest.until(lambda: guest.served["mock1"].jobs.faults.hanging, True)
        with held(guest, "mock1", 1):
            assert "in use" in guest.run(UNLOAD).text
            guest.ok(f"echo {address} > {DRIVER}/unbind")
            guest.until(lambda: guest.run("cat /tmp/lost").text, f"error {_EIO}")
            assert guest.run(f"test -e {NODES}/mock1").code == 1
    guest.ok(f"echo {address} > {DRIVER}/bind")
    guest.until(guest.devices, pfs(node))
    assert job(guest, "mock1", "window", 65536) == "window"
    guest.ok(UNLOAD)


def test_vf_is_removed_while_its_node_is_open(guest: ModuleGuest, node: Node) -> None:
    pf, vf, _ = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    with held(guest, vf.name, 2):
        assert guest.write(pf.name, "sriov_numvfs", "0") == DONE
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    assert guest.devices() == pfs(node) | published([vf])
    assert job(guest, vf.name, "window", 65536) == "window"


def test_fatal_error_lasts_until_a_reset(guest: ModuleGuest) -> None:
    device = guest.served["mock1"]
    with device.lock:
        device.report_fatal()
    guest.until(partial(guest.read, "mock1", "health"), "fatal")
    assert fails(guest, "mock1", "copy", 4096) == f"error {_EIO}"
    assert guest.write("mock1", "reset", "1") == DONE
    guest.until(partial(guest.read, "mock1", "health"), "ok")
    assert job(guest, "mock1", "copy", 4096) == "4096"
    guest.ok("dmesg -c > /tmp/fatal.log")


def test_temperature_is_shown(guest: ModuleGuest) -> None:
    device = guest.served["mock1"]
    usual = guest.read("mock1", "temp1_input")
    for celsius, health in ((96, "hot"), (int(usual) // 1000, "ok")):
        with device.lock:
            device.set_temperature(celsius * 1000)
        guest.until(partial(guest.read, "mock1", "health"), health)
        assert guest.read("mock1", "temp1_input") == str(celsius * 1000)
    assert guest.read("mock1", "temp1_max") == "95000"
    assert job(guest, "mock1", "copy", 4096) == "4096"


def test_device_without_firmware_runs_no_jobs_until_it_has_some(guest: ModuleGuest) -> None:
    reset = f"echo 1 > {PCI}/{guest.devices()['mock1']}/reset"
    guest.ok(f"mv /opt/lib/firmware/mock-accel /tmp/; {reset}")
    try:
        assert guest.read("mock1", "health") == "no-firmware"
        assert guest.read("mock1", "firmware_version") == "none"
        assert fails(guest, "mock1", "copy", 4096) == f"error {_EIO}"
        guest.ok(
            "mkdir -p /opt/lib/firmware/mock-accel; sed '$s/jobs/JOBS/' /tmp/mock-accel/mock-accel.fw > "
            "/opt/lib/firmware/mock-accel/mock-accel.fw"
        )
        assert fails(guest, "mock1", "copy", 4096) == f"error {_EIO}", "a wrong checksum is refused"
    finally:
        guest.ok("rm -rf /opt/lib/firmware/mock-accel; mv /tmp/mock-accel /opt/lib/firmware/")
    assert job(guest, "mock1", "copy", 4096) == "4096", "opening it loads the firmware"
    assert guest.read("mock1", "health") == "ok"
