"""Robot Framework library: jobs that pods run on their devices by the program ``mock-accel``."""

from __future__ import annotations

import secrets
from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import CheckError, fail_if_any
from mock_device.checks.layers.allocation import function_of
from mock_device.checks.nodes import device_nodes, interrupts, session
from mock_device.checks.nodes.interrupts import Interrupts
from mock_device.checks.objects import job_pods, jobs, kube
from mock_device.checks.objects.claims import AllocatedDevice
from mock_device.checks.objects.job_pods import FOLDER, PROGRAM, Outcome
from mock_device.checks.objects.jobs import ExitCode
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import images, tools_program
from mock_device.lab.cluster import image_loading
from mock_device.lab.cluster.cluster import Capability


@library(scope="GLOBAL", auto_keywords=False)
class JobsLibrary:
    """Runs jobs in containers, and checks their results by Python and by the key of the devices.

    The pods are of `Create Job Pod`, whose image `Load Tools Image` puts on the nodes.
    """

    @keyword(tags=["wait"])
    def load_tools_image(self) -> None:
        """Build the image with the program ``mock-accel`` if it is not cached, and put it on all nodes."""
        archive = images.tools_image(tools_program.program())
        logger.info(str(image_loading.load(session.current().cluster, archive)))

    @keyword
    def create_job_pod(self, name: str, *claims: str, node: str | None = None, as_root: bool = False) -> None:
        """Create a pod with one idle container that has the program and uses all devices of ``claims``.

        With ``node``, the scheduler must place it there. With ``as_root`` it runs as user 0, without the restrictions
        that other pods of tests have.
        """
        kube.create_pod(session.current().api, job_pods.build(name, claims, node, as_root=as_root))

    @keyword
    def create_job_pod_with_containers(self, name: str, **containers: str) -> None:
        """Create a pod with several idle containers, given as ``container=claim``, that have the program."""
        claims = list(dict.fromkeys(containers.values()))
        used = {container: [claim] for container, claim in containers.items()}
        kube.create_pod(session.current().api, job_pods.build(name, claims, None, containers=used))

    @keyword(tags=["wait"])
    def devices_should_sign(
        self, pod: str, container: str | None = None, timeout: timedelta = Timeout.JOB.nominal
    ) -> None:
        """Check that each device of the container signs a new nonce with its own key, which the cluster's file proves.

        Name and UUID must be those of the topology. ``container`` is optional for a pod with one container.
        """
        current = session.current()
        current.cluster.check_offers({Capability.DEVICE_SERVER})
        secret = current.cluster.guests.device_key.read_bytes()
        for device in kube.devices_of_pod(current.api, pod, container):
            nonce = secrets.token_bytes(jobs.NONCE_BYTES)
            command = [PROGRAM, "identify", "--device", device.name, "--nonce", nonce.hex()]
            found = jobs.parse_identity(_run(pod, command, timeout, container))
            uuid = function_of(current.topology, device).uuid
            complaints = jobs.identity_complaints(found, device.name, uuid, nonce, secret)
            fail_if_any(f"pod {pod}, {device}: {complaint}" for complaint in complaints)
            logger.info(f"{device} has signed: {found.signature.hex()}")

    @keyword(tags=["wait"])
    def digest_should_be_right(
        self,
        pod: str,
        size: int,
        *options: str,
        container: str | None = None,
        timeout: timedelta = Timeout.JOB.nominal,
    ) -> None:
        """Check that the device's SHA-256 of ``size`` bytes is Python's. ``--window`` uses the device memory."""
        path = _write_pattern(pod, size, timeout, container)
        output = _run(pod, [PROGRAM, "sha256", *options, path], timeout, container)
        fail_if_any(f"pod {pod}: {complaint}" for complaint in jobs.digest_complaints(output, size))

    @keyword(tags=["wait"])
    def copy_should_be_right(
        self,
        pod: str,
        size: int,
        *options: str,
        container: str | None = None,
        timeout: timedelta = Timeout.JOB.nominal,
    ) -> None:
        """Check that the device copies ``size`` bytes without a change. ``--window`` uses the device memory."""
        source, target = _write_pattern(pod, size, timeout, container), f"{FOLDER}/target"
        _run(pod, [PROGRAM, "copy", *options, source, target], timeout, container)
        _run(pod, ["cmp", source, target], timeout, container)

    @keyword(tags=["wait"])
    def job_should_fail(
        self, pod: str, code: ExitCode, text: str, *arguments: str, timeout: timedelta = Timeout.JOB.nominal
    ) -> None:
        """Check that ``mock-accel`` with ``arguments`` ends with exit code ``code``, and ``text`` in its message."""
        found = job_pods.run(session.current().api, pod, [PROGRAM, *arguments], timeout)
        logger.info(str(found))
        fail_if_any(f"pod {pod}: {complaint}" for complaint in jobs.outcome_complaints(found, code, text))

    @keyword
    def start_job(
        self,
        pod: str,
        job: str,
        *arguments: str,
        container: str | None = None,
        timeout: timedelta = Timeout.POD_COMMAND.nominal,
    ) -> None:
        """Start ``mock-accel`` with ``arguments`` in the background of the pod, under the name ``job``."""
        job_pods.start(session.current().api, pod, job, [PROGRAM, *arguments], timeout, container)

    @keyword
    def job_should_be_running(self, pod: str, job: str, timeout: timedelta = Timeout.POD_COMMAND.nominal) -> None:
        """Check that the ``job`` of `Start Job` has not ended."""
        if found := job_pods.outcome(session.current().api, pod, job, timeout):
            raise CheckError(f"pod {pod!r}: expected job {job!r} to run, it has ended: {found}")

    @keyword(tags=["wait"])
    def job_should_end(
        self,
        pod: str,
        job: str,
        code: ExitCode = ExitCode.SUCCESS,
        text: str = "",
        timeout: timedelta = Timeout.JOB.nominal,
    ) -> None:
        """Wait until the ``job`` of `Start Job` ends, with exit code ``code`` and ``text`` in its output."""
        found = job_pods.wait_for(session.current().api, pod, job, timeout)
        logger.info(str(found))
        fail_if_any(f"pod {pod}, {job}: {complaint}" for complaint in jobs.outcome_complaints(found, code, text))

    @keyword(tags=["wait"])
    def get_latency_of_job(self, pod: str, timeout: timedelta = Timeout.JOB.nominal) -> float:
        """Seconds that a copy of 4 KiB by the device takes."""
        command = [PROGRAM, "bench", "--operation", "copy", "--size", "4K", "--jobs", "1", "--json"]
        found = jobs.parse_bench(_run(pod, command, timeout))
        logger.info(str(found))
        return found.median

    @keyword
    def device_memory_should_have_data(self, pod: str) -> None:
        """Check that the window of the pod's device has bytes that are not zero."""
        self._check_window(pod, empty=False)

    @keyword
    def device_memory_should_be_empty(self, pod: str) -> None:
        """Check that all bytes of the window of the pod's device are zero."""
        self._check_window(pod, empty=True)

    def _check_window(self, pod: str, *, empty: bool) -> None:
        command = ["sh", "-c", jobs.window_probe(FOLDER)]
        found = job_pods.run(session.current().api, pod, command, Timeout.JOB.nominal)
        fail_if_any(f"pod {pod}: {complaint}" for complaint in jobs.window_complaints(found, empty=empty))

    @keyword
    def container_should_not_open_device(self, pod: str, node: str, device: str) -> None:
        """Check that root in the container gets EPERM for ``device`` of ``node``, even by a node that it makes."""
        current = session.current()
        command = ["sh", "-c", device_nodes.open_probe(*device_nodes.numbers(current, node, device), FOLDER)]
        found = job_pods.run(current.api, pod, command, Timeout.POD_COMMAND.nominal)
        fail_if_any(f"pod {pod}, {node} {device}: {item}" for item in device_nodes.open_complaints(found.output))

    @keyword
    def bind_interrupts_to_numa_node(self, device: AllocatedDevice) -> None:
        """Let only the CPUs of the device's NUMA node handle its interrupts, as an administrator does."""
        session.current().on_node(device.node, interrupts.bind(self.get_interrupts(device)))

    @keyword
    def get_interrupts(self, device: AllocatedDevice) -> Interrupts:
        """How often each CPU of the node has handled interrupts of ``device``."""
        return interrupts.parse(session.current().on_node(device.node, interrupts.probe(device.name)))

    @keyword
    def interrupts_should_have_arrived_near(self, device: AllocatedDevice, before: Interrupts) -> None:
        """Check that since ``before`` CPUs of the device's NUMA node have handled its interrupts, and no others."""
        after = self.get_interrupts(device)
        fail_if_any(f"{device}: {complaint}" for complaint in interrupts.complaints(before, after))


def _write_pattern(pod: str, size: int, timeout: timedelta, container: str | None) -> str:
    """Path of a file with ``jobs.pattern`` that this writes in the pod."""
    path = f"{FOLDER}/source"
    _run(pod, ["sh", "-c", jobs.pattern_command(size, path)], timeout, container)
    return path


def _run(pod: str, command: list[str], timeout: timedelta, container: str | None = None) -> str:
    """Output of a command that must succeed."""
    found: Outcome = job_pods.run(session.current().api, pod, command, timeout, container)
    fail_if_any(f"pod {pod}: {command}: {item}" for item in jobs.outcome_complaints(found, ExitCode.SUCCESS, ""))
    return found.output
