"""Runs that were started from a page, each a `lakeflow-local bundle run` of its own process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lakeflow_local.home import Home

_END_SECONDS = 30
_KEPT = 20


@dataclass
class Started:
    """One process.

    Attributes:
        key: of the job or the pipeline.
        log: what it says.
    """

    key: str
    process: subprocess.Popen
    log: Path

    @property
    def going(self) -> bool:
        return self.process.poll() is None

    @property
    def code(self) -> int | None:
        return self.process.poll()

    def last_words(self, lines: int = 200) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


class Processes:
    """What this page started.

    Args:
        arguments: of every command, such as the target.
    """

    def __init__(self, home: Home, arguments: Sequence[str]):
        self._home, self._arguments = home, list(arguments)
        self._started: list[Started] = []
        self._lock = threading.Lock()

    def start(self, key: str, parameters: Mapping[str, str]) -> Started:
        """Starts a run of a job or an update of a pipeline."""
        command = [sys.executable, "-m", "lakeflow_local.cli", "bundle", "run", *self._arguments]
        command += [f"--params={name}={value}" for name, value in parameters.items()]
        self._home.logs.mkdir(parents=True, exist_ok=True)
        with self._lock:
            log = self._home.logs / f"ui-{key}-{time.time_ns() // 1_000_000}.log"
            for old in sorted(self._home.logs.glob("ui-*.log"), key=lambda file: file.stat().st_mtime)[: 1 - _KEPT]:
                old.unlink(missing_ok=True)
            with log.open("wb") as output:
                # In a session of its own, so that Ctrl-C reaches it once, from `end`.
                process = subprocess.Popen(
                    [*command, "--", key],
                    cwd=self._home.root,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._started.append(Started(key, process, log))
            return self._started[-1]

    def last(self, key: str) -> Started | None:
        """The last that was started of `key`."""
        return next((one for one in reversed(self._started) if one.key == key), None)

    def interrupt(self, key: str) -> None:
        """As Ctrl-C: what runs is CANCELED, and the next run resumes."""
        for one in self._started:
            if one.key == key and one.going:
                one.process.send_signal(signal.SIGINT)

    def end(self) -> list[str]:
        """Interrupts what is going on and waits for it; returns the keys."""
        going = [one for one in self._started if one.going]
        for one in going:
            one.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _END_SECONDS
        for one in going:
            try:
                one.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
        return [one.key for one in going]
