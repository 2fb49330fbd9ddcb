"""Clusters for those who need one: started, borrowed, given back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from typing import Any

from mock_device import topology as topologies
from mock_device.lab.base import progress
from mock_device.lab.base.defaults import DEFAULT_NAME, DEFAULT_PROFILE, DEFAULT_TOPOLOGY
from mock_device.lab.base.disk import explained_when_full
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.variables import topology_names, topology_path
from mock_device.lab.cluster import deploy, golden
from mock_device.lab.cluster import profile as profiles
from mock_device.lab.cluster.cluster import Cluster, start
from mock_device.lab.cluster.control import Control, NoClusterError
from mock_device.lab.cluster.launcher import RUN_PREFIX, StartError
from mock_device.lab.cluster.profile import Profile
from mock_device.topology import Topology
from mock_device.topology.features import Feature, missing


class NoTopologyError(StepError):
    """No topology offers what is asked for."""


def up(
    topology: str = DEFAULT_TOPOLOGY,
    name: str = DEFAULT_NAME,
    who: str = "lab up",
    profile: str = DEFAULT_PROFILE,
    *,
    cold: bool = False,
) -> Cluster:
    """Start a cluster with module, driver and devices, held by this process.

    It is restored from a golden cluster, which is made first when there is none
    that fits; ``cold`` boots it instead. ``topology`` is a name in
    ``variables/topologies``, ``profile`` one in ``variables``, or they are paths
    of files. Raises TopologyError or StepError.
    """
    loaded = topologies.load(topology_path(topology))
    loaded_profile = profiles.load(profile)
    deploy.build_images()
    if cold:
        cluster = start(name, loaded, loaded_profile, who)
        finish = deploy.bring_up
    else:
        cluster = _restore(name, loaded, loaded_profile, who)
        finish = deploy.add_devices
    try:
        # QEMU stops a guest that finds the disk full, and others would only say that they waited in vain.
        with explained_when_full(cluster.log_dir, f"cluster {name}"):
            finish(cluster)
    except BaseException:
        cluster.release()
        raise
    return cluster


def _restore(name: str, topology: Topology, profile: Profile, who: str) -> Cluster:
    """A cluster from a golden one; a golden one that cannot be restored is set aside and made anew, once."""
    folder = golden.with_driver(topology, profile)
    which = golden.identity(folder)
    try:
        return start(name, topology, profile, who, golden=folder)
    except StartError as error:
        if not error.golden:
            raise
        if aside := golden.set_aside(folder, which, error):
            progress.say(f"{error}\nthis golden cluster is kept as {aside}, and made anew")
        else:
            progress.say(f"{error}\nthis golden cluster is made anew by another process")
    return start(name, topology, profile, who, golden=golden.with_driver(topology, profile))


def attach(name: str = DEFAULT_NAME, who: str = "lab") -> Cluster:
    """Hold the running cluster ``name``. Raises NoClusterError, StepError with the reason why it cannot be used."""
    control = Control(name)
    try:
        control.request("hold", who=who)
        if (status := control.request("status"))["state"] != "running":
            raise StepError(_not_running(name, status))
        return Cluster(control)
    except BaseException:
        control.close()
        raise


def _not_running(name: str, status: Mapping[str, Any]) -> str:
    """Why a cluster whose supervisor says ``status`` cannot be used yet or any more, and what to do."""
    state = status["state"]
    why = f"cluster {name!r} is {state}"
    match state:
        case "starting":
            step = f" (at the step: {status['step']})" if status["step"] else ""
            return f"{why}{step}; wait until it runs, see: lab clusters"
        case "failed":
            return f"{why}: {status['reason']}; start it again: lab down --name {name} && lab up --name {name}"
        case _:  # it is saved, or stops
            return f"{why}, it ends in a moment; start it again: lab up --name {name}"


def default(who: str) -> Cluster:
    """The cluster of ``lab up``, held by this process; started for it when there is none."""
    try:
        return attach(DEFAULT_NAME, who)
    except NoClusterError:
        return up(who=who)


def borrow(topology: str | None = None, features: Collection[Feature] = (), who: str = "robot") -> Cluster:
    """The cluster of ``lab up`` if it fits, else one started for this process.

    Without a ``topology``, any that offers the ``features`` fits; the default
    one goes first. Raises NoTopologyError when there is none, or when
    ``topology`` lacks one of them. A cluster that was started for this process
    ends with it, also by kill -9.
    """
    if topology:
        wanted = topologies.load(topology_path(topology))
        if lacking := missing(wanted, features):
            raise NoTopologyError(f"no {', '.join(lacking)} in topology {wanted.name}")
    with contextlib.suppress(NoClusterError):
        cluster = attach(DEFAULT_NAME, who)
        if cluster.topology == wanted if topology else not missing(cluster.topology, features):
            return cluster
        if topology and cluster.topology.path == wanted.path:
            progress.say(f"{wanted.path} has changed since cluster {cluster.name!r} was started from it")
        cluster.release()
    return up(topology or _fitting(features), f"{RUN_PREFIX}{os.getpid()}", who)


def _fitting(features: Collection[Feature]) -> str:
    """Name of a topology of the project that offers ``features``."""
    names = [DEFAULT_TOPOLOGY, *topology_names()]
    for name in names:
        if not missing(topologies.load(topology_path(name)), features):
            return name
    wanted = ", ".join(feature.value for feature in features)
    raise NoTopologyError(f"no topology of the project offers all of {wanted}; there are {', '.join(names[1:])}")
