"""A chart as a Helm release on a cluster: install, upgrade, roll back, uninstall."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import chart
from mock_device.lab.build.chart import Values
from mock_device.lab.kube import kubeclient, manifests
from mock_device.names import NAMESPACE

DEPLOYED = "deployed"


@dataclass(frozen=True)
class Revision:
    """One revision of a release, as ``helm history`` lists it."""

    number: int
    status: str
    """``deployed``, ``superseded``, ``failed``, …"""
    description: str


def parse_history(text: str) -> list[Revision]:
    """Revisions in the JSON of ``helm history``, oldest first. Raises StepError."""
    try:
        return [Revision(int(item["revision"]), item["status"], item["description"]) for item in json.loads(text)]
    except (ValueError, KeyError, TypeError) as error:
        raise StepError(f"expected a list of revisions from helm history, found {text[:200]!r}") from error


class Release:
    """The release of a chart on one cluster, by default of the project's.

    Helm works with server-side apply, and waits until pods are ready.

    ``--force-conflicts`` is always given: objects that were applied by another
    field manager before they were taken over, as `lab` and kubectl do, would keep
    that manager as an owner of each field, and no upgrade could change it.
    """

    def __init__(
        self,
        kubeconfig: Path,
        log: Path | None = None,
        *,
        name: str = chart.RELEASE,
        source: Path = chart.CHART,
        namespace: str = NAMESPACE,
    ) -> None:
        """``log`` is a file for Helm's messages, ``source`` the chart."""
        self._kubeconfig = kubeconfig
        self._log = log
        self._name = name
        self._source = source
        self._namespace = namespace

    def history(self) -> list[Revision]:
        """Its revisions, oldest first; none if it is not installed. Raises StepError."""
        if not self.exists():
            return []
        return parse_history(self._helm(["history", self._name, "--output=json"], Timeout.HELM.seconds))

    def exists(self, label: str = "") -> bool:
        """Whether it is installed, also if that failed; with ``label`` (``NAME=VALUE``), whether it has that label."""
        states = ["--deployed", "--failed", "--pending", "--uninstalling"]
        selector = [f"--selector={label}"] if label else []
        listed = json.loads(self._helm(["list", *states, *selector, "--output=json"], Timeout.HELM.seconds))
        return any(item["name"] == self._name for item in listed)

    def install(self, values: Values, timeout: float, *, take_ownership: bool = False, label: str = "") -> None:
        """Install the chart with ``values``, and wait until it serves.

        With ``take_ownership``, objects that exist become the release's; ``label`` (``NAME=VALUE``) is one of the
        release. ``timeout`` is wall time in seconds, here and below; when it expires, and for values that the chart or
        the cluster refuses, StepError has Helm's message.
        """
        arguments = ["--take-ownership"] if take_ownership else []
        arguments += [f"--labels={label}"] if label else []
        self._change("install", [self._name, self._source, *chart.settings(values), *arguments], timeout)

    def upgrade(self, values: Values, timeout: float) -> None:
        """Give the release ``values``, the chart's for all others. A failure rolls back, then raises StepError."""
        arguments = ["--reset-values", "--rollback-on-failure"]
        self._change("upgrade", [self._name, self._source, *chart.settings(values), *arguments], timeout)

    def roll_back(self, revision: int, timeout: float) -> None:
        """Give the release the chart and values of ``revision``, as a new revision."""
        self._change("rollback", [self._name, str(revision)], timeout)

    def uninstall(self, timeout: float) -> None:
        """Delete all objects of the release, and wait until they are gone. No error if it is not installed.

        The next release may be installed at once. Helm's own waiting ends when the first objects are gone, if it has
        not seen the others yet (4.3.1, ``pkg/kube/statuswait.go``); a release that is installed then takes over objects
        that vanish a moment later.
        """
        deadline = time.monotonic() + timeout
        manifest = self._helm(["get", "manifest", self._name], Timeout.HELM.seconds) if self.exists() else ""
        arguments = ["uninstall", self._name, "--ignore-not-found", "--cascade=foreground"]
        self._helm([*arguments, "--wait", f"--timeout={timeout:.0f}s"], timeout + Timeout.HELM_MORE.seconds)
        if made := manifests.read_manifest(manifest):
            api = kubeclient.connect(self._kubeconfig)
            manifests.wait_gone(api, made, self._namespace, max(deadline - time.monotonic(), Timeout.HELM.seconds))

    def _change(self, command: str, arguments: Sequence[str | Path], timeout: float) -> None:
        waiting = ["--wait", f"--timeout={timeout:.0f}s", "--force-conflicts"]
        # A failed upgrade waits once more, for its rollback.
        self._helm([command, *arguments, *waiting], 2 * timeout + Timeout.HELM_MORE.seconds)

    def _helm(self, arguments: Sequence[str | Path], timeout: float) -> str:
        argv = [chart.helm_program(), *arguments, f"--namespace={self._namespace}"]
        with tempfile.TemporaryDirectory(prefix="mock-device-") as folder:
            # Helm's own folders and its cache of a cluster's API, which would serve the next cluster on the same port.
            own = {f"HELM_{kind}_HOME": f"{folder}/{kind.lower()}" for kind in ("CACHE", "CONFIG", "DATA")}
            environment = {"KUBECONFIG": str(self._kubeconfig), "KUBECACHEDIR": f"{folder}/kube", **own}
            return run(argv, timeout=timeout, env=environment, log=self._log).decode()
