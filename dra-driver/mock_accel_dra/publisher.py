"""Keep the ResourceSlices of this node equal to its devices, as far as the API server accepts that.

Devices that the API server refuses, or would refuse, are left out, so that the others
are published. A slice that the API server changes on write is written once. If it
drops the counters (feature gate ``DRAPartitionableDevices``), a PF is not published
together with its VFs, because nothing would make them exclude each other.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from mock_accel_dra import DRIVER_NAME, klog, limits
from mock_accel_dra.api import NODES, SLICES, ApiError, Client
from mock_accel_dra.differences import paths, view
from mock_accel_dra.discovery import Device
from mock_accel_dra.features import Feature, shown
from mock_accel_dra.refusals import REFUSED, Refusals
from mock_accel_dra.repeats import Repeats
from mock_accel_dra.slices import (
    Changes,
    Object,
    Settled,
    changes,
    content_of,
    desired,
    device_of,
    is_counters,
    name_of,
    orphans,
    without_counters,
)

_ATTEMPTS = 3
_ROUNDS = 8
"""Each round but the last leaves out more devices than the one before; the next scan continues."""
_RETRIED = (http.client.CONFLICT, http.client.NOT_FOUND)
_AWAY = (
    0,
    http.client.UNAUTHORIZED,
    http.client.TOO_MANY_REQUESTS,
    http.client.SERVICE_UNAVAILABLE,
    http.client.GATEWAY_TIMEOUT,
)
"""Statuses after which the next request would fail, too."""
_LONGEST_REASON = 300
"""Characters; the reason is a label value of a metric."""
_REDUCED_SECONDS = 600.0
"""After this time, optional features that the API server has refused are tried again."""
_COUNTERS = ("sharedCounters", "consumesCounters")
_VFS_ARE_PUBLISHED = "the API server drops counters (DRAPartitionableDevices), so its VFs are published without it"
_PF_IS_IN_USE = "the API server drops counters (DRAPartitionableDevices), and a claim has its PF"


class Publisher:
    """Publishes for one node. Not thread-safe, except for its properties."""

    def __init__(self, client: Client, node: str, features: AbstractSet[Feature] = frozenset()) -> None:
        self._client = client
        self._node = node
        self._features = features
        self._node_uid = ""
        self._reduced: dict[str, tuple[int, float]] = {}
        """Pools that are published with fewer features: how many steps less, and until when."""
        self._written = 0
        self.follows_claims = False
        """Whether which slices were published last depends on the devices that claims have."""
        self._refusals = Refusals()
        self._repeats = Repeats()
        self._settled: dict[str, Settled] = {}
        self._fields: dict[str, tuple[str, ...]] = {}
        self._countless: dict[str, AbstractSet[str]] = {}
        """Pools whose counters were dropped, with the names of the slices that they should have had."""
        self._names: dict[str, AbstractSet[str]] = {}
        """Names of the slices that each pool should have, including those that are left out."""
        self._left_out: Mapping[str, str] = {}
        self._planned_out: Mapping[str, str] = {}
        """Devices that the last plan leaves out; the next plan may leave out more or retry some."""

    @property
    def selector(self) -> dict[str, str]:
        """Query parameters that select this node's slices of this driver."""
        return {"fieldSelector": f"spec.nodeName={self._node},spec.driver={DRIVER_NAME}"}

    @property
    def left_out(self) -> Mapping[str, str]:
        """Devices that are not published, by name in sysfs, with the reason."""
        return self._left_out

    @property
    def fields_changed(self) -> list[tuple[str, str]]:
        """Slices and paths of their fields that the API server changed on write."""
        return [(name, field) for name, fields in sorted(dict(self._fields).items()) for field in fields]

    def publish(self, devices: Sequence[Device], held: AbstractSet[str] = frozenset()) -> int:
        """Make the API server's slices match ``devices``; returns the number of slices written or deleted.

        ``held`` are the names of devices that claims have. Writes only slices that
        differ. Devices that cannot be published are in ``left_out``. Raises ApiError
        if the others could not be published, either; calling again is safe.
        """
        self._written = conflicts = 0
        self.follows_claims = False
        try:
            for _ in range(_ROUNDS):
                try:
                    if self._round(devices, held):
                        break
                except ApiError as error:
                    conflicts += 1
                    if error.status not in _RETRIED or conflicts == _ATTEMPTS:
                        raise
                    klog.info(klog.FLOW, "Slices changed meanwhile", err=error, attempt=conflicts)
        finally:
            self._note_left_out(self._planned_out)
        return self._written

    def _round(self, devices: Sequence[Device], held: AbstractSet[str]) -> bool:
        """Plan and execute once; False if the API server's answers require another plan."""
        known = self._node_uid
        wanted, plan = self._plan(devices, held)
        # A node that was deleted and created again has another uid, and its
        # slices were deleted with the old node.
        if plan and known and self._read_node_uid() != known:
            wanted, plan = self._plan(devices, held)
        done, failure = True, None
        for pool, change in plan.items():
            if self._repeats.too_many(pool, [content_of(item) for item in wanted.get(pool, ())]):
                continue
            before = self._written
            try:
                done = self._execute(pool, change) and done
            except ApiError as error:
                if error.status in _AWAY:
                    raise
                failure = failure or error  # continue with the other pools
            if self._written > before:
                self._repeats.written(pool)
        if failure is not None:
            raise failure
        return done

    def _plan(
        self, devices: Sequence[Device], held: AbstractSet[str]
    ) -> tuple[dict[str, list[Object]], dict[str, Changes]]:
        """Slices that the pools should have, and the changes that lead there."""
        if not self._node_uid:
            self._read_node_uid()
        published = self._client.get(SLICES, self.selector)["items"] or []
        left_out = orphans(devices)
        pools = self._desired(devices)
        self._names = {pool: {name_of(item) for item in items} for pool, items in pools.items()}
        self._refusals.keep(set().union(*self._names.values()))
        self._countless = {pool: had for pool, had in self._countless.items() if had == self._names.get(pool)}
        possible = {pool: self._possible(pool, items, held, left_out) for pool, items in pools.items()}
        self._planned_out = left_out
        if pools and not any(possible.values()) and (denied := self._refusals.denied()):
            raise denied  # the role is wrong, not the devices: delete nothing, and the agent is not ready
        self._forget_answers(item for items in possible.values() for item in items)
        return possible, changes(possible, published, self._settled)

    def _desired(self, devices: Sequence[Device]) -> dict[str, list[Object]]:
        """Slices of each pool, with fewer optional features for a pool of which the API server refuses a slice.

        Gates that are off drop most fields. A list as attribute is dropped, too, and then the attribute without a
        value is refused. So lists are left out first, then all features.
        """
        steps = [self._features, self._features - {Feature.LIST_TYPE_ATTRIBUTES}, frozenset[Feature]()]
        steps = [features for index, features in enumerate(steps) if features not in steps[:index]]
        by_step = [desired(self._node, self._node_uid, devices, features) for features in steps]
        pools, now = {}, time.monotonic()
        for pool in by_step[0]:
            step, until = self._reduced.get(pool, (0, now))
            step = 0 if now >= until else min(step, len(steps) - 1)
            while step + 1 < len(steps) and any(map(self._refusals.waiting, by_step[step][pool])):
                step += 1
                self._reduced[pool] = step, now + _REDUCED_SECONDS
                lost = shown(self._features - steps[step])
                klog.warning("The API server refuses optional features of a pool", pool=pool, without=lost)
            pools[pool] = by_step[step][pool]
        return pools

    def _possible(
        self, pool: str, items: Sequence[Object], held: AbstractSet[str], left_out: dict[str, str]
    ) -> list[Object]:
        """The slices of a pool's ``items`` that can be published; adds the other devices to ``left_out``."""
        counters = next((item for item in items if is_counters(item)), None)
        if counters is not None and (pool in self._countless or self._refusals.waiting(counters)):
            self.follows_claims = True
            names = {device_of(item) for item in items if item is not counters}
            use_pf = any(device_of(item) in held for item in without_counters(items, pf=True))
            items = without_counters(items, pf=use_pf)
            reason = _PF_IS_IN_USE if use_pf else _VFS_ARE_PUBLISHED
            left_out |= dict.fromkeys(names - {device_of(item) for item in items}, reason)
        possible = []
        for item in items:
            reason = "; ".join(filter(None, map(limits.complaint, item["spec"].get("devices", ()))))
            if refusal := self._refusals.waiting(item):
                reason = reason or str(refusal)[:_LONGEST_REASON]
            if reason:
                left_out[device_of(item)] = reason
            else:
                possible.append(item)
        return possible

    def _read_node_uid(self) -> str:
        node = self._client.get(f"{NODES}/{self._node}", metadata_only=True)
        self._node_uid = node["metadata"]["uid"]
        return self._node_uid

    def _execute(self, pool: str, change: Changes) -> bool:
        """Change one pool; False if the API server refused or dropped something and a new plan is needed."""
        for name in change.delete:
            klog.info(klog.OPERATION, "Delete slice", slice=name)
            self._client.delete(f"{SLICES}/{name}")
            self._written += 1
        # Retry refused slices first: while one is still refused, the others need no write.
        suspects = [item for item in change.write if self._refusals.known(item)]
        for group in (suspects, [item for item in change.write if item not in suspects]):
            refused = False
            for item in group:
                try:
                    answer = self._write(item)
                except ApiError as error:
                    if error.status not in REFUSED:
                        raise
                    self._refusals.add(item, error)
                    refused = True
                    continue
                self._written += 1
                self._refusals.taken(item)
                self._compare(item, answer)
                if any(name in path for path in self._fields.get(name_of(item), ()) for name in _COUNTERS):
                    # Until now the pool is incomplete, and the scheduler allocates no device of it.
                    klog.warning("The API server drops counters; PF and VFs are not published together", pool=pool)
                    self._countless[pool] = self._names[pool]
                    return False
            if refused:
                return False
        return True

    def _write(self, item: Object) -> Object:
        name, pool = name_of(item), item["spec"]["pool"]
        if "resourceVersion" in item["metadata"]:
            klog.info(klog.OPERATION, "Update slice", slice=name, pool=pool)
            return self._client.update(f"{SLICES}/{name}", item)
        klog.info(klog.OPERATION, "Create slice", slice=name, pool=pool)
        return self._client.create(SLICES, item)

    def _compare(self, item: Object, answer: Object) -> None:
        """Note the fields in which the API server's ``answer`` differs from the written slice."""
        name, found = name_of(item), view(answer, item)
        fields = tuple(paths(view(item, item), found))
        before = self._fields.pop(name, ())
        self._settled.pop(name, None)
        if fields:
            self._fields[name] = fields
            self._settled[name] = Settled(content_of(item), found)
            if fields != before:
                klog.warning("The API server changed a slice that was written", slice=name, fields=fields)
        elif before:
            klog.info(klog.STATE, "The API server keeps a slice as written", slice=name)

    def _forget_answers(self, wanted: Iterable[Object]) -> None:
        """Forget differing answers for slices whose wanted content has changed since."""
        contents = {name_of(item): content_of(item) for item in wanted if name_of(item) in self._settled}
        self._settled = {
            name: settled for name, settled in self._settled.items() if contents.get(name) == settled.content
        }
        told = self._settled.keys() | set().union(*self._countless.values())
        self._fields = {name: fields for name, fields in self._fields.items() if name in told}

    def _note_left_out(self, left_out: Mapping[str, str]) -> None:
        for name, reason in left_out.items():
            if self._left_out.get(name) != reason:
                klog.warning("Device left out", device=name, reason=reason)
        for name in self._left_out.keys() - left_out.keys():
            klog.info(klog.STATE, "Device is published again", device=name)
        self._left_out = left_out
