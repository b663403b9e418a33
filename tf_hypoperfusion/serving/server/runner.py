"""Requests -> answers: slabs of many clients in one batch, a limit to what may wait."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import threading
import time

import numpy as np

from tf_hypoperfusion.serving.server.errors import ServingError, stopping
from tf_hypoperfusion.serving.server.version import Version

SLAB_SIGNATURE = "serving_default"
# As many windows as are faster together than alone; more only take memory.
MAX_BATCH_SLABS = 8
BATCH_WAIT_S = 0.005
# How often a waiting request is looked at for a client that has left.
LEFT_S = 0.5
# No batch takes longer: eight patients in TensorFlow on an old machine take two minutes.
STUCK_S = 300.0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Request:
    version: Version
    signature: str
    inputs: dict[str, np.ndarray]
    future: concurrent.futures.Future

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))


class Runner:
    """Runs requests one batch at a time: one already keeps every core busy.

    Args:
        max_queue: requests that may wait; more are refused, so that none waits for minutes.
    """

    def __init__(self, max_queue: int = 64):
        self._max_queue = max_queue
        self._queue: collections.deque[_Request] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._running: list[_Request] = []
        self._began = 0.0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return len(self._queue)

    @property
    def stuck(self) -> bool:
        """Whether nothing comes to an end any more."""
        lasts = bool(self._running) and time.monotonic() - self._began > STUCK_S
        return lasts or not self._thread.is_alive()

    def run(
        self,
        version: Version,
        signature: str,
        inputs: dict[str, np.ndarray],
        *,
        gone: threading.Event | None = None,
        until: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Check, wait for a turn, answer.

        Args:
            version: that is asked.
            signature: of the version.
            inputs: decoded tensors by name.
            gone: set when nobody waits for the answer any more; if the request waits, it gives up
                its place at once and is never run.
            until: of :func:`time.monotonic`; not waited for any longer.

        Raises:
            ServingError: inputs that do not fit, a full queue, a time that is over, or what the
                graph refuses.
        """
        version.check_arrays(signature, inputs)
        gone = gone or threading.Event()
        if gone.is_set():
            raise _left()
        request = _Request(
            version=version,
            signature=signature,
            inputs=inputs,
            future=concurrent.futures.Future(),
        )
        self._put(request)
        while True:
            left_s = LEFT_S if until is None else min(LEFT_S, max(until - time.monotonic(), 0))
            done, _ = concurrent.futures.wait([request.future], timeout=left_s)
            if done:
                return request.future.result()
            if gone.is_set():
                self._withdraw(request, _left())
            if until is not None and time.monotonic() >= until:
                self._withdraw(request, _late())
                if not request.future.done():  # it runs, and its answer comes too late
                    raise _late()

    def refuse(self) -> None:
        """Finish what runs; tell those that wait, and all who come, to try elsewhere."""
        with self._changed:
            self._closed = True
            while self._queue:
                _end(self._queue.popleft(), stopping())
            self._changed.notify_all()

    def close(self, wait_s: float | None = None) -> bool:
        """As :meth:`refuse`, and wait for what runs.

        Args:
            wait_s: what runs longer is told to try elsewhere too; None waits as long as it takes.

        Returns:
            Whether all has ended.
        """
        self.refuse()
        self._thread.join(wait_s)
        for request in list(self._running):
            _end(request, stopping())
        return not self._thread.is_alive()

    def _put(self, request: _Request) -> None:
        with self._changed:
            if self._closed:
                raise stopping()
            if len(self._queue) >= self._max_queue:
                raise ServingError(
                    "RESOURCE_EXHAUSTED",
                    f"{self._max_queue} requests are waiting already; try again later",
                )
            self._queue.append(request)
            self._changed.notify_all()

    def _withdraw(self, request: _Request, why: ServingError) -> None:
        """Out of the queue; one that runs already is finished."""
        with self._changed:
            if request in self._queue:
                self._queue.remove(request)
                _end(request, why)

    def _work(self) -> None:
        while batch := self._next():
            self._answer(batch)
            self._running = []

    def _next(self) -> list[_Request]:
        """What is run together next; nothing once the server stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if not self._queue:
                return []
            batch = [self._queue.popleft()]
            until, rows = time.monotonic() + BATCH_WAIT_S, batch[0].rows
            while batch[0].signature == SLAB_SIGNATURE and rows < MAX_BATCH_SLABS:
                left_s = until - time.monotonic()
                if not self._queue and not self._changed.wait_for(lambda: self._queue, left_s):
                    break
                other = self._queue[0]
                alike = other.version is batch[0].version and other.signature == SLAB_SIGNATURE
                if not alike or rows + other.rows > MAX_BATCH_SLABS:
                    break
                batch.append(self._queue.popleft())
                rows += other.rows
            self._began, self._running = time.monotonic(), batch
            return batch

    def _answer(self, batch: list[_Request]) -> None:
        first = batch[0]
        try:
            names = list(first.inputs)
            joined = {name: np.concatenate([r.inputs[name] for r in batch]) for name in names}
            answer = _in_parts(first.version, first.signature, joined)
            start = 0
            for request in batch:
                rows = slice(start, start + request.rows)
                _end(request, {name: value[rows] for name, value in answer.items()})
                start += request.rows
        except BaseException as error:
            if len(batch) == 1:
                _end(first, error)
                return
            for request in batch:  # one bad request must not spoil its neighbours'
                if not request.future.done():
                    self._answer([request])


def _end(request: _Request, how: dict[str, np.ndarray] | BaseException) -> None:
    """Give a request its answer or its error, if it has none yet."""
    with contextlib.suppress(concurrent.futures.InvalidStateError):
        if isinstance(how, BaseException):
            request.future.set_exception(how)
        else:
            request.future.set_result(how)


def _late() -> ServingError:
    return ServingError("DEADLINE_EXCEEDED", "it took longer than the time that was set")


def _left() -> ServingError:
    return ServingError("UNAVAILABLE", "the client has left")


def _in_parts(
    version: Version, signature: str, inputs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Many slabs a few at a time, so that memory does not grow with the request."""
    rows = len(next(iter(inputs.values())))
    step = MAX_BATCH_SLABS if signature == SLAB_SIGNATURE else rows
    parts = [
        version.run(signature, {name: value[k : k + step] for name, value in inputs.items()})
        for k in range(0, rows, step)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
