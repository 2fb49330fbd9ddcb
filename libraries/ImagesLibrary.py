"""Robot Framework library: container images on nodes and in the cluster's registry."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.nodes import image_forms, session
from mock_device.checks.nodes.image_forms import ImageForm
from mock_device.checks.objects import image_pods, kube
from mock_device.checks.waiting import until_no_complaints
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster import image_loading, registry


@library(scope="GLOBAL", auto_keywords=False)
class ImagesLibrary:
    """Loads, pushes and pulls the small image of the tests' containers, under names that tests choose."""

    @keyword
    def load_image(self, form: ImageForm, name: str) -> None:
        """Load the image in ``form`` onto all nodes under ``name``, as ``lab load-image`` does."""
        with tempfile.TemporaryDirectory(prefix="mock-device-") as folder:
            source = image_forms.write(form, Path(folder), name)
            logger.info(str(image_loading.load(session.current().cluster, source, name)))

    @keyword
    def load_image_from_registry(self, image: str, name: str) -> None:
        """Load ``image`` of the cluster's registry onto all nodes under ``name``: it is pulled on this machine."""
        image_forms.need_skopeo()
        cluster = session.current().cluster
        reference = f"{registry.look(cluster.guests).push}/{image}"
        logger.info(str(image_loading.load(cluster, reference, name)))

    @keyword
    def push_image(self, image: str) -> str:
        """Push the image as ``image`` to the cluster's registry; returns its name for pods.

        Skips the test if skopeo is not installed.
        """
        found = registry.look(session.current().cluster.guests)
        image_forms.push(found.push, image)
        return f"{found.pull}/{image}"

    @keyword
    def create_pod_with_images(
        self, name: str, *images: str, policy: str = "IfNotPresent", node: str | None = None, claim: str | None = None
    ) -> None:
        """Create a pod with one idle container for each of ``images``, with the imagePullPolicy ``policy``.

        The containers use the devices of ``claim``.
        """
        kube.create_pod(session.current().api, image_pods.build(name, images, policy, node, claim))

    @keyword(tags=["wait"])
    def pull_should_fail(self, name: str, reason: str, timeout: timedelta = Timeout.PULL_FAILURE.nominal) -> None:
        """Wait until the pod's image could not be pulled, and the pod's events contain ``reason``."""
        api = session.current().api
        kube.wait_pod(api, name, image_pods.lacks_image, timeout, "without its image")
        until_no_complaints(lambda: image_pods.complaints(api, name, reason), timeout, "expected an event of the pull")
