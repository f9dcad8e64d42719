"""The order of flows and the calls of event hooks, without Spark."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from lakeflow_local.pipelines import schedule
from lakeflow_local.pipelines.graph import Hook, Place
from lakeflow_local.pipelines.hooks import Hooks

NEEDS = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": [], "f": ["d", "elsewhere"]}


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_each_item_runs_once_after_what_it_needs(workers: int):
    done: list[str] = []
    running: set[str] = set()
    beside: list[set[str]] = []
    lock = threading.Lock()

    def work(item: str) -> None:
        with lock:
            assert set(NEEDS[item]) - {"elsewhere"} <= set(done)
            running.add(item)
            beside.append({*running})
        time.sleep(0.01)
        with lock:
            running.remove(item)
            done.append(item)

    schedule.run(list(NEEDS), needs=NEEDS.get, work=work, workers=workers, alone=lambda item: item == "c")
    assert sorted(done) == sorted(NEEDS)
    assert all(len(together) == 1 for together in beside if "c" in together)
    assert max(map(len, beside)) <= min(workers, 2)


def test_an_error_of_the_work_ends_it():
    started: list[str] = []

    def work(item: str) -> None:
        started.append(item)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        schedule.run(list(NEEDS), needs=NEEDS.get, work=work, workers=2)
    assert not {"b", "c", "d", "f"} & set(started)


def test_hooks_get_stable_events_one_at_a_time_and_may_fail():
    told: list[tuple[str, int]] = []
    failures: list[tuple[str, int, bool]] = []

    def fine(event: dict) -> None:
        told.append(("fine", event["n"]))

    def odd(event: dict) -> None:
        told.append(("odd", event["n"]))
        if event["n"] != 2:
            raise ValueError

    place = Place(Path("hooks.py"), 1)
    hooks = Hooks(
        [Hook("fine", fine, place), Hook("odd", odd, place, max_failures=2)],
        lambda hook, in_a_row, error, ended: failures.append((hook.name, in_a_row, ended)),
    )
    for n in range(6):
        hooks.tell({"n": n, "maturity_level": "EVOLVING" if n == 4 else "STABLE"})
    hooks.tell({"n": 6, "maturity_level": "STABLE"})
    assert hooks.close(10)
    assert [n for name, n in told if name == "fine"] == [0, 1, 2, 3, 5, 6]
    assert [n for name, n in told if name == "odd"] == [0, 1]
    assert failures == [("odd", 1, False), ("odd", 2, True)]
