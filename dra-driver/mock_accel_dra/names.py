"""Names that the API server accepts for any name of node and claim.

A name that fits is used unchanged. A name that is too long is truncated and ends in
``-`` and ten hexadecimal digits of the SHA-256 of the whole name, so different names
stay different. In names of slices and pools only the node's part is truncated.

Limits: slices and events are DNS subdomains (RFC 1123); pools are DNS subdomains
separated by ``/``. Label values follow apimachinery's ``util/validation``, field
managers its ``apis/meta/v1/validation``.
"""

from __future__ import annotations

import hashlib

from mock_accel_dra import DRIVER_NAME

SUBDOMAIN, LABEL_VALUE, FIELD_MANAGER = 253, 63, 128
"""Length limits in characters."""
_DIGITS = 10
_CLAIM = 200
"""Characters of a claim's name in the name of an event on it."""


def shortened(name: str, limit: int) -> str:
    """``name`` if it has at most ``limit`` characters; else its beginning and its hash, in ``limit`` characters."""
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"{_ended(name[: limit - _DIGITS - 1])}-{digest}"


def slice_name(node: str, device: str) -> str:
    """Name of the slice of the device published as ``device``."""
    around = f"{DRIVER_NAME}--{device}"
    return f"{DRIVER_NAME}-{shortened(node, SUBDOMAIN - len(around))}-{device}"


def pool_name(node: str, pf: str) -> str:
    """Name of the pool of PF ``pf`` and its VFs; unique in the cluster."""
    return f"{shortened(node, SUBDOMAIN - 1 - len(pf))}/{pf}"


def is_pool_of(pool: str, node: str) -> bool:
    """Whether ``pool`` is the name of one of the pools of ``node``."""
    return pool == pool_name(node, pool.rpartition("/")[2])


def node_label(node: str) -> str:
    """Value of the label ``node`` of a slice."""
    return shortened(node, LABEL_VALUE)


def field_manager(node: str) -> str:
    """Field manager that applies the status of claims from ``node``."""
    return shortened(f"{DRIVER_NAME}-{node}", FIELD_MANAGER)


def attach_manager(node: str) -> str:
    """Field manager that applies the binding conditions of claims from ``node``, beside the rest of their status."""
    return shortened(f"{DRIVER_NAME}-attach-{node}", FIELD_MANAGER)


def event_name(claim: str, digest: str) -> str:
    """Name of an event on ``claim``; ``digest`` distinguishes it from others on the same claim."""
    return f"{_ended(claim[:_CLAIM])}.{digest}"


def _ended(text: str) -> str:
    """``text`` without trailing ``-`` and ``.``, after which no separator is allowed."""
    return text.rstrip("-.")
