"""Starts a cluster's supervisor in new namespaces, and waits until the cluster runs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from mock_device.driver import current
from mock_device.lab.base import disk, progress
from mock_device.lab.base.errors import DiskFullError, StepError
from mock_device.lab.base.files import remove_tree, write_file
from mock_device.lab.base.locks import try_lock
from mock_device.lab.base.namespaces import unshare
from mock_device.lab.base.spec import (
    NO_INTERNET,
    Access,
    ClusterPaths,
    ClusterSpec,
    ImageSpec,
    QemuSpec,
    control_address,
)
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build.gobuild import build_embedded_k8s, build_registry
from mock_device.lab.build.qemu_build import ensure_qemu
from mock_device.lab.cluster import drivers, passt, profile
from mock_device.lab.cluster.control import Control, NoClusterError
from mock_device.lab.cluster.profile import Profile
from mock_device.topology import Topology

RUN_PREFIX = "run-"
"""Prefix of the names of clusters that are started for one process."""
_KEPT_RUNS = 5
_BACKLOG = 64
_LOCK_POLL_SECONDS = 0.1


class StartError(StepError):
    """The supervisor reported that a step of the start failed. (A supervisor that was killed reports nothing.)"""

    def __init__(self, message: str, log: Path | None = None, *, golden: bool = False) -> None:
        self.golden = golden
        """Whether the golden cluster from which the cluster is restored may be the cause."""
        super().__init__(message, log)


def _listen(stack: ExitStack) -> socket.socket:
    listener = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    listener.bind(("127.0.0.1", 0))
    listener.listen(_BACKLOG)
    return listener


def _claim(paths: ClusterPaths, stack: ExitStack) -> IO[str]:
    """Lock the cluster's name; the supervisor inherits the lock, which is released when it ends."""
    paths.lock.parent.mkdir(parents=True, exist_ok=True)
    lock = stack.enter_context(paths.lock.open("a+"))
    # A cluster of this name that is being stopped ends in a moment.
    if not _locked_within(lock, Timeout.NAME_FREE.seconds):
        name = paths.root.name
        raise StepError(f"cluster {name!r} is already running or starting; stop it: lab down --name {name}")
    return lock


def wait_ended(name: str) -> None:
    """Wait until a released cluster has ended. Raises StepError."""
    with ClusterPaths.of(name).lock.open("a+") as lock:
        if not _locked_within(lock, Timeout.STOP.seconds):
            raise StepError(f"cluster {name!r} has not ended after {Timeout.STOP.seconds:.0f} s")


def _locked_within(lock: IO[str], timeout: float) -> bool:
    """Lock a file that a supervisor holds while it lives; False if it still does after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not try_lock(lock):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOCK_POLL_SECONDS)
    return True


def prune_runs(folder: Path) -> None:
    """Remove the files in ``folder`` of ended clusters that were started for one process.

    The logs of the last five are kept.
    """
    ended = sorted(folder.glob(f"{RUN_PREFIX}*.lock"), key=lambda path: path.stat().st_mtime, reverse=True)
    for number, path in enumerate(ended):
        root = path.with_suffix("")
        with path.open("a+") as lock:
            if not try_lock(lock):
                continue
            if number < _KEPT_RUNS:
                for part in root.glob("*"):
                    if part.name != "logs":
                        shutil.rmtree(part) if part.is_dir() else part.unlink()
            else:
                shutil.rmtree(root, ignore_errors=True)
                path.unlink()


def launch(name: str, topology: Topology, cluster_profile: Profile, who: str, *, golden: Path | None = None) -> Control:
    """Start cluster ``name`` and return a connection that holds it.

    It boots, or is restored from the folder of a ``golden`` cluster. Builds
    missing artifacts first. Shows each step. Raises StartError with the step that
    failed and its log, or StepError if the start was not attempted or the disk is
    full. After an error, nothing keeps running.
    """
    qemu = ensure_qemu()
    binaries, registry = build_embedded_k8s(), build_registry()
    image = cluster_profile.node_image()
    paths = ClusterPaths.of(name)
    prune_runs(paths.root.parent)
    with ExitStack() as stack:
        lock = _claim(paths, stack)
        if paths.root.exists():
            remove_tree(paths.root)
        for folder in (paths.logs, paths.data, paths.sockets):
            folder.mkdir(parents=True)
        control = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        control.bind(control_address(name))
        control.listen(_BACKLOG)
        api = _listen(stack)
        registry_listener = _listen(stack)
        internet = passt.start(paths, stack) if cluster_profile.internet else None
        ssh = {node.name: _listen(stack) for node in topology.nodes}
        spec = ClusterSpec(
            name=name,
            topology=str(topology.path),
            directory=str(paths.root),
            qemu=QemuSpec(qemu.system_argv, qemu.env, cluster_profile.accelerator, cluster_profile.nested),
            qemu_img=qemu.img_argv,
            image=ImageSpec(str(image.disk), image.disk_format, str(image.kernel), str(image.initrd)),
            binaries=str(binaries),
            feature_gates=profile.flag(cluster_profile.feature_gates),
            runtime_config=profile.flag(cluster_profile.runtime_config),
            default_runtime=cluster_profile.default_runtime,
            kubelet_config=cluster_profile.kubelet_drop_in(),
            k3s=cluster_profile.k3s.spec if cluster_profile.k3s else None,
            golden=str(golden or ""),
            control_fd=control.fileno(),
            api_fd=api.fileno(),
            ssh_fds={node: listener.fileno() for node, listener in ssh.items()},
            registry=str(registry),
            registry_fd=registry_listener.fileno(),
            internet_fd=internet.fileno() if internet else NO_INTERNET,
            timeout_factor=cluster_profile.timeout_factor,
        )
        # Save the topology as it was read: the file may have changed while golden clusters were built.
        write_file(paths.topology, topology.text)
        drivers.write(paths.drivers, [current.driver()])
        spec.save(paths.spec)
        ssh_ports = {node: listener.getsockname()[1] for node, listener in ssh.items()}
        Access(api.getsockname()[1], ssh_ports, registry_listener.getsockname()[1]).save(paths.access)
        sockets = [control, api, registry_listener, *ssh.values(), *([internet] if internet else [])]
        with (paths.logs / "supervisor.log").open("ab") as log:
            subprocess.Popen(
                [*unshare(), sys.executable, "-m", "mock_device.lab.supervisor.supervisor", str(paths.spec)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno(), *(one.fileno() for one in sockets)],
                start_new_session=True,
            )
    connection = Control(name)
    try:
        connection.request("hold", who=who)
        _show_start(connection, paths)
    except StartError as error:
        full = disk.shortage(paths.root)
        connection.close()
        wait_ended(name)
        if full:
            # Not a StartError: the golden cluster is not the cause.
            raise DiskFullError(f"{full}; free some space, see: lab cache\n  {error}") from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def _show_start(connection: Control, paths: ClusterPaths) -> None:
    with ExitStack() as stack:
        for event in connection.follow():
            if event.get("state") == "running" and "step" in event:
                stack.enter_context(progress.step(event["step"], paths.logs))
            elif event.get("state") == "done":
                stack.close()
            elif event.get("state") == "failed":
                message = f"cluster {paths.root.name!r} did not start: {event['reason']}"
                raise StartError(message, paths.logs, golden=event["golden"])


def stop(name: str) -> bool:
    """Stop cluster ``name``; False if it is not running. Raises StepError if it does not end."""
    try:
        with Control(name) as connection:
            connection.request("stop")
    except NoClusterError:
        return False
    wait_ended(name)
    shutil.rmtree(ClusterPaths.of(name).data, ignore_errors=True)
    return True
