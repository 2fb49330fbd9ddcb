"""What an allocated claim has of this driver's devices on this node, before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mock_accel_dra import allocations, cdi, configuration, identity, shares
from mock_accel_dra.configuration import DEFAULTS, Configuration, ConfigurationError
from mock_accel_dra.discovery import Device
from mock_accel_dra.shares import Share, ShareError, Wanted
from mock_accel_dra.state import PreparedClaim, PreparedDevice


class RequestError(Exception):
    """A claim whose allocation or configuration cannot be prepared; the message is for the user."""


@dataclass(frozen=True)
class Result:
    """A device of a prepared claim, for the kubelet."""

    request: str
    """Name of the request, without the subrequest."""
    pool: str
    device: str
    cdi_id: str
    share_id: str | None = None
    more_ids: tuple[str, ...] = ()
    """More CDI devices that come with it."""


class Requested:
    """Devices, shares and configuration of one claim."""

    def __init__(self, name: str, claim: dict[str, Any], find: Callable[[str, str], Device]) -> None:
        """``name`` is what ``claim`` is called in messages.

        ``find`` returns the device of this node with a pool and a published name. Raises RequestError, and what
        ``find`` raises.
        """
        self._claim = name
        self.devices: dict[str, Device] = {}
        """By name in sysfs."""
        self._admin: dict[str, bool] = {}
        self._configured: dict[str, Configuration] = {}
        self._wanted: dict[str, list[Wanted]] = {}
        parts = self._parts(claim)
        items = [(item, find(item["pool"], item["device"])) for item in allocations.own_results(claim)]
        for item, device in items:
            self._add(item, device, parts)
        self.results = [self._result(item, device.name) for item, device in items]
        """For the kubelet."""

    def _add(self, item: dict[str, Any], device: Device, parts: list[configuration.Part]) -> None:
        name, admin = device.name, bool(item.get("adminAccess"))
        self.devices[name] = device
        self._admin[name] = self._admin.get(name, True) and admin
        if not admin:
            found = configuration.of_request(parts, str(item["request"]))
            self._configured[name] = found.over(self._configured.get(name, DEFAULTS))
            try:
                wanted = shares.wanted(item, device)
            except ShareError as error:
                raise RequestError(f"claim {self._claim}: {error}") from error
            self._wanted.setdefault(name, []).extend([wanted] if wanted else [])

    def _result(self, item: dict[str, Any], name: str) -> Result:
        ids = [wanted.id for wanted in self._wanted.get(name, ())]
        share_id = item.get("shareID")
        # With adminAccess beside shares of the same claim, the container gets one of these.
        shown = share_id if share_id in ids else next(iter(ids), "")
        request = str(item["request"]).partition("/")[0]
        cdi_id = cdi.device_id(shares.cdi_name(name, shown or ""))
        return Result(request, item["pool"], item["device"], cdi_id, share_id)

    def entries(
        self, others: Callable[[str], Iterable[Share]], before: PreparedClaim | None
    ) -> tuple[PreparedDevice, ...]:
        """The record of each device; ``others`` returns the shares of a device that other claims have.

        ``before`` is the record of this claim. Raises RequestError if a device has no room for a share.
        """
        return tuple(self._entry(name, others, before) for name in self.devices)

    def _entry(
        self, name: str, others: Callable[[str], Iterable[Share]], before: PreparedClaim | None
    ) -> PreparedDevice:
        device, found = self.devices[name], self._configured.get(name, DEFAULTS)
        recorded = before.device(name) if before else None
        try:
            places = shares.planned(
                device, self._wanted.get(name, ()), others(name), recorded.shares if recorded else ()
            )
        except ShareError as error:
            raise RequestError(f"claim {self._claim}: {error}") from error
        if not all(share.is_whole for share in places):
            found = self._of_share(name, found)
        return PreparedDevice(name, self._admin[name], identity.of(device), found, places)

    def _of_share(self, name: str, found: Configuration) -> Configuration:
        """Configuration of a device that others may share: it is the same for all."""
        if found not in (DEFAULTS, shares.CONFIGURATION):
            raise RequestError(
                f"claim {self._claim} has a share of device {name} and a configuration of it: expected none, or mode "
                f"Shared, because the others that share the device would have it, too; found {found.parameters()}"
            )
        return shares.CONFIGURATION

    def _parts(self, claim: dict[str, Any]) -> list[configuration.Part]:
        try:
            return configuration.of_claim(claim)
        except ConfigurationError as error:
            raise RequestError(
                f"claim {self._claim} has a bad configuration: {error}; correct it in the claim or its device class "
                "and create the claim again"
            ) from error
