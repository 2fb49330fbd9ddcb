"""Deletes the objects that tests created, and waits until they are gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from http import HTTPStatus

from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from mock_device.checks.objects import kube
from mock_device.lab.base import timeouts


def delete_everything(api: ApiClient, timeout: timedelta) -> None:
    """Delete all objects that tests created, in this run or an earlier one, and wait until they are gone.

    ``timeout`` is for everything together; when it expires, CheckError names the remaining objects.
    """
    deadline = time.monotonic() + timeouts.seconds(timeout)
    core, resource = client.CoreV1Api(api), client.ResourceV1Api(api)
    kinds = {
        "pods": (core.delete_collection_namespaced_pod, core.list_namespaced_pod),
        "resource claims": (
            resource.delete_collection_namespaced_resource_claim,
            resource.list_namespaced_resource_claim,
        ),
        "resource claim templates": (
            resource.delete_collection_namespaced_resource_claim_template,
            resource.list_namespaced_resource_claim_template,
        ),
    }
    for delete, _ in kinds.values():
        delete(kube.namespace_of_tests(api), label_selector=kube.SELECTOR)
    client.NodeV1Api(api).delete_collection_runtime_class(label_selector=kube.SELECTOR)
    for delete_all in (
        resource.delete_collection_device_taint_rule,
        client.ResourceV1alpha3Api(api).delete_collection_resource_pool_status_request,
        # Its claim goes with it, once its pods are gone.
        partial(client.SchedulingV1beta1Api(api).delete_collection_namespaced_pod_group, kube.namespace_of_tests(api)),
    ):
        _delete_where_served(delete_all)
    for what, (_, lister) in kinds.items():
        kube.wait_gone(api, what, lister, {"label_selector": kube.SELECTOR}, deadline)


def _delete_where_served(delete: Callable[..., object]) -> None:
    """Delete objects of tests, of a kind that an API server need not serve: it is new, or its feature gate is off."""
    try:
        delete(label_selector=kube.SELECTOR)
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
