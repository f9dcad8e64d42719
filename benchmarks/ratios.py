"""What the benchmarks share: two clocks, peers that take turns in one run, medians and their ratios.

The machine is seldom alone. Seconds on the wall then say little, those of the processors (of this process, its JVM and
what they started) say more; both are given.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil


@dataclass
class Seconds:
    """What a block took, and the most that it held of the machine's memory, in MB."""

    wall: float = 0.0
    cpu: float = 0.0
    peak: float = 0.0

    def __add__(self, then: Seconds) -> Seconds:
        return Seconds(self.wall + then.wall, self.cpu + then.cpu, max(self.peak, then.peak))

    def __str__(self) -> str:
        return f"{self.wall:.1f} s, {self.cpu:.1f} s of CPU"


@contextmanager
def clocks() -> Iterator[Seconds]:
    """Seconds that the block takes; processes that it starts are looked at ten times a second."""
    found, ended, spent = Seconds(), threading.Event(), {}
    wall, before = time.perf_counter(), _look({})

    def watch() -> None:
        while not ended.wait(0.1):
            _look(spent)
            found.peak = max(found.peak, _resident() / 1e6)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield found
    ended.set()
    thread.join()
    found.wall = time.perf_counter() - wall
    found.cpu = sum(seconds - before.get(process, 0.0) for process, seconds in _look(spent).items())


def _look(spent: dict[psutil.Process, float]) -> dict[psutil.Process, float]:
    """Notes what this process and those below it have spent until now."""
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):
            times = process.cpu_times()
            spent[process] = times.user + times.system
    return spent


def _resident() -> int:
    """Bytes of this process and those below it; what processes share counts for each."""
    own, found = psutil.Process(), 0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):
            found += process.memory_info().rss
    return found


def in_turn(peers: Mapping[str, Callable[[], Seconds]], times: int) -> dict[str, Seconds]:
    """Runs each peer once for nothing, then all of them in turn, so many times; the median of each."""
    found: dict[str, list[Seconds]] = {name: [] for name in peers}
    for turn in range(times + 1):
        for name, run in peers.items():
            seconds = run()
            print(f"  {f'run {turn}' if turn else 'to warm up'}, {name}: {seconds}", file=sys.stderr, flush=True)
            found[name] += [seconds] * (turn > 0)
    return {name: median(runs) for name, runs in found.items()}


def median(runs: Sequence[Seconds]) -> Seconds:
    return Seconds(statistics.median(s.wall for s in runs), statistics.median(s.cpu for s in runs))


def show(name: str, found: Seconds, peer: Seconds) -> None:
    print(f"{name}: {found.wall / peer.wall:.2f}, of CPU {found.cpu / peer.cpu:.2f} ({found})", flush=True)


def head(what: str) -> None:
    print(f"{what}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
