"""Where points are computed: in this process, on every core, or on a Dask cluster. Results do not depend on it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from itertools import islice
from multiprocessing import active_children, get_context
from typing import Any, TypeVar

from simulator.errors import InputError

Task = TypeVar("Task")
Answer = TypeVar("Answer")

AHEAD = 4
"""Tasks handed out at once for each worker: enough to keep it busy, few enough to hold in memory."""

DIED = (
    "the process that computed it died (killed, perhaps for want of memory; or started by a script whose call stands "
    "outside `if __name__ == '__main__':`)"
)


def computed(
    work: Callable[[Task], Answer], tasks: Iterable[Task], workers: int = 1, cluster: str | None = None
) -> Iterator[tuple[Task, Answer | Exception]]:
    """(task, answer) as they are finished; an exception that `work` raised stands in the place of its answer.

    workers: processes on this machine, 1 computes here. cluster: address of a Dask scheduler, e.g.
    tcp://10.0.0.1:8786. A process that dies takes down only the task it was at. Raise InputError for a cluster that
    cannot be reached, and for no worker at all.
    """
    if workers < 1:
        raise InputError(f"{workers} workers compute nothing; write workers=1 or more")
    if cluster is not None:
        with _cluster(cluster) as (executor, cores):
            yield from _spread(work, tasks, executor, cores)
    elif workers == 1:
        for task in tasks:
            yield task, _tried(work, task)
    else:
        yield from _on_cores(work, tasks, workers)


def _tried(work: Callable[[Task], Answer], task: Task) -> Answer | Exception:
    try:
        return work(task)
    except Exception as error:  # a point's own failure: it is recorded, the study goes on
        return error


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of our own; when the work is stopped (Ctrl-C), so are they, instead of finishing what is handed out."""
    others = set(active_children())
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(active_children()) - others:
            process.terminate()
        raise
    pool.shutdown()


@contextmanager
def _unheard() -> Iterator[None]:
    """Processes that begin here never hear Ctrl-C, which a terminal sends to all: we stop them, without a word."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _on_cores(
    work: Callable[[Task], Answer], tasks: Iterable[Task], workers: int
) -> Iterator[tuple[Task, Answer | Exception]]:
    waiting = iter(tasks)
    while True:
        doubtful: list[Task] = []
        with _pool(workers) as pool:
            for task, answer in _spread(work, waiting, pool, workers):
                if isinstance(answer, BrokenProcessPool):
                    doubtful.append(task)
                else:
                    yield task, answer
        if not doubtful:
            return
        for task in doubtful:  # one of them killed its process: each gets one of its own
            with _pool(1) as pool:
                with _unheard():
                    future = pool.submit(_tried, work, task)
                answer = _answer(future)
            yield task, RuntimeError(DIED) if isinstance(answer, BrokenProcessPool) else answer


def _spread(
    work: Callable[[Task], Answer], tasks: Iterable[Task], executor: Executor, cores: int
) -> Iterator[tuple[Task, Answer | Exception]]:
    """Keep AHEAD tasks for each core handed out. After the executor has broken, no further task is taken."""
    waiting = iter(tasks)
    running: dict[Future[Any], Task] = {}
    broken = False
    while True:
        if not broken:
            for task in islice(waiting, AHEAD * cores - len(running)):
                try:
                    with _unheard():
                        running[executor.submit(_tried, work, task)] = task
                except BrokenProcessPool as error:
                    broken = True
                    yield task, error
                    break
        if not running:
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            answer = _answer(future)
            broken = broken or isinstance(answer, BrokenProcessPool)
            yield running.pop(future), answer


def _answer(future: Future[Any]) -> Any:
    error = future.exception()
    return future.result() if error is None else error


@contextmanager
def _cluster(address: str) -> Iterator[tuple[Executor, int]]:
    try:
        import distributed
    except ImportError:
        raise InputError("--cluster needs Dask; install it: pip install 'ramwise[cluster]'") from None
    try:
        make: Any = distributed.Client
        client: Any = make(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {address}: {error}; start one: dask scheduler") from None
    with closing(client):
        yield client.get_executor(pure=False), max(1, sum(client.ncores().values()))
