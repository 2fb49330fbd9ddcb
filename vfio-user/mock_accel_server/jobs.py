"""The job engine: a thread processes the ring of a device that has work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from mock_accel_server import descriptors
from mock_accel_server.config_space import ConfigSpace
from mock_accel_server.descriptors import Descriptor, Flag, JobError, Status
from mock_accel_server.faults import JobFaults
from mock_accel_server.irqs import COMPLETION_VECTOR
from mock_accel_server.operations import Signer, Work
from mock_accel_server.places import Places
from mock_accel_server.protocol import IrqIndex
from mock_accel_server.registers import Event, Reg, Registers, RingError, State
from mock_accel_server.ring import Client, Ring
from mock_accel_server.slices import Slices
from mock_accel_server.spans import Span

_IDLE_SECONDS = 1.0
"""A thread without work ends after this time."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class _AbandonedError(Exception):
    """The ring was stopped while a job ran: nothing of the job is written any more."""


class _RingStopsError(Exception):
    """The ring cannot go on."""

    def __init__(self, error: RingError) -> None:
        super().__init__(error.name)
        self.error = error


class Jobs:
    """The ring of one device. Methods need the device's lock, which ``condition`` has; the thread takes it itself."""

    def __init__(
        self,
        name: str,
        condition: threading.Condition,
        slices: Slices,
        registers: Registers,
        config: ConfigSpace,
        signer: Signer,
        on_event: Callable[[Event], None],
    ) -> None:
        self.faults = JobFaults()
        self._name = name
        self._condition = condition
        self._slices = slices
        self._registers = registers
        self._config = config
        self._signer = signer
        self._on_event = on_event
        self._ring: Ring | None = None
        self._thread: threading.Thread | None = None
        self._processing: Ring | None = None
        """The ring, perhaps a stopped one, whose descriptor the thread processes."""

    def start(self, client: Client | None) -> None:
        """RUN was set: start the ring that the registers describe, or say in ERROR why not."""
        if self._ring or self._processing:
            return
        ring, error = None, RingError.NOT_MAPPED
        if client:
            ring = Ring(client, self._registers.get(Reg.RING_BASE), self._registers.get(Reg.RING_SIZE))
            error = self._error(ring)
        self._registers.set(Reg.ERROR, error)
        if error:
            self._on_event(Event.RING_ERROR)
            return
        self._ring = ring
        self._registers.set(Reg.RING_HEAD, 0)
        self._registers.set(Reg.RING_TAIL, 0)
        self._registers.set(Reg.CONTROL, 1)
        self._registers.change(State.RUNNING, True)

    def _error(self, ring: Ring) -> RingError:
        state = State(self._registers.get(Reg.STATE))
        if State.FATAL in state:
            return RingError.FATAL
        if State.FIRMWARE not in state:
            return RingError.NO_FIRMWARE
        if not self._config.bus_master:
            return RingError.NO_BUS_MASTER
        return ring.error()

    def doorbell(self, tail: int) -> None:
        """RING_TAIL was written."""
        ring = self._ring
        if ring is None:
            return
        if tail >= ring.size:
            self.stop(RingError.BAD_TAIL)
            return
        self._registers.set(Reg.RING_TAIL, tail)
        ring.add(tail, self._registers.get(Reg.JOB_LIMIT) or ring.size - 1)
        self._condition.notify_all()
        if self._thread is None and ring.head != ring.tail:
            self._start_thread()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"jobs-{self._name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads allowed
            log.warning("%s: its jobs cannot run: %s", self._name, error)
            self.stop(RingError.FATAL)
        else:
            self._thread = thread

    def stop(self, error: RingError = RingError.NONE) -> None:
        """Stop the ring; RUNNING is cleared when the job that runs has noticed."""
        ring, self._ring = self._ring, None
        if ring is None:
            return
        ring.stopped = True
        self._registers.set(Reg.CONTROL, 0)
        self._registers.set(Reg.ERROR, error)
        if not self._processing:
            self._registers.change(State.RUNNING, False)
        self._condition.notify_all()
        if error:
            self._on_event(Event.RING_ERROR)

    def fail(self) -> None:
        """A fatal error: the job that runs ends with DEVICE_ERROR, and the ring stops."""
        if self._ring and self._processing is self._ring:
            self._ring.failing = True
            self._condition.notify_all()
        else:
            self.stop(RingError.FATAL)

    def clear_faults(self) -> None:
        """End the faults of jobs; a job that hangs goes on."""
        self.faults.clear()
        self._condition.notify_all()

    def wait_until_stopped(self) -> None:
        """Wait until no job runs; releases the lock meanwhile. Call ``stop`` before."""
        self._condition.wait_for(lambda: self._processing is None)

    # The thread

    def _work(self) -> None:
        try:
            while ring := self._next():
                self._process(ring)
        finally:
            with self._condition:
                if self._thread is threading.current_thread():  # after an unexpected error
                    self._thread = None

    def _next(self) -> Ring | None:
        """Wait for a descriptor; None after a while without one."""
        with self._condition:
            if not self._condition.wait_for(self._has_work, _IDLE_SECONDS):
                self._thread = None  # with the lock: a doorbell starts another one
                return None
            self._processing = self._ring
            self._registers.change(State.BUSY, True)
            return self._ring

    def _has_work(self) -> bool:
        return self._ring is not None and self._ring.head != self._ring.tail

    def _process(self, ring: Ring) -> None:
        """The descriptor at the head, from its read to its interrupt."""
        error = RingError.NONE
        interrupt = False
        try:
            interrupt = self._one(ring)
        except _AbandonedError:
            pass
        except _RingStopsError as stops:
            error = stops.error
        finally:
            with self._condition:
                self._processing = None
                self._registers.change(State.BUSY, False)
                if ring.failing:
                    error = RingError.FATAL
                if error and ring is self._ring:
                    self.stop(error)
                if ring.stopped:
                    self._registers.change(State.RUNNING, False)
                self._condition.notify_all()
                if interrupt:
                    ring.client.irqs.signal(IrqIndex.MSI, COMPLETION_VECTOR)

    def _one(self, ring: Ring) -> bool:
        """Returns whether the guest wants an interrupt. Raises _AbandonedError and _RingStopsError."""
        with self._slices.slice(lambda: self._descriptor(ring)) as span:
            try:
                descriptor = descriptors.parse(bytes(span.read(0, descriptors.SIZE)))
            except JobError as error:
                raise _RingStopsError(RingError.NOT_MAPPED) from error
        status, written = Status.DONE, descriptor.written
        try:
            self._run(ring, descriptor)
        except JobError as error:
            status, written = error.status, 0
        self._complete(ring, descriptor, status, written)
        return bool(descriptor.flags & Flag.INTERRUPT)

    def _descriptor(self, ring: Ring) -> Span:
        if ring.stopped:
            raise _AbandonedError
        if not self._config.bus_master:
            raise _RingStopsError(RingError.NO_BUS_MASTER)
        span = ring.descriptor()
        if span is None:
            raise _RingStopsError(RingError.NOT_MAPPED)
        return span

    def _run(self, ring: Ring, descriptor: Descriptor) -> None:
        """Raises JobError with the status, _AbandonedError and _RingStopsError."""
        with self._condition:
            if ring.head in ring.over:
                raise JobError(Status.LIMIT)
            descriptor.check()
            limit = self._registers.get(Reg.WINDOW_LIMIT)
            places = Places(ring.client, descriptor, limit or ring.client.window.size)
        for segments in places.lists:
            with self._slices.slice(partial(self._checked, ring, segments.resolve)) as span:
                segments.parse(span)
        resolve = partial(self._checked, ring, places.resolve)
        with self._condition:
            resolve()
            wrong = self.faults.take_wrong()
            self._delay(ring)
        steps = Work(descriptor, self._signer, places, wrong).steps()
        more = True
        while more:
            with self._slices.slice(resolve):
                more = next(steps, None) is not None

    def _checked(self, ring: Ring, resolve: Callable[[], T]) -> T:
        """Before each access of a job: ``resolve`` where it goes."""
        if ring.stopped:
            raise _AbandonedError
        if ring.failing:
            raise JobError(Status.DEVICE_ERROR)
        if not self._config.bus_master:
            raise _RingStopsError(RingError.NO_BUS_MASTER)
        return resolve()

    def _delay(self, ring: Ring) -> None:
        """Faults on demand: hang, or be slow."""

        def interrupted() -> bool:
            return ring.stopped or ring.failing

        if self.faults.take_hang():
            self._condition.wait_for(lambda: interrupted() or not self.faults.hanging)
            self.faults.hanging = False
        if self.faults.slow_milliseconds:
            self._condition.wait_for(interrupted, self.faults.slow_milliseconds / 1000)

    def _complete(self, ring: Ring, descriptor: Descriptor, status: Status, written: int) -> None:
        """Write the result, the status last, and count the job."""
        with self._slices.slice(lambda: self._descriptor(ring)) as span:
            try:
                span.write(descriptors.RESULT_OFFSET, descriptors.result(written))
                span.write(descriptors.STATUS_OFFSET, status.to_bytes(4, "little"))
            except JobError as error:
                raise _RingStopsError(RingError.NOT_MAPPED) from error
        with self._condition:
            ring.advance()
            if ring is self._ring:
                self._registers.set(Reg.RING_HEAD, ring.head)
            if status == Status.DONE:
                self._registers.add(Reg.JOBS, 1)
                self._registers.add(Reg.BYTES, descriptor.length)
            else:
                self._registers.add(Reg.JOBS_FAILED, 1)
