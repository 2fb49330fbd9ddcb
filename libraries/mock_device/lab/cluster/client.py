"""Provides clusters to commands and suites: starts, restores, attaches or borrows one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mock_device import topology as topologies
from mock_device.driver import current
from mock_device.lab.base import progress, timeouts
from mock_device.lab.base.defaults import DEFAULT_NAME, DEFAULT_PROFILE, DEFAULT_TOPOLOGY
from mock_device.lab.base.disk import explained_when_full
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.variables import topology_names, topology_path
from mock_device.lab.cluster import attached, deploy, drivers, golden, inventory, kvm
from mock_device.lab.cluster import profile as profiles
from mock_device.lab.cluster.attached import ExternalCluster
from mock_device.lab.cluster.cluster import Cluster
from mock_device.lab.cluster.control import Control, NoClusterError
from mock_device.lab.cluster.guest_cluster import GuestCluster, start
from mock_device.lab.cluster.launcher import RUN_PREFIX, StartError
from mock_device.lab.cluster.loader_settings import LoaderKind
from mock_device.lab.cluster.profile import Profile
from mock_device.topology import Topology
from mock_device.topology.features import Feature, missing


class NoTopologyError(StepError):
    """No topology offers the requested features."""


def up(
    topology: str = DEFAULT_TOPOLOGY,
    name: str = DEFAULT_NAME,
    who: str = "lab up",
    profile: str = DEFAULT_PROFILE,
    *,
    cold: bool = False,
    internet: bool = False,
    module_loader: LoaderKind | None = None,
    driver: str | None = None,
) -> GuestCluster:
    """Start a cluster with kernel module, driver and devices, held by this process.

    It is restored from a matching golden cluster, which is built first if it is
    not cached; ``cold`` boots the cluster instead. ``topology`` is a name in
    ``variables/topologies`` or the path of a file, ``profile`` a name in
    ``variables`` or a path; ``module_loader`` takes precedence over the profile's.
    ``driver`` is a name in ``variables/drivers`` or a path; without it, the one of
    the environment, else this project's.
    Guests reach the outside with ``internet``, or if the profile says so.
    Raises TopologyError or StepError.
    """
    loaded = topologies.load(topology_path(topology))
    if loaded.external:
        raise StepError(f"{loaded.path}: describes nodes that exist (external: true), which lab up cannot start")
    if attached.is_attached(name):
        raise StepError(f"{name!r} is a cluster that is attached; use another name, or: lab detach --name {name}")
    loaded_profile = profiles.load(profile)
    timeouts.use_profile(loaded_profile.timeout_factor)
    if internet:
        loaded_profile = replace(loaded_profile, internet=True)
    if module_loader:
        loaded_profile = replace(loaded_profile, module_loader=module_loader)
    current.use(drivers.choose(driver), loaded)
    loader = deploy.loader_of(loaded_profile)
    # Missing files are found before anything is built or started.
    loader.archives()
    deploy.build_images()
    loaded_profile = kvm.with_working_accelerator(loaded_profile, progress.say)
    finish: Callable[[GuestCluster], None]
    if cold:
        cluster = start(name, loaded, loaded_profile, who)
        finish = partial(deploy.bring_up, loader=loader)
    else:
        cluster = _restore(name, loaded, loaded_profile, who)
        finish = deploy.add_devices
    try:
        # QEMU stops a guest that finds the disk full; without this, the error would only mention a time-out.
        with explained_when_full(cluster.log_dir, f"cluster {name}"), cluster.failing_fast():
            finish(cluster)
    except BaseException:
        cluster.release()
        raise
    return cluster


def _restore(name: str, topology: Topology, profile: Profile, who: str) -> GuestCluster:
    """Restore a cluster from a golden one; one that cannot be restored is quarantined and rebuilt, once."""
    folder = golden.with_driver(topology, profile)
    which = golden.identity(folder)
    try:
        return start(name, topology, profile, who, golden=folder)
    except StartError as error:
        if not error.golden:
            raise
        if quarantine := golden.quarantine(folder, which, error):
            progress.say(f"{error}\nthis golden cluster is quarantined as {quarantine} and rebuilt")
        else:
            progress.say(f"{error}\nanother process rebuilds this golden cluster")
    return start(name, topology, profile, who, golden=golden.with_driver(topology, profile))


def attach(name: str = DEFAULT_NAME, who: str = "lab", *, any_driver: bool = False) -> Cluster:
    """Hold the cluster ``name``, which runs or is attached.

    Unless ``any_driver`` will do, it must have the driver that the user has chosen.
    Raises NoClusterError, or StepError with the reason why it cannot be used.
    """
    cluster = _attach(name, who)
    try:
        if not any_driver:
            drivers.check_deployed(name, cluster.drivers)
    except StepError:
        cluster.release()
        raise
    return cluster


def _attach(name: str, who: str) -> Cluster:
    if attached.is_attached(name):
        return ExternalCluster(name)
    control = Control(name)
    try:
        control.request("hold", who=who)
        if (status := control.request("status"))["state"] != "running":
            raise StepError(_not_running(name, status))
        return GuestCluster(control)
    except BaseException:
        control.close()
        raise


def _not_running(name: str, status: Mapping[str, Any]) -> str:
    """Why a cluster whose supervisor reports ``status`` cannot be used, and what to do."""
    state = status["state"]
    why = f"cluster {name!r} is {state}"
    match state:
        case "starting":
            step = f" (at the step: {status['step']})" if status["step"] else ""
            return f"{why}{step}; wait until it runs, see: lab clusters"
        case "failed":
            return f"{why}: {status['reason']}; start it again: lab down --name {name} && lab up --name {name}"
        case _:  # saving or stopping
            return f"{why}, it ends in a moment; start it again: lab up --name {name}"


def default(who: str) -> Cluster:
    """The cluster of ``lab up``, held by this process; started if it is not running."""
    try:
        return attach(DEFAULT_NAME, who)
    except NoClusterError:
        return up(who=who)


def borrow(
    topology: str | None = None,
    features: Collection[Feature] = (),
    who: str = "robot",
    profile: str = DEFAULT_PROFILE,
    driver: str | None = None,
) -> Cluster:
    """The cluster of ``lab up`` if it fits, else one started for this process by ``profile``.

    If ``profile`` describes a cluster that exists, it is that cluster, which must be attached.

    Without a ``topology``, any topology that offers the ``features`` fits; the
    default topology is preferred. With a ``driver`` (a name in
    ``variables/drivers``, or a path) only a cluster that has it fits. Raises NoTopologyError if no topology offers
    all ``features``, or if ``topology`` lacks one of them. A cluster started for
    this process ends with it, also after kill -9.
    """
    chosen = drivers.choose(driver)
    if profiles.read(profile)[1]["kind"] == inventory.KIND:
        return _borrow_attached(inventory.load(profile).path, features)
    if topology:
        wanted = topologies.load(topology_path(topology))
        if lacking := missing(wanted, features):
            raise NoTopologyError(f"no {', '.join(lacking)} in topology {wanted.name}")
    with contextlib.suppress(NoClusterError):
        cluster = attach(DEFAULT_NAME, who, any_driver=True)
        has_driver = chosen is None or chosen in cluster.drivers
        if has_driver and (cluster.topology == wanted if topology else not missing(cluster.topology, features)):
            return cluster
        if not has_driver:
            has = ", ".join(item.name for item in cluster.drivers)
            progress.say(f"cluster {cluster.name!r} has {has}, not {chosen.name if chosen else ''}")
        elif topology and cluster.topology.path == wanted.path:
            progress.say(f"{wanted.path} has changed since cluster {cluster.name!r} was started from it")
        cluster.release()
    return up(topology or _fitting(features), f"{RUN_PREFIX}{os.getpid()}", who, profile, driver=driver)


def _borrow_attached(profile: Path, features: Collection[Feature]) -> Cluster:
    """The cluster that is attached by ``profile``. Raises NoTopologyError if its topology lacks a feature."""
    name = attached.attached_by(profile)
    if name is None:
        raise StepError(f"{profile}: its cluster is not attached; attach it: lab attach --profile {profile}")
    cluster = ExternalCluster(name)
    drivers.check_deployed(name, cluster.drivers)
    if lacking := missing(cluster.topology, features):
        raise NoTopologyError(f"no {', '.join(lacking)} in topology {cluster.topology.name} of cluster {name!r}")
    return cluster


def _fitting(features: Collection[Feature]) -> str:
    """Name of a topology of the project that offers all ``features``."""
    names = [DEFAULT_TOPOLOGY, *topology_names()]
    for name in names:
        if not missing(topologies.load(topology_path(name)), features):
            return name
    wanted = ", ".join(feature.value for feature in features)
    raise NoTopologyError(f"no topology of the project offers all of {wanted}; available: {', '.join(names[1:])}")
