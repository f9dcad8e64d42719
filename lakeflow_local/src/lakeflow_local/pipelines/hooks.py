"""Functions of the sources that are told of the event log's events, beside the update and without a say in it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from lakeflow_local.pipelines.graph import Hook

_SECONDS_TO_END = 30.0
_END = object()


class Hooks:
    """Calls the hooks of one update with its STABLE events, one call at a time, in the order of the events.

    An exception of a hook is counted and told, and has no other effect; so many in a row as it allows end its calls.
    """

    def __init__(self, hooks: Sequence[Hook], failed: Callable[[Hook, int, BaseException, bool], None]):
        """Args:
        failed: told of each failure: the hook, the failures in a row, the exception, whether its calls end.
        """
        self._hooks = list(hooks)
        self._failures = {hook.name: 0 for hook in hooks}
        self._failed = failed
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="event-hooks", daemon=True)
        if hooks:
            self._thread.start()

    def tell(self, event: dict[str, Any]) -> None:
        if self._hooks and event["maturity_level"] == "STABLE":
            self._events.put(event)

    def close(self, seconds: float = _SECONDS_TO_END) -> bool:
        """Waits until the hooks have been told everything, but no longer than that; whether they were."""
        if not self._thread.is_alive():
            return True
        self._events.put(_END)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _serve(self) -> None:
        while (event := self._events.get()) is not _END:
            for hook in list(self._hooks):
                self._call(hook, event)

    def _call(self, hook: Hook, event: dict[str, Any]) -> None:
        try:
            hook.function(event)
        except Exception as error:
            self._failures[hook.name] += 1
            in_a_row = self._failures[hook.name]
            ended = hook.max_failures is not None and in_a_row >= max(1, hook.max_failures)
            if ended:
                self._hooks.remove(hook)
            self._failed(hook, in_a_row, error, ended)
        else:
            self._failures[hook.name] = 0
