"""What the benchmarks share: two clocks, peers that take turns in one run, medians and their ratios.

The machine is seldom alone. Seconds on the wall then say little, those of the processors (of this process, its JVM and
what they started) say more; both are given.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil


@dataclass
class Seconds:
    wall: float = 0.0
    cpu: float = 0.0

    def __str__(self) -> str:
        return f"{self.wall:.1f} s, {self.cpu:.1f} s of CPU"


@contextmanager
def clocks() -> Iterator[Seconds]:
    """Seconds that the block takes; those of a process that it starts count if it waits for its end."""
    found = Seconds()
    wall, cpu = time.perf_counter(), _cpu()
    yield found
    found.wall, found.cpu = time.perf_counter() - wall, _cpu() - cpu


def _cpu() -> float:
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system + sum(map(_of, _running()))


def _running() -> list[psutil.Process]:
    # Servers outlive a command and serve others too.
    return [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]


def _of(process: psutil.Process) -> float:
    try:
        spent = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return spent.user + spent.system


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
