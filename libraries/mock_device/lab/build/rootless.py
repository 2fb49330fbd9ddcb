"""Run commands that need root to build trees and images, also as an ordinary user.

An ordinary user gets a user namespace in which they are root and which maps no
other user (user_namespaces(7)). It needs no ranges in /etc/subuid and no setuid
program, and all files belong to the user. It does not allow changing a file's
owner or joining groups, so a seccomp filter turns chown(2) and setgroups(2)
into no-ops that report success. As a result, everything in the tree belongs to
root. Nodes and images work with that: the few groups that Debian uses are for
mail, shadow passwords and logs.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mock_device.lab.base.commands import run

# linux/audit.h, asm/unistd_64.h, linux/prctl.h, linux/seccomp.h, linux/bpf_common.h
_AUDIT_ARCH_X86_64 = 0xC000003E
_IGNORED_CALLS = {"chown": 92, "fchown": 93, "lchown": 94, "setgroups": 116, "fchownat": 260}
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_RETURN_ALLOW = 0x7FFF0000
_RETURN_ERRNO = 0x00050000
_LOAD_WORD = 0x20
_JUMP_IF_EQUAL = 0x15
_RETURN = 0x06
WORK = "work"
"""Folder of a tree in which commands work; what they leave there is not part of the tree."""
# Offsets in struct seccomp_data, in bytes.
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET = 0, 4


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def as_root(argv: Sequence[str | Path]) -> list[str | Path]:
    """The command line that runs ``argv`` as root in a mount namespace; its mounts vanish with it, even if killed."""
    if os.geteuid() == 0:
        return ["unshare", "--mount", *argv]
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    return [*unshare, sys.executable, "-m", "mock_device.lab.build.rootless", *argv]


def in_tree(tree: Path, argv: Sequence[str], *, proc: bool = False) -> list[str | Path]:
    """The command line that runs ``argv`` as root with ``tree`` as its root folder, if ``proc`` with ``/proc``.

    ``/dev`` is this machine's: a user namespace cannot create device nodes, and imported trees have none.
    """
    return as_root(_mounted(["dev", "proc"] if proc else ["dev"], tree, argv))


def make_in_tree(
    tree: Path,
    files: Mapping[str, Path],
    folder: Path,
    arguments: Sequence[str],
    results: Sequence[str],
    *,
    log: Path,
    timeout: float,
    where: str = ".",
    proc: bool = False,
) -> None:
    """Run ``make`` with ``arguments`` in ``tree`` on copies of ``files``; copy ``results`` to ``folder``.

    ``files`` are named by the copies' paths, ``where`` is their folder with the
    Makefile, in which ``results`` are found, which are patterns. The copies are
    removed. ``timeout`` is in seconds. Raises StepError.
    """
    work = tree / WORK / folder.name
    work.mkdir(parents=True)
    try:
        for name, file in files.items():
            (work / name).parent.mkdir(exist_ok=True)
            shutil.copy2(file, work / name)
        argv = ["make", "-C", f"/{WORK}/{folder.name}/{where}", *arguments]
        run(in_tree(tree, argv, proc=proc), log=log, timeout=timeout)
        for result in results:
            for built in (work / where).glob(result):
                shutil.copy2(built, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _mounted(folders: Sequence[str], tree: Path, argv: Sequence[str]) -> list[str | Path]:
    mounts = "".join(f'mount --rbind /{folder} "$0/{folder}" && ' for folder in folders)
    return ["sh", "-c", f'{mounts}exec chroot "$0" "$@"', tree, *argv]


def ownership_filter() -> bytes:
    """BPF program (array of struct sock_filter) that turns calls that change owners or groups into no-ops."""
    calls = list(_IGNORED_CALLS.values())
    program = [
        (_LOAD_WORD, 0, 0, _ARCHITECTURE_OFFSET),
        (_JUMP_IF_EQUAL, 0, len(calls) + 1, _AUDIT_ARCH_X86_64),
        (_LOAD_WORD, 0, 0, _NUMBER_OFFSET),
        *((_JUMP_IF_EQUAL, len(calls) - index, 0, call) for index, call in enumerate(calls)),
        (_RETURN, 0, 0, _RETURN_ALLOW),
        (_RETURN, 0, 0, _RETURN_ERRNO),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def ignore_ownership() -> None:
    """Ignore changes of owners and groups in this process and its children, but report success. Raises OSError."""
    code = ownership_filter()
    program = _Program(len(code) // struct.calcsize("=HBBI"), code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp filter")


def main() -> None:
    """Call ``ignore_ownership``, then execute the command given by the arguments."""
    ignore_ownership()
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
