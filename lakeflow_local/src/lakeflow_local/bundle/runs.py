"""What is kept of a run of a job or an update of a pipeline: a JSON file, and a lock that dies with its process."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from lakeflow_local import files
from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home

SUCCEEDED = ("SUCCESS", "SUCCESS_WITH_FAILURES")
ENDED = (*SUCCEEDED, "FAILED", "TIMEDOUT", "CANCELED", "SKIPPED", "INTERNAL_ERROR")
PROCESS_ENDED = "process ended"
_POLL_SECONDS = 0.2


@dataclass
class TaskRun:
    """One task of a run.

    Attributes:
        type: as in the bundle, such as `sql_task`.
        state: PENDING, RUNNING, SUCCESS, FAILED, TIMEDOUT, CANCELED, UPSTREAM_FAILED, EXCLUDED or DISABLED.
        start: UTC, ISO 8601.
        end: UTC, ISO 8601.
        attempts: how often it was started.
        error: one line.
        values: what it left for later tasks.
    """

    key: str
    type: str
    state: str = "PENDING"
    start: str | None = None
    end: str | None = None
    attempts: int = 0
    error: str | None = None
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        return _seconds(self.start, self.end)


@dataclass
class JobRun:
    """One run of a job.

    Attributes:
        run_id: unique in one home, increasing with time.
        job: the key of the job, or of the pipeline, in the bundle.
        target: the bundle's target.
        trigger: `{"type": …}` and what belongs to that type.
        state: QUEUED, RUNNING or one of `ENDED`.
    """

    run_id: int
    job: str
    target: str
    trigger: dict[str, Any]
    parameters: dict[str, str]
    tasks: list[TaskRun]
    state: str = "QUEUED"
    start: str | None = None
    end: str | None = None
    error: str | None = None

    @property
    def succeeded(self) -> bool:
        return self.state in SUCCEEDED

    @property
    def seconds(self) -> float | None:
        return _seconds(self.start, self.end)

    def task(self, key: str) -> TaskRun:
        return next(task for task in self.tasks if task.key == key)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _seconds(start: str | None, end: str | None) -> float | None:
    if start is None or end is None:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


class Runs:
    """The runs of one job, or the updates of one pipeline."""

    def __init__(self, home: Home, job: str):
        self.job = job
        self.folder = home.jobs / job
        self._runs = self.folder / "runs"

    def create(self, target: str, trigger: dict[str, Any], parameters: dict[str, str], tasks: list[TaskRun]) -> JobRun:
        self._runs.mkdir(parents=True, exist_ok=True)
        run_id = time.time_ns() // 1_000_000
        while True:
            try:
                self._file(run_id).open("x").close()
                break
            except FileExistsError:
                run_id += 1
        return JobRun(run_id, self.job, target, trigger, parameters, tasks)

    def save(self, run: JobRun) -> None:
        files.replace(self._file(run.run_id), json.dumps(asdict(run), indent=1, default=str) + "\n")

    def last(self, target: str | None = None) -> JobRun | None:
        return next((run for run in self.all() if target in (None, run.target)), None)

    def all(self) -> Iterator[JobRun]:
        """Every run, newest first. One that was going on when its process ended is an INTERNAL_ERROR."""
        for file in sorted(self._runs.glob("[0-9]*.json"), key=lambda file: int(file.stem), reverse=True):
            if (run := self._read(file)) is not None:
                yield run

    def get(self, run_id: int) -> JobRun | None:
        file = self._file(run_id)
        return self._read(file) if file.is_file() else None

    def log(self, run_id: int) -> Path:
        """What a run said, a line each with its time in UTC, as far as it has come."""
        return self._runs / f"{run_id}.log"

    def logged(self, run: JobRun, progress: Callable[[str], None]) -> Callable[[str], None]:
        """`progress`, which also keeps each line in the log of the run."""

        def say(line: str) -> None:
            with self.log(run.run_id).open("a", encoding="utf-8") as log:
                log.write(f"{datetime.now(UTC):%H:%M:%S} {line}\n")
            progress(line)

        return say

    def _file(self, run_id: int) -> Path:
        return self._runs / f"{run_id}.json"

    def _read(self, file: Path) -> JobRun | None:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:  # created a moment ago, or its process was killed then: nothing ran
            return None
        run = JobRun(**{**content, "tasks": [TaskRun(**task) for task in content["tasks"]]})
        if run.state not in ENDED and not self._alive(run.run_id):
            run.state, run.error = "INTERNAL_ERROR", PROCESS_ENDED
            for task in run.tasks:
                if task.state == "RUNNING":
                    task.state, task.error = "INTERNAL_ERROR", PROCESS_ENDED
        return run

    def _alive(self, run_id: int) -> bool:
        lock = self._lock(run_id)
        if not lock.is_file():
            return False
        with lock.open("r") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def _lock(self, run_id: int) -> Path:
        return self._runs / f"{run_id}.lock"

    @contextmanager
    def living(self, run: JobRun) -> Iterator[None]:
        """Keeps the run, and marks it as going on for as long as this process is inside."""
        lock = self._lock(run.run_id)
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            try:
                self.save(run)
                yield
            finally:
                lock.unlink(missing_ok=True)

    @contextmanager
    def recorded(self, target: str) -> Iterator[JobRun]:
        """Keeps what happens inside as a run without tasks, which is how an update of a pipeline is kept."""
        run = self.create(target, {"type": "UPDATE"}, {}, [])
        run.state, run.start = "RUNNING", now()
        with self.living(run):
            try:
                yield run
                run.state = "SUCCESS"
            except Exception as error:
                run.state, run.error = "FAILED", str(error)
                raise
            except BaseException:
                run.state, run.error = "CANCELED", "interrupted"
                raise
            finally:
                run.end = now()
                self.save(run)

    @contextmanager
    def slot(self, most: int, *, wait: bool, waiting: Callable[[], None]) -> Iterator[None]:
        """Holds one of the job's `most` places for runs at the same time.

        Args:
            wait: whether to wait for a place where all are taken.
            waiting: called once before waiting.

        Raises:
            LakeflowError: all places are taken and `wait` is false.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        slots = [(self.folder / f"slot-{number}.lock").open("w") for number in range(most)]
        try:
            told = False
            while not any(try_lock(slot) for slot in slots):
                if not wait:
                    raise LakeflowError(
                        f"the job {self.job} has {most} run(s) going on and max_concurrent_runs is {most};"
                        " wait for the end, or set queue.enabled to true"
                    )
                if not told:
                    waiting()
                    told = True
                time.sleep(_POLL_SECONDS)
            yield
        finally:
            for slot in slots:
                slot.close()


def try_lock(file: IO[str]) -> bool:
    """Takes the exclusive lock on an open file if nobody holds it; it goes when the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
