"""Many patients: one function over all of them, in processes here or on a Dask cluster.

Built on ``concurrent.futures``: a cluster's executor takes the pool's place. Whatever is raised
about one patient is that patient's failure and stops no other; ``patient_failure.py`` says how.
"""

import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import socket
import sys
import threading
import urllib.parse
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tqdm import tqdm

from data_tools.runtime.errors import InputError
from data_tools.runtime.patient_failure import attempt, failure_of

CONNECT_S = 20
LOG_EVERY_S = 30.0  # the progress bar where nobody watches: a log keeps every line
WORKER_ENDED = (
    "the process that worked on it was ended by the system, also when it worked on nothing else; "
    "most often the memory was too small. Free memory, or take a machine that has more, and run "
    "the same command again"
)


def map_patients(
    function: Callable[..., Any],
    tasks: Iterable[tuple],
    workers: int | str,
    description: str,
    *,
    unit: str = "patient",
    total: int | None = None,
) -> Iterator[tuple[tuple, Any]]:
    """Run ``function(*task)`` for every task, with a progress bar.

    Args:
        function: a module's function (it is pickled by name), or :func:`functools.partial` of one,
            which holds what all patients share.
        tasks: argument tuples; the first argument names the patient. Taken as they are needed,
            so a generator of large arrays never has more than a few of them in memory.
        workers: processes; 1 works in this process. Or the address of a Dask scheduler,
            ``tcp://HOST:PORT``, whose workers see the same files.
        description: shown beside the bar.
        unit: of what the bar counts.
        total: number of tasks, where ``tasks`` has no length.

    Yields:
        ``(task, result)`` in the order of completion. What one task raises is yielded as its
        result, an :class:`InputError`, so that one bad patient does not stop the others: see
        :func:`data_tools.runtime.patient_failure.failure_of`. So is a worker process that the
        system ended.

    Raises:
        OSError: the disk is full or read-only, which is no patient's fault.
    """
    if isinstance(workers, int) and workers < 1:
        raise InputError(f"workers is {workers}; expected 1 or more")
    if isinstance(tasks, Sized):
        total = len(tasks)
    watched = sys.stderr.isatty()
    bar_options = {} if watched else {"mininterval": LOG_EVERY_S, "maxinterval": 60.0}
    with tqdm(total=total, desc=description, unit=unit, dynamic_ncols=True, **bar_options) as bar:
        if workers == 1 or (total is not None and total < 2):
            for task in tasks:
                bar.set_postfix_str(str(task[0]), refresh=watched)
                yield task, attempt(function, *task)
                bar.update()
            return
        with contextlib.closing(_shared(function, tasks, workers)) as results:
            for done in results:
                yield done
                bar.update()


def _shared(
    function: Callable[..., Any], tasks: Iterable[tuple], workers: int | str
) -> Generator[tuple[tuple, Any], None, None]:
    """Tasks and results from a pool; from a new one when the system has ended a worker."""
    waiting = iter(tasks)
    while lost := (yield from _until_broken(function, waiting, workers)):
        # One of them ended its process, and took the pool with it. Alone, each shows whether it
        # was the one; the others have their results.
        for task in lost:
            alone = yield from _until_broken(function, iter([task]), 1)
            if alone:
                yield task, InputError(WORKER_ENDED)


def _until_broken(
    function: Callable[..., Any], waiting: Iterator[tuple], workers: int | str
) -> Generator[tuple[tuple, Any], None, list[tuple]]:
    """Results from a pool that never has more tasks than it will soon begin.

    Returns:
        The tasks that were in a pool of which a worker ended; empty when all tasks are done.
    """
    lost: list[tuple] = []
    with _pool(workers) as (pool, processes):
        futures: dict[concurrent.futures.Future, tuple] = {}

        def submit() -> None:
            for task in itertools.islice(waiting, 2 * processes - len(futures)):
                try:
                    futures[pool.submit(attempt, function, *task)] = task
                except BrokenProcessPool:  # between two results
                    lost.append(task)
                    return

        try:
            submit()
            while futures:
                done, _ = concurrent.futures.wait(
                    futures, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    task = futures.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        lost.append(task)
                        continue
                    except Exception as error:  # what could not be sent; a cluster's worker
                        result = failure_of(error)
                    yield task, result
                if not lost:
                    submit()
        except BaseException:  # also when the caller no longer asks
            for future in futures:
                future.cancel()
            pool.shutdown(wait=False)
            raise
    return lost


@contextlib.contextmanager
def _pool(workers: int | str) -> Iterator[tuple[concurrent.futures.Executor, int]]:
    """An executor, and how many tasks it works on at once."""
    if isinstance(workers, str):
        with _dask(workers) as (pool, processes):
            yield pool, processes
        return
    # numpy's libraries would start a thread per core in every process.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")  # fork is unsafe beside TensorFlow's threads
    with concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=_end_with_parent
    ) as pool:
        yield pool, workers


@contextlib.contextmanager
def _dask(scheduler: str) -> Iterator[tuple[concurrent.futures.Executor, int]]:
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            f"--dask_scheduler needs more packages ({error}); install the extra `cluster`"
        ) from error
    print(f"connecting to the Dask scheduler {scheduler} ...", file=sys.stderr)
    try:
        _knock(scheduler)
        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"no Dask scheduler answers at {scheduler!r} ({error}); expected tcp://HOST:PORT of "
            "one that runs (dask scheduler)"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_S)
        except TimeoutError as error:
            raise InputError(
                f"the Dask scheduler {scheduler} has no worker; start some "
                f"(dask worker {scheduler})"
            ) from error
        # A task that is not pure is run again for each call, as in a pool.
        yield client.get_executor(pure=False), sum(client.nthreads().values())


def _knock(scheduler: str) -> None:
    """Fail at once where nothing listens; the client itself would try for a while."""
    where = urllib.parse.urlsplit(scheduler)
    if where.scheme in ("tcp", "tls") and where.hostname and where.port:
        socket.create_connection((where.hostname, where.port), timeout=CONNECT_S).close()


def _end_with_parent() -> None:
    """In a worker: end when the process that wants the results was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
