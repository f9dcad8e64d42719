"""The part of `dbutils` that tasks use to speak with their job."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

from lakeflow_local.errors import LakeflowError, UnsupportedError

# What a task value may take in a workspace, as JSON.
MOST_BYTES = 48 * 1024


class TaskValues:
    """`dbutils.jobs.taskValues`.

    Args:
        earlier: the values of the tasks that have run, by task key.
        own: where the running task's values are kept.
    """

    def __init__(self, earlier: Mapping[str, Mapping[str, Any]], own: dict[str, Any]):
        self._earlier = earlier
        self._own = own

    def set(self, key: str, value: Any) -> None:
        try:
            size = len(json.dumps(value).encode())
        except (TypeError, ValueError) as error:
            raise LakeflowError(f"the task value {key} is not JSON: {error}") from None
        if size > MOST_BYTES:
            raise LakeflowError(f"the task value {key} has {size} bytes; at most {MOST_BYTES} are kept")
        self._own[key] = value

    # The names of the arguments are those of Databricks.
    def get(self, taskKey: str, key: str, default: Any = None, debugValue: Any = None) -> Any:
        values = self._earlier.get(taskKey, {})
        if key in values:
            return values[key]
        if default is not None:
            return default
        raise LakeflowError(f"the task {taskKey} has set no value {key}; give a default or set it there")


class _Utils(SimpleNamespace):
    def __getattr__(self, name: str) -> Any:
        raise UnsupportedError(f"dbutils.{name} is not supported on this machine; dbutils.jobs.taskValues is")


@contextmanager
def installed(earlier: Mapping[str, Mapping[str, Any]], own: dict[str, Any]) -> Iterator[Any]:
    """Makes `pyspark.dbutils.DBUtils(spark)` give the utilities of a running task, and yields them."""
    utils = _Utils(jobs=SimpleNamespace(taskValues=TaskValues(earlier, own)))
    module = ModuleType("pyspark.dbutils")
    module.DBUtils = lambda spark=None: utils  # type: ignore[attr-defined]
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        yield utils
    finally:
        del sys.modules[module.__name__]
        if before is not None:
            sys.modules[module.__name__] = before
