"""Changes ResourceSlices of any driver, and waits until the driver has restored what it published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import slices
from mock_device.checks.objects.slices import PublishedDevice, PublishedId

Content = Mapping[PublishedId, tuple[Any, ...]]
"""Attributes, capacities and taints of devices; not the slices in which they are, which a driver may choose anew."""


def content(published: Iterable[PublishedDevice]) -> Content:
    """What is published."""
    return {
        item.published_id: (dict(item.attributes), dict(item.capacity), tuple(map(str, item.taints)))
        for item in published
    }


def differences(expected: Content, published: Iterable[PublishedDevice]) -> list[str]:
    """How ``published`` differs from what was published before, a message for each device."""
    devices = list(published)
    found = content(devices)
    times = Counter(item.published_id for item in devices)
    result = [f"{name}: expected it once, found it {count} times" for name, count in sorted(times.items()) if count > 1]
    result += [f"{name}: expected it to be published, found it not" for name in sorted(expected.keys() - found.keys())]
    result += [f"{name}: expected it not, found it published" for name in sorted(found.keys() - expected.keys())]
    result += [
        f"{name}: expected {expected[name]}, found {found[name]}"
        for name in sorted(expected.keys() & found.keys())
        if expected[name] != found[name]
    ]
    return result


def wait_restored(api: ApiClient, expected: Content, timeout: timedelta) -> None:
    """Wait until all pools are complete and publish ``expected`` again. Raises CheckError with the differences."""
    slices.wait_published(
        api, lambda published: differences(expected, published), timeout, "ResourceSlices as they were before"
    )


def first_of(api: ApiClient, node: str) -> str:
    """Name of a ResourceSlice of the driver on ``node`` with devices. Raises CheckError if there is none."""
    names = sorted({item.slice_name for item in slices.published(api) if item.node == node})
    if not names:
        raise CheckError(f"{node}: expected ResourceSlices with devices, found none; look at: lab slices")
    return names[0]


def delete_of_node(api: ApiClient, node: str) -> list[str]:
    """Delete all ResourceSlices of the driver on ``node``, without the driver, and return their names."""
    names = sorted({item.slice_name for item in slices.published(api) if item.node == node})
    for name in names:
        slices.delete_slice(api, name)
    return names


def strip_first(api: ApiClient, node: str) -> str:
    """Remove the attributes of the first device of a slice on ``node``, without the driver; its name."""
    name = first_of(api, node)
    resource = client.ResourceV1Api(api)
    item: Any = resource.read_resource_slice(name)
    device = item.spec.devices[0]
    if not device.attributes:
        raise CheckError(f"{name}, device {device.name}: expected attributes to remove, found none")
    device.attributes = None
    resource.replace_resource_slice(name, item)
    return name
