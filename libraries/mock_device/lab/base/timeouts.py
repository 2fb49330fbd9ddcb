"""All time-outs of the lab, and the factor that makes them longer on a slow machine.

A time-out bounds a wait for a machine, a cluster or a command; a test that succeeds does not notice it. Not
time-outs, and so not here: pauses between two looks, terms of a protocol or of a manifest, durations for which nothing
may happen, and limits that a test checks (docs/decisions/0030-one-table-of-time-outs.md).

Two units keep the factor from being applied twice:

- a ``timedelta`` is nominal: what a table, a suite or a keyword says, for a factor of 1;
- ``seconds`` as a float are wall time. ``seconds()`` and ``Timeout.seconds`` convert, where a wait begins.
"""

from __future__ import annotations

import math
import os
from datetime import timedelta
from enum import Enum, unique

from mock_device.lab.base.errors import StepError

VARIABLE = "LAB_TIMEOUT_FACTOR"
"""Environment variable with the factor; it takes precedence over the profile's."""
SMALLEST, LARGEST = 0.5, 20.0
"""Bounds of the factor. With less, clients would not wait for a supervisor's signs of life (every 30 s)."""
_profile_factor = 1.0


def factor() -> float:
    """The factor of all time-outs: that of the environment, else of the profile in use, else 1. Raises StepError."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return _profile_factor
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not SMALLEST <= value <= LARGEST:
        raise StepError(f"{VARIABLE}: expected a number from {SMALLEST:g} to {LARGEST:g}, found {text!r}")
    return value


def use_profile(value: float) -> None:
    """Let the time-outs of this process follow ``timeout-factor`` of the profile of the cluster that it works with."""
    global _profile_factor  # noqa: PLW0603 - all clusters of a process have one profile
    _profile_factor = value


def environment() -> dict[str, str]:
    """Environment variable with the factor, for child processes that do not know the profile."""
    return {VARIABLE: f"{factor():g}"}


def seconds(nominal: timedelta) -> float:
    """Wall time in seconds of a wait whose time-out is ``nominal``."""
    return nominal.total_seconds() * factor()


def exactly(wall_time: timedelta) -> timedelta:
    """The nominal time-out of a wait that takes ``wall_time``, whatever the factor: for a limit that a test checks."""
    return wall_time / factor()


@unique
class Timeout(Enum):
    """A time-out: its nominal length in seconds, and what it bounds."""

    def __init__(self, nominal: float, bounds: str) -> None:
        self.nominal = timedelta(seconds=nominal)
        self.bounds = bounds

    @property
    def seconds(self) -> float:
        """Wall time in seconds."""
        return seconds(self.nominal)

    # Processes, files and namespaces of this machine.
    LOCK = 3600, "another process releases a lock, such as that of a build"
    NAMESPACES = 10, "a program in new namespaces mounts a file system and ends"
    KILLED = 5, "a process ends that was told to end or was killed"
    ANSWER = 120, "a process of the lab answers a request, or shows that it still works on it"
    GIT = 30, "git answers"

    # Builds, on this machine.
    GO_VERSION = 30, "Go prints its version"
    QEMU_VERSION = 60, "QEMU prints its version or its devices"
    DEBIAN_TREE = 1200, "a tree of Debian packages is downloaded and unpacked"
    GO_BUILD = 2400, "a Go program is compiled, its modules downloaded"
    BUILD_END = 30, "a build in another process ends after Ctrl-C"
    MODULE_BUILD = 300, "the kernel module is compiled or checked"
    KERNEL_BUILD = 3600, "the debug kernel is configured or compiled"
    IMAGE_BUILD = 600, "a step of a container image is built"
    PIP = 600, "pip downloads the driver's packages"
    CHART = 120, "Helm renders the chart"
    E2E_ANSWER = 120, "Kubernetes' own tests name their images, or themselves"
    IMAGE_PULL = 1800, "an image is pulled from a registry"
    IMAGE_PUSH = 60, "an image is pushed to the cluster's registry"
    K3S_DOWNLOAD = 600, "the connection from which k3s is downloaded answers"
    K3S_DISK = 300, "a node's disk is copied or changed for k3s"
    NODE_IMAGE_SERVICE = 30, "a service is enabled in the node image, or containerd starts there or ends"
    NODE_IMAGE_IMPORT = 300, "an image is imported into the node image, or its initrd is made"
    NODE_IMAGE_DISK = 300, "the node image's disk is made"
    OUTER_GUEST = 600, "a step of the outer guest of `make test-kvm` is built: packages, initrd, disk"
    OPERATOR_CLONE = 300, "an operator's repository is cloned"
    OPERATOR_RENDER = 120, "an operator's manifests are rendered"

    # One guest.
    KERNEL_PROBE = 20, "the nodes' kernel prints something under KVM; else guests are emulated"
    MONITOR_CONNECT = 20, "QEMU accepts a connection to its monitor"
    # Long: on a busy machine a good golden cluster must not look broken.
    MONITOR_COMMAND = 120, "QEMU answers a command"
    MONITOR_LOOK = 100, "QEMU answers a question of `lab diagnose`; the supervisor must answer before ANSWER ends"
    UNPLUG = 60, "a guest releases a device that is unplugged"
    SAVE = 300, "a guest's memory is saved"
    LOAD = 120, "a guest's memory is loaded"

    # The supervisor and its processes.
    MOUNT = 10, "a tmpfs is mounted"
    NFT = 10, "rules for the guests' way to the internet are set"
    FIRST_HOLDER = 30, "the launcher connects to the supervisor that it has started"
    CONNECT_GUEST = 10, "a guest accepts a forwarded connection"
    DEVICE_SERVER = 30, "a device server starts"
    DEVICE_ANSWER = 10, "a device server answers a request for a fault"
    QEMU_IMG = 30, "a guest's disk is created on its base"
    LOCAL_HTTPS = 5, "a component of the control plane answers on this machine"
    ETCD = 60, "etcd is ready"
    API_SERVER = 180, "the API server is ready"
    COMPONENT = 120, "another component of the control plane is ready"
    FIRST_OBJECTS = 30, "the API server takes one of its first objects"
    REGISTRY = 60, "the cluster's registry is ready"
    CLOCK = 120, "a guest sets its clock after a restore"
    CONNECTIONS_CLOSED = 3, "guests notice, before they are saved, that connections have ended"
    # Boot of the guest, then start of etcd and API server there, without hardware virtualisation.
    NODE_CONTROL_PLANE = 900, "a control plane on a node is ready after a boot"
    # Long: on a busy machine a good golden cluster must not look broken.
    NODE_CONTROL_PLANE_RESTORED = 300, "a control plane on a node is ready after a restore"
    JOURNAL = 90, "a node shows the journal of its control plane"

    # Requests to an API server.
    API_CONNECT = 10, "the API server accepts a connection"
    API_REFUSES = 10, "an API server that restarts accepts connections again; else the cluster has ended"
    API_REQUEST = 30, "the API server answers a request that names no other time-out"
    API_DELETE = 60, "deleted objects are gone"

    E2E_END = 300, "Kubernetes' own tests clean up and report after their time is over, or after Ctrl-C"

    # Start, stop and installation of a cluster.
    NAME_FREE = 5, "a cluster of the same name that is being stopped ends"
    STOP = 30, "a cluster ends"
    POOL_CLUSTER = 1200, "the pool of a run starts a cluster, whose builds may not be cached"
    VALUE_SET = 3600, "other suites of a run return a cluster"
    INTERRUPTED_PABOT = (
        3,
        "pabot ends its suites and writes a report after Ctrl-C, which it gets from the terminal, too",
    )
    INTERRUPTED_RUN = 60, "`acceptance` ends its clusters and writes a report after SIGINT"
    # Without hardware virtualisation, a two-node cluster takes a third of each of these three.
    NODES_READY = 400, "all nodes are Ready after a start"
    ROLLOUT = 240, "driver, module loader or operator run on all nodes"
    PUBLISHED = 180, "ResourceSlices of all nodes are published"
    UNDEPLOY = 120, "driver or module loader are gone"
    SSH_CONNECT = 30, "a node's SSH server accepts a connection"
    # It takes about a second, on nodes without hardware virtualisation that share a busy core.
    NODE_COMMAND = 180, "a short command on a node"
    IMAGE_LOAD = 300, "an image is loaded onto a node"
    IMAGE_LAYERS = 60, "a node lists the layers that it has"
    NODE_IMAGES = 120, "a node lists or removes images"
    HELM = 60, "Helm answers a question"
    HELM_MORE = 120, "what Helm takes beside its own time-out: to connect, to write its records, and to roll back"
    REGISTRY_ANSWER = 10, "the cluster's registry answers"
    CRD = 60, "the API server serves the operator's resources"
    WEBHOOK = 60, "the operator's webhook answers"
    # Without hardware virtualisation, loading takes a tenth of it.
    KMM_LOAD = 300, "the operator has loaded the module on all nodes"
    KMM_REMOVE = 180, "the operator has unloaded the module"
    ATTACH_ROLLOUT = 600, "module or driver run on the nodes of a cluster that exists"
    DETACH_REMOVE = 600, "what an attachment has made is removed"
    ATTACH = 1800, "`lab attach` ends, in a nightly round"
    DETACH = 900, "`lab detach` ends, in a nightly round"
    FOREIGN = 120, "a step that makes a cluster of the lab look like another one, in a nightly round"

    # Tools that show a cluster.
    LOOK = 10, "a node that does not answer a tool; twice that without hardware virtualisation"
    LOOK_EXTERNAL = 60, "the same on a cluster that exists"
    VERBOSITY = 60, "all pods of the driver confirm `lab verbosity`"
    CDI_WATCH = 240, "`lab cdi watch` has looked for the first time"
    CDI_WATCHING = 600, "a test ends that lets `lab cdi watch` run"
    EVIDENCE = 30, "all evidence of a failed test"
    EVIDENCE_SOURCE = 20, "one source of evidence"

    # Checks of suites, and defaults of their keywords.
    LOGIN = 60, "an SSH login to a node"
    BOOTING_LOGIN = 30, "an SSH login to a node that may be booting"
    BOOTING_API = 10, "an API server that may be starting answers"
    RUNTIME_RESTART = 120, "a node's container runtime or kubelet is restarted"
    RUNTIME_ANSWER = 60, "a restarted container runtime answers"
    WRITES = 30, "a node has written its first files before its power is cut"
    MODPROBE = 60, "the module loader's pod loads or unloads the module"
    KMM_NODE = 180, "the operator loads or unloads the module on one node: a pod starts there, and ends"
    # An agent's first answer takes long, because it imports the Prometheus client on first use.
    METRICS = 60, "a pod of the driver answers a request"
    COUNTED = 30, "metrics count what has just happened"
    AGENT_RESTART = 180, "a restarted node agent is ready, in a measurement"
    POD_COMMAND = 60, "a command in a pod"
    DRIVER_CALL = 180, "the driver answers a call like the kubelet's"
    JOB = 120, "a job that a pod runs on its device ends"
    MEASURED_JOBS = 600, "the jobs of a measurement end, on all devices"
    NODE_STATE = 30, "sysfs, status registers or CDI files of a node show a change"
    LOG_LINE = 30, "a pod of the driver logs a change"
    CLAIM_STATE = 30, "a claim has no devices any more"
    CLAIM_REPORT = 300, "a claim or a pod shows an event, a condition or the health of its devices"
    CHECKPOINT = 180, "checkpoints record the claims in use"
    HEALTHY = 180, "a cluster is healthy again"
    DIAGNOSED = 600, "`lab diagnose` finds what it should"
    CDI_REPORT = 60, "`lab cdi watch` reports a file"
    SLICES = 60, "ResourceSlices show what sysfs shows"
    RESTORED = 300, "a driver publishes again what others have deleted or changed"
    TAINTED = 180, "a device is tainted, or not any more"
    NO_SLICE = 180, "the driver's ResourceSlices are gone"
    DRIVER_PODS = 60, "the driver's pods run"
    DRIVER_RESTART = 300, "a pod of the driver has restarted, or its node agents are gone"
    AGENT_SETTINGS = 600, "all node agents run with other settings"
    AGENT_CRASH = 900, "the kubelet has restarted a killed node agent, whose back-off grows"
    AGENT_REGISTERED = 600, "a node agent reports that the kubelet has registered it, also after a power cut"
    ROLLING_UPDATE = 900, "all node agents are replaced, one after the other"
    NODES = 60, "the nodes are Ready"
    KUBELET = 300, "a restarted kubelet or container runtime serves its pods"
    REBOOT = 900, "a node has rebooted and is Ready"
    POD = 600, "a pod runs"
    POD_PENDING = 60, "the scheduler has tried to place a pod"
    EVICTION = 120, "Kubernetes evicts a pod whose device has a taint, and says so in the rule"
    POOL_STATUS = 60, "Kubernetes counts the devices of all pools"
    RIGHTS = 30, "the API server knows the rights of a new role"
    DELETED = 600, "objects that tests have made are gone"
    PULL_FAILURE = 120, "a pull has failed, with an event"
    RELEASE = 600, "Helm installs, upgrades, rolls back or uninstalls the release"
    RELEASE_FAILURE = 60, "an upgrade of the release fails"
    MODULE = 300, "the operator or the nodes show a change of the module"
    NODE_EVENT = 120, "a node has an event"
    LISTING = 360, "commands of the guide end"
    OLD_LISTING = 60, "commands of an earlier guide end"
