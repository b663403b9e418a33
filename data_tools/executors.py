"""Many patients: one function over all of them, in processes of this machine.

Built on ``concurrent.futures``, so that a cluster's executor can take the pool's place.
"""

import concurrent.futures
import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

from tqdm import tqdm

from data_tools.errors import InputError


def map_patients(
    function: Callable[..., Any],
    tasks: Iterable[tuple],
    workers: int,
    description: str,
    unit: str = "patient",
    total: int | None = None,
) -> Iterator[tuple[tuple, Any]]:
    """Run ``function(*task)`` for every task, with a progress bar.

    Args:
        function: a module's function (it is pickled by name).
        tasks: argument tuples; the first argument names the patient. Taken as they are needed,
            so a generator of large arrays never has more than a few of them in memory.
        workers: processes; 1 works in this process.
        description, unit: shown beside the bar. total: number of tasks, where ``tasks`` has no
            length.

    Yields:
        ``(task, result)`` in the order of completion. An :class:`InputError` of one task is
        yielded as its result, so that one bad patient does not stop the others; any other
        exception is a defect and is raised.
    """
    if workers < 1:
        raise InputError(f"workers is {workers}; expected 1 or more")
    if isinstance(tasks, Sized):
        total = len(tasks)
    with tqdm(total=total, desc=description, unit=unit, dynamic_ncols=True) as bar:
        if workers == 1 or (total is not None and total < 2):
            for task in tasks:
                bar.set_postfix_str(str(task[0]), refresh=True)
                yield task, _attempt(function, task)
                bar.update()
            return
        # numpy's libraries would start a thread per core in every process.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        context = multiprocessing.get_context("spawn")  # fork is unsafe beside TensorFlow's threads
        waiting = iter(tasks)
        with concurrent.futures.ProcessPoolExecutor(
            workers, mp_context=context, initializer=_end_with_parent
        ) as pool:
            futures: dict[concurrent.futures.Future, tuple] = {}

            def submit() -> None:
                for task in itertools.islice(waiting, 2 * workers - len(futures)):
                    futures[pool.submit(_attempt, function, task)] = task

            try:
                submit()
                while futures:
                    done, _ = concurrent.futures.wait(
                        futures, return_when=concurrent.futures.FIRST_COMPLETED
                    )
                    for future in done:
                        yield futures.pop(future), future.result()
                        bar.update()
                    submit()
            except BaseException:  # also when the caller no longer asks
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _end_with_parent() -> None:
    """In a worker: end when the process that wants the results was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _attempt(function: Callable[..., Any], task: tuple) -> Any:
    try:
        return function(*task)
    except InputError as error:
        return error
