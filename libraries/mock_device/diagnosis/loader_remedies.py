"""Why the kernel module is not loaded, and what to do, by the loader that the cluster has."""

from __future__ import annotations

from collections.abc import Sequence

from mock_device.diagnosis.snapshot import Snapshot
from mock_device.lab.cluster import kmm_state, module_loader
from mock_device.names import NAMESPACE

_RESTART = f"lab kubectl -n {NAMESPACE} rollout restart daemonset/{module_loader.DAEMON_SET}"
_DELETE_AND_APPLY = f"lab kubectl delete -f {kmm_state.MANIFEST} && lab kubectl apply -f {kmm_state.MANIFEST}"


def unload_and_load(snapshot: Snapshot) -> str:
    """The command that unloads the module on all nodes and loads it again."""
    return _RESTART if snapshot.kmm is None else _DELETE_AND_APPLY


def not_loaded(snapshot: Snapshot, complaints: Sequence[str], nodes: Sequence[str]) -> tuple[list[str], str]:
    """``complaints`` (one for each of ``nodes``, where the module is not loaded) with causes, and the remedy."""
    if snapshot.kmm is None:
        return list(complaints), _RESTART
    causes = kmm_state.complaints(snapshot.kmm, nodes)
    explained = []
    for node, complaint in zip(nodes, complaints, strict=True):
        reason = next((cause.text for cause in causes if cause.node in ("", node)), "KMM believes that it is loaded")
        explained.append(f"{complaint}; {reason}")
    return explained, causes[0].remedy if causes else kmm_state.load_again(nodes[0])
