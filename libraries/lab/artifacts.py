"""Built things, cached by a hash of everything that goes into them.

Layout: ``$XDG_CACHE_HOME/mock-device/<kind>/<hash>/``; logs of builds in
``logs/<kind>.log`` beside the kinds. A build runs in a folder of its own and is
renamed when it is complete, so a folder that has its final name is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lab import disk, progress

Input = str | bytes | Path | Sequence["str | Path"]

PROJECT = Path(__file__).resolve().parents[2]
_LOCK_TIMEOUT_SECONDS = 3600.0
_LOCK_POLL_SECONDS = 0.2


class StepError(Exception):
    """A step that failed: says which, why, and where its log is."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        self.log = log
        super().__init__(f"{message}\n  log: {log}" if log else message)


class DiskFullError(StepError):
    """A step that failed because a disk is full."""


def cache_root() -> Path:
    """Folder of all cached artifacts; made when missing."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    root = Path(base).absolute() / "mock-device"
    root.mkdir(parents=True, exist_ok=True)
    return root


def log_path(kind: str) -> Path:
    """Log of the builds of ``kind``."""
    folder = cache_root() / "logs"
    folder.mkdir(exist_ok=True)
    return folder / f"{kind}.log"


class NotCachedError(StepError):
    """An artifact that would have to be built, while ``only_looking``."""


# Of the whole process: builders remember their artifacts, and ask for them once only.
_asked_for: set[Path] = set()
_looking = False


@contextmanager
def only_looking() -> Iterator[set[Path]]:
    """Build nothing: what is not cached raises NotCachedError. Gives the set of all artifacts that are asked for."""
    global _looking  # noqa: PLW0603 - one process looks or builds
    _looking = True
    try:
        yield _asked_for
    finally:
        _looking = False


def _hash_path(digest: hashlib._Hash, path: Path) -> None:
    if path.is_symlink():
        digest.update(b"link " + str(path.readlink()).encode())
    elif path.is_dir():
        digest.update(b"dir")
        for child in sorted(path.iterdir()):
            if child.name in {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}:
                continue
            digest.update(child.name.encode() + b"\0")
            _hash_path(digest, child)
    else:
        executable = b"x" if path.stat().st_mode & stat.S_IXUSR else b"-"
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(b"file" + executable + content)


def key_of(inputs: Mapping[str, Input]) -> str:
    """Hash (16 hex digits) of ``inputs``; a ``Path`` counts by its content, files and folders."""
    digest = hashlib.sha256()
    for name in sorted(inputs):
        value = inputs[name]
        digest.update(name.encode() + b"=")
        items: Sequence[str | bytes | Path] = [value] if isinstance(value, str | bytes | Path) else value
        for item in items:
            if isinstance(item, Path):
                _hash_path(digest, item)
            else:
                digest.update(item if isinstance(item, bytes) else item.encode())
            digest.update(b"\0")
    return digest.hexdigest()[:16]


def try_lock(file: IO[str]) -> bool:
    """Lock an open file for this process; False when another one has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file ``path``; says who has it while it waits.

    The kernel gives the lock back when its owner dies, however it dies.
    Raises StepError after an hour.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
    told = False
    with path.open("a+", errors="replace") as file:
        while not try_lock(file):
            if not told:
                file.seek(0)
                progress.say(f"waiting for process {file.read().strip() or '?'}, which works on: {what}")
                told = True
            if time.monotonic() > deadline:
                raise StepError(f"{what}: {path} is still locked after {_LOCK_TIMEOUT_SECONDS:.0f} s")
            time.sleep(_LOCK_POLL_SECONDS)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def remove_tree(path: Path) -> None:
    """Remove a folder, also when it holds folders without permissions (of Go's module cache, of overlayfs)."""
    path.chmod(0o700)
    for folder, folders, _ in os.walk(path):
        for child in folders:
            if not Path(folder, child).is_symlink():
                Path(folder, child).chmod(0o700)
    shutil.rmtree(path)


def search_path() -> str:
    """PATH for commands that are run: an ordinary user's lacks where nft and mke2fs are."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


@contextmanager
def explained_when_full(folder: Path, what: str) -> Iterator[None]:
    """Raise DiskFullError for what fails inside if the disk of ``folder`` is full.

    Programs often say something else: QEMU "Input/output error", or it stops its guest, for which others wait in vain.
    """
    try:
        yield
    except DiskFullError:
        raise
    except (StepError, OSError) as error:
        full = disk.shortage(folder)
        if full or disk.says_full(error):
            raise DiskFullError(f"{what}: {full or disk.FULL}; free some space, see: lab cache\n  {error}") from error
        raise


def cached(kind: str, inputs: Mapping[str, Input], build: Callable[[Path], None], *, what: str) -> Path:
    """Return the folder of an artifact, after ``build(folder)`` if it is not there yet.

    ``what`` names the work for people. Two processes that need the same artifact
    build it once. Whatever ``build`` raises leaves nothing behind but the log.
    Raises DiskFullError when the disk is full, also if that shows only when it is synced.
    """
    final = cache_root() / kind / key_of(inputs)
    _asked_for.add(final)
    if final.is_dir():
        if not _looking:
            final.touch()
        return final
    if _looking:
        raise NotCachedError(f"{what}: not in the cache")
    with locked(cache_root() / kind / f"{final.name}.lock", what):
        if final.is_dir():
            return final
        for stale in final.parent.glob(f"{final.name}.tmp*"):
            remove_tree(stale)
        partial = final.with_name(f"{final.name}.tmp{os.getpid()}")
        partial.mkdir()
        descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with progress.step(what, log_path(kind)), explained_when_full(partial, what):
                log_path(kind).write_text("")
                build(partial)
                # Not fsync(2) of each file: that takes 13 s for QEMU's tree, this 0.4 s.
                disk.sync(descriptor)
            partial.rename(final)
        except BaseException:
            remove_tree(partial)
            raise
        finally:
            os.close(descriptor)
    return final


def run(
    argv: Sequence[str | Path],
    *,
    log: Path | None = None,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: Path | None = None,
) -> bytes:
    """Run a command to its end and return its standard output.

    Standard error goes to ``log`` as it comes, standard output after the end,
    when a log is given. ``timeout`` is wall time in seconds; the command and
    its children are killed after it, and on any exception here (Ctrl-C too).
    ``env`` is added to the environment; ``stdin`` is a file that is read.
    Raises StepError with the end of the output when the command cannot be run,
    fails or takes too long.
    """
    command = [str(part) for part in argv]
    with (
        tempfile.TemporaryFile() if log is None else log.open("ab+") as errors,
        (stdin or Path(os.devnull)).open("rb") as source,
    ):
        errors.write(f"$ {' '.join(command)}\n".encode(errors="replace"))
        errors.flush()
        begin = errors.tell()
        try:
            child = subprocess.Popen(
                command,
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PATH": search_path(), **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise StepError(f"cannot run {command[0]}: {error}", log) from error
        try:
            out, _ = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise StepError(f"{command[0]} did not end within {timeout:.0f} s", log) from error
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        errors.seek(begin)
        tail = errors.read()[-2000:] or out[-2000:]
        if log is not None:
            errors.write(out)
    if child.returncode:
        lines = tail.decode(errors="replace").strip().splitlines()[-5:]
        raise StepError(f"{' '.join(command[:6])} ended with {child.returncode}: " + "\n  ".join(lines), log)
    return out


def write_file(path: Path, data: str | bytes, mode: int = 0o644) -> None:
    """Write ``path`` whole: beside it, synced, then renamed over it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
