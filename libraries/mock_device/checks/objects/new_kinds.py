"""Objects of tests of kinds that an API server need not serve: they are new, or a feature gate is off."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from kubernetes import client
from kubernetes.client import ApiClient, ApiException


def delete_all(api: ApiClient, namespace: str, label_selector: str) -> None:
    """Delete DeviceTaintRules, ResourcePoolStatusRequests and PodGroups with these labels, without waiting.

    The claim of a PodGroup goes with it, once its pods are gone.
    """
    deletions: list[Callable[..., object]] = [
        client.ResourceV1Api(api).delete_collection_device_taint_rule,
        client.ResourceV1alpha3Api(api).delete_collection_resource_pool_status_request,
        partial(client.SchedulingV1beta1Api(api).delete_collection_namespaced_pod_group, namespace),
    ]
    for delete in deletions:
        try:
            delete(label_selector=label_selector)
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
