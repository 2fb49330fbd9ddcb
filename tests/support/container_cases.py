"""Like ``diagnosis_cases``: images and OCI runtimes of containers."""

from __future__ import annotations

from typing import Any

from mock_device.checks.nodes import runtime
from mock_device.diagnosis.snapshot import Event
from mock_device.diagnosis.steps import on_node
from support.recorded_cluster import CONFIG, NODE1, NODE2, pod
from support.runtimes import RUNTIME


def lacks_image(
    image: str, said: str = "", policy: str = "IfNotPresent", reason: str = "ImagePullBackOff", **changes: Any
) -> dict[str, Any]:
    """Changes to a cluster in which the pod waits for ``image``; ``said`` is the kubelet's last message about it."""
    waits_for = {"name": "main", "state": {"waiting": {"reason": reason}}}
    waiting_pod = pod(phase="Pending", conditions=[], containerStatuses=[waits_for])
    waiting_pod["spec"]["containers"][0] |= {"image": image, "imagePullPolicy": policy}
    events = [Event("Failed", said), Event("Failed", "Error: ErrImagePull")] if said else []
    return {"pods": [waiting_pod], "events": {"default/user": events}, **changes}


CASES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "image of an unreachable registry": (
        lacks_image(
            "nginx:1",
            'Failed to pull image "nginx:1": failed to resolve image: unexpected status from HEAD request to '
            "http://192.168.122.1:5000/v2/library/nginx/manifests/1?ns=docker.io: 403 Forbidden\n"
            "denied: this cluster has no internet: bring the image by lab load-image",
        ),
        "images are on the nodes",
        f"pod default/user: {NODE1} lacks image nginx:1, and this cluster has no internet: "
        "lab load-image, lab registry, or lab up --internet",
        "lab load-image nginx:1",
    ),
    "image that a registry lacks": (
        lacks_image("quay.io/a/b:1", 'Failed to pull image "quay.io/a/b:1": not found'),
        "images are on the nodes",
        f'pod default/user: {NODE1} cannot pull image quay.io/a/b:1: Failed to pull image "quay.io/a/b:1": not found',
        "lab kubectl -n default describe pod user",
    ),
    "image without a registry": (
        lacks_image("localhost/driver:dev", 'Failed to pull image "localhost/driver:dev": not found'),
        "images are on the nodes",
        f"pod default/user: {NODE1} lacks image localhost/driver:dev, and no registry has names with localhost",
        "lab load-image localhost/driver:dev",
    ),
    "image that must not be pulled": (
        lacks_image("app:1", policy="Never", reason="ErrImageNeverPull"),
        "images are on the nodes",
        f"pod default/user: {NODE1} lacks image app:1, and its imagePullPolicy is Never",
        "lab load-image app:1",
    ),
    "image that is always pulled": (
        lacks_image("app", policy="Always", images={NODE1: ["docker.io/library/app:latest"]}),
        "images are on the nodes",
        f"pod default/user: {NODE1} has image app, but its imagePullPolicy is Always",
        "lab kubectl -n default describe pod user",
    ),
    "image whose credentials are checked": (
        lacks_image("localhost/app:1", images={NODE1: ["localhost/app:1"]}),
        "images are on the nodes",
        f"pod default/user: {NODE1} has image localhost/app:1, but the kubelet pulled the same content under another "
        "name, so it pulls again to check credentials; expected imagePullCredentialsVerificationPolicy: NeverVerify",
        f"lab ssh {NODE1} 'systemctl cat kubelet.service'",
    ),
    "wrong default runtime": (
        {"configs": {NODE1: CONFIG, NODE2: CONFIG.replace("_name = 'crun'", "_name = 'runc'")}},
        "default runtime is as in the profile",
        f"{NODE2}: expected default runtime crun, found runc (runc)",
        on_node(NODE2, f"{runtime.set_default(RUNTIME.config, 'crun')}; systemctl restart containerd.service"),
    ),
    "default runtime that is not there": (
        {"configs": {NODE1: CONFIG, NODE2: CONFIG.replace("_name = 'crun'", "_name = 'kata'")}},
        "default runtime is as in the profile",
        f"{NODE2}: the runtime's configuration has no 'kata', so no default OCI runtime",
        f"lab ssh {NODE2} ",
    ),
    "default runtime that is not there, of a profile that names none": (
        {"default_runtime": "", "configs": {NODE1: CONFIG, NODE2: CONFIG.replace("_name = 'crun'", "_name = 'kata'")}},
        "default runtime is as in the profile",
        f"{NODE2}: the runtime's configuration has no 'kata', so no default OCI runtime",
        on_node(NODE2, "cat /etc/containerd/config.toml"),
    ),
}
