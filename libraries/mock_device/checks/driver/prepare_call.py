"""Calls the driver's service as the kubelet does, from the node agent's container."""

from __future__ import annotations

from kubernetes.client import ApiClient

from mock_device.checks.driver import driver
from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import CheckError
from mock_device.checks.objects import kube
from mock_device.driver import current
from mock_device.lab.base.timeouts import Timeout

# The container has gRPC and the messages. Service and method: k8s.io/kubelet/pkg/apis/dra/v1/api.proto.
_PREPARE = """
import glob, os, sys
import grpc
from mock_accel_dra.protos import dra_v1_pb2 as dra

driver, namespace, name, uid, seconds = sys.argv[1:]
socket = max(glob.glob(f"/var/lib/kubelet/plugins/{driver}/dra*.sock"), key=os.path.getmtime)
request = dra.NodePrepareResourcesRequest(claims=[dra.Claim(namespace=namespace, name=name, uid=uid)])
with grpc.insecure_channel("unix://" + socket) as channel:
    call = channel.unary_unary(
        "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodePrepareResources",
        request_serializer=dra.NodePrepareResourcesRequest.SerializeToString,
        response_deserializer=dra.NodePrepareResourcesResponse.FromString,
    )
    print(call(request, timeout=float(seconds), wait_for_ready=True).claims[uid].error)
"""


def refusal(api: ApiClient, node: str, claim: str, uid: str) -> str:
    """What the node agent of ``node`` answers to a caller that wants ``claim`` prepared with ``uid``, not its own.

    Raises CheckError if it does not refuse because of the uid, or cannot be asked.
    """
    pod = driver.pod_of(api, Component.NODE_AGENT, node)
    arguments = [current.driver().name, kube.namespace_of_tests(api), claim, uid, str(Timeout.DRIVER_CALL.seconds)]
    command = ["/usr/bin/python3", "-c", _PREPARE, *arguments]
    answer = kube.execute(api, pod, command, Timeout.DRIVER_CALL.nominal, namespace=driver.namespace()).strip()
    if f"expected uid {uid}" not in answer:
        raise CheckError(
            f"node agent of {node}, prepare claim {claim} for uid {uid}: expected the refusal of that uid, "
            f"found {answer or 'it prepared'}"
        )
    return answer
