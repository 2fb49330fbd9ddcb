"""Shares of a device: ``job`` (tests/modules/job.c) uses their nodes in the guest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from module_guest import DONE, ModuleGuest
from module_state import BUSY, INVALID

pytestmark = pytest.mark.slow

_EINVAL, _ENODEV = 22, 19
_PAGE = 4096
_HALF = 512 << 10
_WINDOW_RANGE = 8


@pytest.fixture(autouse=True)
def allocated(guest: ModuleGuest, known_state: None) -> Iterator[None]:
    """mock1 has a user; at the end it has none, and no shares."""
    assert guest.write("mock1", "status", "1") == DONE
    yield
    assert guest.write("mock1", "status", "0") == DONE
    assert guest.read("mock1", "shares") == ""


def shares(guest: ModuleGuest) -> dict[str, list[int]]:
    """Offset, size, limit of jobs and minor number of each share of mock1, by its id."""
    lines = [line.split() for line in guest.read("mock1", "shares").splitlines()]
    return {line[0]: list(map(int, line[1:])) for line in lines}


def add(guest: ModuleGuest, name: str, offset: int, size: int, jobs: int = 0) -> str:
    """Add a share of mock1; returns the path of a node for it."""
    assert guest.write("mock1", "shares", f"add {name} {offset} {size} {jobs}") == DONE
    major = guest.read("mock1", "dev").partition(":")[0]
    guest.ok(f"rm -f /tmp/{name}; mknod /tmp/{name} c {major} {shares(guest)[name][3]}")
    return f"/tmp/{name}"


def job(guest: ModuleGuest, path: str, *arguments: str | int) -> str:
    """Output of the test program; it must succeed."""
    return guest.ok(f"/job {path} {' '.join(map(str, arguments))}")


def fails(guest: ModuleGuest, path: str, *arguments: str | int) -> str:
    """Output of the test program, which must fail."""
    answer = guest.run(f"/job {path} {' '.join(map(str, arguments))}")
    assert answer.code == 1, answer
    return answer.text


@contextmanager
def held(guest: ModuleGuest, path: str) -> Iterator[None]:
    """Another process has the node open and 0x55 in the first byte of its window."""
    guest.ok(f"rm -f /tmp/held; /job {path} hold 0 20000 > /tmp/held 2>&1 & echo $! > /tmp/holder")
    try:
        guest.until(lambda: guest.run("cat /tmp/held").text, "held")
        yield
    finally:
        guest.run("kill -9 $(cat /tmp/holder); wait")
        guest.until(lambda: guest.run("kill -0 $(cat /tmp/holder)").code == 0, False)


def test_each_share_has_its_part_of_the_window(guest: ModuleGuest) -> None:
    """While one is in use, the other has an empty window, and neither reaches beyond its part."""
    one, two = add(guest, "one", 0, _HALF), add(guest, "two", _HALF, _HALF // 2, 3)
    assert list(shares(guest)) == ["one", "two"]
    assert shares(guest)["two"][:3] == [_HALF, _HALF // 2, 3]
    limits = job(guest, two, "info").splitlines()
    assert (limits[1], limits[2], limits[4]) == (str(1 << 20), str(_HALF // 2), "3")
    with held(guest, one):
        assert job(guest, two, "window", _HALF // 2) == "window"
    assert fails(guest, two, "map", _HALF // 2 + _PAGE) == f"error {_EINVAL}"
    assert fails(guest, two, "window", _HALF) == f"error {_EINVAL}"


def test_a_job_beyond_the_share_is_refused_by_the_device(guest: ModuleGuest) -> None:
    one = add(guest, "one", 0, _HALF)
    assert job(guest, one, "fill", 0, _HALF) == str(_HALF)
    assert fails(guest, one, "fill", _PAGE, _HALF) == f"status {_WINDOW_RANGE}"
    assert fails(guest, one, "fill", 1 << 63, 1) == f"status {_WINDOW_RANGE}"
    assert job(guest, "/dev/mock-accel/mock1", "fill", _PAGE, _HALF) == str(_HALF)


def test_jobs_over_the_limit_wait(guest: ModuleGuest) -> None:
    one = add(guest, "one", 0, _HALF, 2)
    assert job(guest, one, "many", 40, _PAGE) == "40"


def test_a_new_share_is_empty_although_the_device_is_in_use(guest: ModuleGuest) -> None:
    one = add(guest, "one", 0, _HALF)
    with held(guest, "/dev/mock-accel/mock1"):
        assert job(guest, one, "fill", 0, _PAGE) == str(_PAGE)
        assert guest.write("mock1", "shares", "remove one") == DONE
        assert job(guest, add(guest, "again", 0, _HALF), "window", _HALF) == "window"


def test_a_removed_share_is_of_no_use(guest: ModuleGuest) -> None:
    """Its open files stay open; the next share gets its part."""
    one = add(guest, "one", 0, _HALF)
    guest.ok(f"rm -f /tmp/after; /job {one} after /tmp/go > /tmp/after 2>&1 &")
    guest.until(lambda: guest.run("cat /tmp/after").text, "mapped")
    assert guest.write("mock1", "shares", "remove one") == DONE
    guest.ok("touch /tmp/go")
    guest.until(lambda: guest.run("cat /tmp/after").text, f"mapped\nerror {_ENODEV}\nerror {_ENODEV}")
    assert fails(guest, one, "info") == f"error {_ENODEV}"
    guest.ok("rm -f /tmp/go")


def test_freeing_the_device_removes_its_shares(guest: ModuleGuest) -> None:
    add(guest, "one", 0, _HALF)
    assert guest.write("mock1", "status", "0") == DONE
    assert shares(guest) == {}


def test_a_reset_keeps_shares(guest: ModuleGuest) -> None:
    one = add(guest, "one", _HALF, _HALF)
    assert guest.write("mock1", "reset", "1") == DONE
    guest.until(lambda: guest.read("mock1", "health"), "ok")
    assert job(guest, one, "window", _HALF) == "window"


def test_wrong_shares_are_refused(guest: ModuleGuest) -> None:
    add(guest, "one", _PAGE, _PAGE)
    for text in ("add", "add a 0 4096", f"add {'a' * 37} 0 4096 0", "add a/b 0 4096 0", "remove", "drop one"):
        assert guest.write("mock1", "shares", text) == INVALID, text
    for numbers in ("1 4096 0", "0 1 0", "0 0 0", f"0 {2 << 20} 0", f"{1 << 20} 4096 0", "0 4096 256"):
        assert guest.write("mock1", "shares", f"add a {numbers}") == INVALID, numbers
    assert guest.write("mock1", "shares", "add a 0 8192 0") == BUSY
    assert "File exists" in guest.write("mock1", "shares", "add one 8192 4096 0")
    assert "No such file" in guest.write("mock1", "shares", "remove two")
    for number in range(31):
        assert guest.write("mock1", "shares", f"add s{number} {(2 + number) * _PAGE} {_PAGE} 0") == DONE
    assert "No space left" in guest.write("mock1", "shares", "add more 0 4096 0")
