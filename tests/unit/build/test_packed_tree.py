"""Packing an artifact's folder, and unpacking streams that are damaged or hostile."""

from __future__ import annotations

import io
import os
import socket
import stat
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.build.packed_tree import Content, pack, unpack

if sys.version_info >= (3, 14):
    from compression.zstd import compress
else:
    from backports.zstd import compress

MANY = Content(1 << 30, 1 << 30, 1000)


def packed(folder: Path) -> tuple[bytes, Content]:
    stream = io.BytesIO()
    content = pack(folder, stream)
    return stream.getvalue(), content


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"", mode: int = 0o644) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(data), mode
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def stream_of(*entries: bytes) -> io.BytesIO:
    return io.BytesIO(compress(b"".join(entries) + bytes(1024)))


def new(tmp_path: Path) -> Path:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    return folder


def test_folder_comes_back_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a" / "empty").mkdir(parents=True)
    (source / "a" / ("long" * 50)).write_text("x")
    (source / "program").write_text("run")
    (source / "program").chmod(0o4751)
    (source / "readonly").write_text("r")
    (source / "readonly").chmod(0o444)
    (source / "link").symlink_to("a/empty")
    (source / "a" / "up").symlink_to(f"../{'program' * 20}")
    os.link(source / "program", source / "second-name")
    os.utime(source / "readonly", (1_000_000, 1_000_000))
    stream, content = packed(source)
    target = new(tmp_path)
    unpack(io.BytesIO(stream), target, content)
    assert content == Content(3 + 3 + 1 + 1, 3 + 3 + 1 + 1, 8)
    names = {str(path.relative_to(target)) for path in target.rglob("*")}
    assert names == {str(path.relative_to(source)) for path in source.rglob("*")}
    assert stat.S_IMODE((target / "program").stat().st_mode) == 0o751, "without the set-user-ID bit"
    assert stat.S_IMODE((target / "readonly").stat().st_mode) == 0o444
    assert (target / "readonly").stat().st_mtime == 1_000_000
    assert (target / "a" / ("long" * 50)).read_text() == "x"
    assert (target / "link").readlink() == Path("a/empty")
    assert (target / "a" / "up").readlink() == Path(f"../{'program' * 20}")


def test_holes_stay_holes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "disk").open("wb") as disk:
        disk.seek(30 << 20)
        disk.write(b"x" * 100)
        disk.truncate((40 << 20) + 5)
    stream, content = packed(source)
    assert (content.size, content.entries) == ((40 << 20) + 5, 1)
    assert content.stored <= 64 << 10
    target = new(tmp_path)
    unpack(io.BytesIO(stream), target, content)
    assert (target / "disk").read_bytes() == (source / "disk").read_bytes()
    assert (target / "disk").stat().st_blocks * 512 < 1 << 20


def test_links_of_a_debian_tree_are_relative_to_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    etc = source / "root" / "etc"
    etc.mkdir(parents=True)
    (etc / "absolute").symlink_to("/usr/bin/gcc")
    (etc / "top").symlink_to("/../..")
    (etc / "relative").symlink_to("../usr/bin/gcc")
    stream, content = packed(source)
    target = new(tmp_path)
    unpack(io.BytesIO(stream), target, content)
    unpacked = target / "root" / "etc"
    assert (unpacked / "absolute").readlink() == Path("../usr/bin/gcc")
    assert (unpacked / "top").readlink() == Path("..")
    assert (unpacked / "relative").readlink() == Path("../usr/bin/gcc")


@pytest.mark.parametrize("target", ["/usr/bin/gcc", "../outside", "a/../../outside", "a/..", "../../x"])
def test_links_out_of_an_artifact_are_not_packed(tmp_path: Path, target: str) -> None:
    (tmp_path / "link").symlink_to(target)
    expected = f"link link: expected a target inside the artifact, found {target}"
    with pytest.raises(StepError, match=expected.replace(".", r"\.")):
        packed(tmp_path)


def test_properties_of_the_machine_and_special_files_are_left_out(tmp_path: Path) -> None:
    source = tmp_path / "source"
    etc = source / "root" / "etc"
    (etc / "apt" / "sources.list.d").mkdir(parents=True)
    (source / "root" / "work" / "0123").mkdir(parents=True)
    for name in ("hostname", "resolv.conf", "shadow", "apt/sources.list", "apt/apt.conf", "passwd"):
        (etc / name).write_text("x")
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(source / "socket"))
    stream, content = packed(source)
    target = new(tmp_path)
    unpack(io.BytesIO(stream), target, content)
    files = {str(path.relative_to(target)) for path in target.rglob("*") if not path.is_dir()}
    assert files == {"root/etc/apt/apt.conf", "root/etc/passwd"}


def device() -> bytes:
    info = tarfile.TarInfo("null")
    info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 3
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry("/etc/passwd")], "'/etc/passwd': expected a name in a folder that comes before it"),
        ([entry("../outside")], "'../outside': expected a name in a folder"),
        ([entry("..", tarfile.DIRTYPE)], "'..': expected a name in a folder"),
        ([entry(".", tarfile.DIRTYPE)], "'.': expected a name in a folder"),
        ([entry("a", tarfile.DIRTYPE), entry("a/../b")], "'a/../b': expected a name in a folder"),
        ([entry("a/b")], "'a/b': expected a name in a folder"),
        ([entry("a", tarfile.SYMTYPE, "."), entry("a/b")], "'a/b': expected a name in a folder"),
        ([entry("a", tarfile.SYMTYPE, "/etc")], "link 'a': it leads out of the artifact, to '/etc'"),
        ([entry("a", tarfile.SYMTYPE, "../x")], "link 'a': it leads out"),
        ([entry("a", tarfile.SYMTYPE, "b/../../x")], "link 'a': it leads out"),
        ([entry("a", tarfile.SYMTYPE, "")], "link 'a': it leads out"),
        ([entry("a", tarfile.LNKTYPE, "/etc/passwd")], "expected folders, files and symbolic links, found 'a'"),
        ([device()], "expected folders, files and symbolic links, found 'null' of type b'3'"),
        ([entry("p", tarfile.FIFOTYPE)], "found 'p' of type b'6'"),
        ([entry("x", tarfile.XHDTYPE, data=b"12 path=../y")], "found 'x' of type b'x'"),
        ([entry("s", tarfile.GNUTYPE_SPARSE)], "found 's' of type b'S'"),
        ([entry("@", tarfile.GNUTYPE_LONGNAME, data=bytes(1 << 20)), entry("b")], "a name of 1048576 bytes"),
        ([entry("a"), entry("a")], "'a' is there twice"),
        ([entry("a", tarfile.SYMTYPE, "b"), entry("a")], "'a' is there twice"),
        ([entry("a", tarfile.SYMTYPE, "b"), entry("a", tarfile.DIRTYPE)], "'a' is there twice"),
        ([b"\xff" * 512], "it is damaged"),
        ([entry("a", data=b"x" * 5000)[:1024]], "it is damaged: unexpected end of data"),
        ([], "expected Content"),
    ],
)
def test_hostile_streams_are_refused(tmp_path: Path, entries: list[bytes], message: str) -> None:
    with pytest.raises(StepError) as refused:
        unpack(stream_of(*entries), new(tmp_path), MANY)
    assert message in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["unpacked"]


def zeros(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(size)


@pytest.mark.parametrize(
    ("entries", "promised"),
    [
        ([entry("a", data=b"x" * 1001)], Content(1000, 1000, 10)),
        ([zeros("a", 1 << 20)], Content(1 << 19, 1 << 19, 10)),
        ([entry("a", data=b"x" * 1000)], Content(1000, 999, 10)),
        ([entry("a"), entry("b"), entry("c")], Content(0, 0, 2)),
    ],
)
def test_stream_that_holds_more_than_promised_is_refused(
    tmp_path: Path, entries: list[bytes], promised: Content
) -> None:
    with pytest.raises(StepError, match="it holds more than it promises"):
        unpack(stream_of(*entries), new(tmp_path), promised)


@pytest.mark.parametrize("spoil", [lambda data: data[: len(data) // 2], lambda data: data[:200] + b"\0" + data[201:]])
def test_damaged_stream_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(100_000))
    stream, content = packed(source)
    with pytest.raises(StepError, match="it is damaged"):
        unpack(io.BytesIO(spoil(stream)), new(tmp_path), content)


def test_full_disk_is_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(stream_of(entry("a", data=b"x")), new(tmp_path), MANY)
