"""Works through a graph in the order of what depends on what, several nodes at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def run(
    items: Sequence[T],
    *,
    needs: Callable[[T], Collection[T]],
    work: Callable[[T], None],
    workers: int,
    alone: Callable[[T], bool] = lambda _: False,
    enter: Callable[[], None] = lambda: None,
) -> None:
    """Calls `work` for each item, after those that it needs; of those that could start, the first in `items` does.

    An interrupt (Ctrl-C, a time limit) reaches the calling thread at once: no further item starts, and those that run
    are not waited for, since they may be in a call that never returns.

    Args:
        needs: items that have to be done before; others than those of `items` count as done.
        work: is called in several threads at once, unless `workers` is 1.
        alone: whether nothing else may run beside the item.
        enter: is called first in each thread.

    Raises:
        Exception: the first that `work` raised; no further item has started then.
    """
    if workers == 1 or len(items) < 2:
        # the order of `items` may be any
        done: set[T] = set()
        waiting = list(items)
        known = set(items)
        while waiting:
            item = next(i for i in waiting if done.issuperset(known.intersection(needs(i))))
            waiting.remove(item)
            work(item)
            done.add(item)
        return
    pool = _Pool(items, needs, work, alone, enter)
    threads = [threading.Thread(target=pool.serve, name=f"flows-{n}", daemon=True) for n in range(workers)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        pool.stop()
    if pool.failure is not None:
        raise pool.failure


class _Pool:
    def __init__(self, items: Sequence[T], needs: Callable, work: Callable, alone: Callable, enter: Callable):
        known = set(items)
        self._waiting = list(items)
        self._needs = {item: known.intersection(needs(item)) for item in items}
        self._work, self._alone, self._enter = work, alone, enter
        self._changed = threading.Condition()
        self._done: set = set()
        self._running: list = []
        self._stopped = False
        self.failure: BaseException | None = None

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def serve(self) -> None:
        try:
            self._enter()
            while (item := self._take()) is not None:
                self._work(item)
                with self._changed:
                    self._running.remove(item)
                    self._done.add(item)
                    self._changed.notify_all()
        except BaseException as error:
            self.failure = self.failure or error
            self.stop()

    def _take(self):
        with self._changed:
            while self._waiting and not self._stopped:
                if (item := self._next()) is not None:
                    self._waiting.remove(item)
                    self._running.append(item)
                    return item
                self._changed.wait()
        return None

    def _next(self):
        if any(map(self._alone, self._running)):
            return None
        ready = (item for item in self._waiting if self._needs[item] <= self._done)
        return next((item for item in ready if not (self._running and self._alone(item))), None)
