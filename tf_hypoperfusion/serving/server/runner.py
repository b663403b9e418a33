"""Requests -> answers: slabs of many clients in one batch, a limit to what may wait."""

import concurrent.futures
import dataclasses
import queue
import threading
import time

import numpy as np

from tf_hypoperfusion.serving.server.errors import ServingError
from tf_hypoperfusion.serving.server.version import Version

SLAB_SIGNATURE = "serving_default"
# As many windows as are faster together than alone; more only take memory.
MAX_BATCH_SLABS = 8
BATCH_WAIT_S = 0.005


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Request:
    version: Version
    signature: str
    inputs: dict[str, np.ndarray]
    future: concurrent.futures.Future
    gone: threading.Event

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))


class Runner:
    """Runs requests one batch at a time: one already keeps every core busy.

    Args:
        max_queue: requests that may wait; more are refused, so that none waits for minutes.
    """

    def __init__(self, max_queue: int = 64):
        self._queue: queue.Queue[_Request | None] = queue.Queue(max_queue)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return self._queue.qsize()

    def run(
        self,
        version: Version,
        signature: str,
        inputs: dict[str, np.ndarray],
        *,
        gone: threading.Event | None = None,
    ) -> dict[str, np.ndarray]:
        """Check, wait for a turn, answer.

        Args:
            version: that is asked.
            signature: of the version.
            inputs: decoded tensors by name.
            gone: set when nobody waits for the answer any more; the request is then left out.

        Raises:
            ServingError: inputs that do not fit, a full queue, or what the graph refuses.
        """
        version.check_arrays(signature, inputs)
        if self._closed.is_set():
            raise ServingError("UNAVAILABLE", "the server is stopping")
        request = _Request(
            version=version,
            signature=signature,
            inputs=inputs,
            future=concurrent.futures.Future(),
            gone=gone or threading.Event(),
        )
        try:
            self._queue.put_nowait(request)
        except queue.Full:
            raise ServingError(
                "RESOURCE_EXHAUSTED",
                f"{self._queue.maxsize} requests are waiting already; try again later",
            ) from None
        return request.future.result()

    def close(self) -> None:
        """Finish what runs, refuse what waits, then stop."""
        self._closed.set()
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        held: _Request | None = None
        while True:
            first = held or self._queue.get()
            held = None
            if first is None:
                return
            batch = [first]
            if first.signature == SLAB_SIGNATURE:
                held, stop = self._gather(batch)
                if stop:
                    self._answer(batch)
                    return
            self._answer(batch)

    def _gather(self, batch: list[_Request]) -> tuple[_Request | None, bool]:
        """Add requests of the same kind; returns one of another kind, and whether to stop."""
        until, rows = time.monotonic() + BATCH_WAIT_S, batch[0].rows
        while rows < MAX_BATCH_SLABS:
            try:
                request = self._queue.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                return None, False
            if request is None:
                return None, True
            same = request.version is batch[0].version and request.signature == SLAB_SIGNATURE
            if not same or rows + request.rows > MAX_BATCH_SLABS:
                return request, False
            batch.append(request)
            rows += request.rows
        return None, False

    def _answer(self, batch: list[_Request]) -> None:
        batch = [request for request in batch if self._wanted(request)]
        if not batch:
            return
        first = batch[0]
        try:
            names = list(first.inputs)
            joined = {name: np.concatenate([r.inputs[name] for r in batch]) for name in names}
            answer = _in_parts(first.version, first.signature, joined)
            start = 0
            for request in batch:
                rows = slice(start, start + request.rows)
                request.future.set_result({name: value[rows] for name, value in answer.items()})
                start += request.rows
        except BaseException as error:
            if len(batch) == 1:
                first.future.set_exception(error)
                return
            for request in batch:  # one bad request must not spoil its neighbours'
                if not request.future.done():
                    self._answer([request])

    def _wanted(self, request: _Request) -> bool:
        """Whether somebody still waits for it; if not, it is answered with the reason."""
        reason = "the client has left" if request.gone.is_set() else ""
        reason = "the server is stopping" if self._closed.is_set() else reason
        if reason:
            request.future.set_exception(ServingError("UNAVAILABLE", reason))
        return not reason


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
