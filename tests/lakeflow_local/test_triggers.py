"""File arrivals and schedules start jobs: nothing is missed, nothing runs twice, also when the watch is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from pyspark.sql import SparkSession

from lakeflow_local.bundle import load, triggers
from lakeflow_local.bundle.runs import Runs, TaskRun
from lakeflow_local.bundle.watch import watch
from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, tmp_path / ".lakehouse")


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    folder = tmp_path / "landing"
    folder.mkdir()
    return folder


def bundle(tmp_path: Path, code: str = "", paused: bool = False, **waits: int) -> load.Bundle:
    (tmp_path / "work.py").write_text(code)
    content = {
        "bundle": {"name": "b"},
        "presets": {"trigger_pause_status": "PAUSED" if paused else "UNPAUSED"},
        "resources": {
            "jobs": {
                "work": {
                    "name": "work",
                    "trigger": {"file_arrival": {"url": f"{tmp_path}/landing/", **waits}},
                    "tasks": [{"task_key": "a", "spark_python_task": {"python_file": "work.py"}}],
                },
                "by_hand": {
                    "name": "by hand",
                    "tasks": [{"task_key": "a", "spark_python_task": {"python_file": "work.py"}}],
                },
            }
        },
    }
    (tmp_path / "databricks.yml").write_text(yaml.safe_dump(content))
    return load.load(tmp_path, environment={})


def fire(spark: SparkSession, made: load.Bundle, home: Home) -> list[str]:
    return [run.state for run in triggers.fire(spark, made, progress=lambda _: None, home=home)]


def land(folder: Path, name: str, text: str = "x") -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_hidden_parts_of_a_path_do_not_count(spark: SparkSession, landing: Path) -> None:
    for name in ("day=1/a.json", "b.json", "_SUCCESS", "_temporary/0/c.json", ".d.crc", "day=1/.e", "day=1/_f/g.json"):
        land(landing, name)
    found = {
        Path(path.removeprefix("file:")).relative_to(landing).as_posix()
        for path in triggers.listing(spark, f"{landing}/")
    }
    assert found == {"day=1/a.json", "b.json"}


def test_a_missing_folder_has_no_files_and_a_wrong_scheme_is_said(spark: SparkSession, tmp_path: Path) -> None:
    assert triggers.listing(spark, str(tmp_path / "absent")) == {}
    with pytest.raises(LakeflowError, match=r"nowhere://x/ cannot be listed: .*nowhere"):
        triggers.listing(spark, "nowhere://x/")


def test_files_fire_once(spark: SparkSession, tmp_path: Path, home: Home, landing: Path) -> None:
    made = bundle(tmp_path)
    assert fire(spark, made, home) == []
    land(landing, "a.json")
    assert fire(spark, made, home) == ["SUCCESS"]
    assert fire(spark, made, home) == []
    land(landing, "b.json")
    land(landing, "a.json", "longer than before")
    assert fire(spark, made, home) == ["SUCCESS"]
    assert fire(spark, made, home) == []
    run = Runs(home, "work").last()
    assert run is not None
    assert run.trigger == {"type": "FILE_ARRIVAL", "url": f"{landing}/", "files": 2}
    assert Runs(home, "by_hand").last() is None


def test_a_failed_run_is_not_repeated_but_one_whose_process_ended_is(
    spark: SparkSession, tmp_path: Path, home: Home, landing: Path
) -> None:
    land(landing, "a.json")
    assert fire(spark, bundle(tmp_path, "1 / 0"), home) == ["FAILED"]
    assert fire(spark, bundle(tmp_path), home) == []

    land(landing, "b.json")
    with pytest.raises(KeyboardInterrupt):
        fire(spark, bundle(tmp_path, "raise KeyboardInterrupt"), home)
    assert fire(spark, bundle(tmp_path), home) == ["SUCCESS"]
    assert fire(spark, bundle(tmp_path), home) == []

    # As a kill leaves it: the run is going on and nobody holds its lock.
    land(landing, "c.json")
    assert fire(spark, bundle(tmp_path), home) == ["SUCCESS"]
    run = Runs(home, "work").last()
    assert run is not None
    run.state = "RUNNING"
    Runs(home, "work").save(run)
    assert fire(spark, bundle(tmp_path), home) == ["SUCCESS"]
    again = Runs(home, "work").last()
    assert again is not None
    assert again.trigger["files"] == 1


def test_what_arrives_during_the_run_fires_the_next_one(
    spark: SparkSession, tmp_path: Path, home: Home, landing: Path
) -> None:
    land(landing, "a.json")
    made = bundle(tmp_path, f"from pathlib import Path\nPath({str(landing)!r}, 'during.json').write_text('x')")
    assert fire(spark, made, home) == ["SUCCESS"]
    assert fire(spark, bundle(tmp_path), home) == ["SUCCESS"]
    assert fire(spark, bundle(tmp_path), home) == []


def test_a_paused_trigger_does_not_fire(spark: SparkSession, tmp_path: Path, home: Home, landing: Path) -> None:
    land(landing, "a.json")
    assert fire(spark, bundle(tmp_path, paused=True), home) == []


def test_both_waiting_times_are_kept(
    spark: SparkSession, tmp_path: Path, home: Home, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bundle(tmp_path, min_time_between_triggers_seconds=300, wait_after_last_change_seconds=60)
    (trigger,) = triggers.all_of(spark, made, home)
    assert isinstance(trigger, triggers.FileArrival)
    assert str(trigger) == f"work: files in {landing}/ (60 s after the last, 300 s between runs)"
    clock = 1_800_000_000.0
    monkeypatch.setattr(triggers, "time", SimpleNamespace(time=lambda: clock))

    def due_after(seconds: float) -> bool:
        nonlocal clock
        clock += seconds
        firing = trigger.due()
        if firing is not None:
            firing.keep(None)
        return firing is not None

    def land_now(name: str) -> None:
        land(landing, name)
        os.utime(landing / name, (clock, clock))

    land_now("a.json")
    assert not due_after(59)
    land_now("b.json")
    assert not due_after(2)
    assert due_after(58)
    land_now("c.json")
    assert not due_after(61)
    assert not due_after(238)
    assert due_after(1)
    # written by a server whose clock is an hour ahead
    land(landing, "d.json")
    os.utime(landing / "d.json", (clock + 3600, clock + 3600))
    assert not due_after(299)
    assert not due_after(1)


def test_a_bucket_is_listed_like_a_folder(spark: SparkSession) -> None:
    url = "s3://landing/test_triggers/in"
    assert triggers.listing(spark, url) == {}
    spark.range(1).coalesce(1).write.mode("overwrite").parquet(f"{url}/day=1")
    found = triggers.listing(spark, url)
    assert [Path(path).suffix for path in found] == [".parquet"]
    assert triggers.arrivals(spark, url, {"url": url, "seen": found}) == {}
    assert triggers.arrivals(spark, url, {"url": "s3://landing/other", "seen": found}) == found


def scheduled(tmp_path: Path, code: str = "", *parameters: str, **settings: object) -> load.Bundle:
    (tmp_path / "work.py").write_text(code)
    task = {"task_key": "a", "spark_python_task": {"python_file": "work.py", "parameters": list(parameters)}}
    schedule = {"quartz_cron_expression": "0 0 2 * * ?", "timezone_id": "Europe/Berlin"}
    starts = {} if "continuous" in settings else {"schedule": schedule}
    job = {"name": "work", **starts, "tasks": [task], **settings}
    (tmp_path / "databricks.yml").write_text(
        yaml.safe_dump({"bundle": {"name": "b"}, "resources": {"jobs": {"work": job}}})
    )
    return load.load(tmp_path, environment={})


def test_a_schedule_is_run_once_for_each_of_its_times(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime(2026, 3, 27, 12, tzinfo=UTC)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return now

    monkeypatch.setattr(triggers, "datetime", Clock)

    def due(made: load.Bundle, run_id: int | None = None) -> str | None:
        (trigger,) = triggers.all_of(None, made, home)
        firing = trigger.due()
        if firing is None:
            return None
        firing.keep(run_id)
        return firing.trigger["time"]

    made = scheduled(tmp_path)
    assert due(made) is None, "what passed before it was first watched does not count"
    now += timedelta(hours=24)
    assert [due(made), due(made)] == ["2026-03-28T01:00:00+00:00", None]
    now += timedelta(hours=36)
    # clocks go forward over 02:00 in Berlin on the 29th
    assert [due(made), due(made), due(made)] == ["2026-03-29T01:00:00+00:00", "2026-03-30T00:00:00+00:00", None]
    now += timedelta(days=9)
    assert [due(made), due(made), due(made)] == ["2026-04-07T00:00:00+00:00", "2026-04-08T00:00:00+00:00", None]
    now += timedelta(hours=40)
    without_queue = scheduled(tmp_path, queue={"enabled": False})
    assert [due(without_queue), due(without_queue)] == ["2026-04-09T00:00:00+00:00", None]

    runs = Runs(home, "work")
    killed = runs.create("local", {"type": "PERIODIC"}, {}, [TaskRun("a", "spark_python_task", "RUNNING")])
    killed.state = "RUNNING"
    runs.save(killed)
    now += timedelta(hours=10)
    assert [due(made, killed.run_id), due(made), due(made)] == [*["2026-04-10T00:00:00+00:00"] * 2, None]

    changed = {"quartz_cron_expression": "0 0 1 * * ?", "timezone_id": "UTC"}
    assert due(scheduled(tmp_path, schedule=changed)) is None
    assert list(triggers.all_of(None, scheduled(tmp_path, schedule={**changed, "pause_status": "PAUSED"}), home)) == []


def test_other_triggers_are_refused_by_name(tmp_path: Path, home: Home) -> None:
    made = scheduled(tmp_path, trigger={"periodic": {"interval": 1, "unit": "DAYS"}})
    with pytest.raises(UnsupportedError, match=r"the trigger `periodic` of resources\.jobs\.work is not supported"):
        list(triggers.all_of(None, made, home))


def counter(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


def test_watch_runs_what_is_due_and_goes_on_after_a_failure(
    spark: SparkSession, tmp_path: Path, home: Home, landing: Path
) -> None:
    land(landing, "a.json")
    lines: list[str] = []
    watch(spark, bundle(tmp_path, "1 / 0"), home, progress=lines.append, going=counter(0.3), poll=0.1)
    assert lines[0] == f"work: files in {landing}/"
    assert any(line.startswith("work: FAILED in ") for line in lines)
    lines.clear()
    land(landing, "b.json")
    watch(spark, bundle(tmp_path), home, progress=lines.append, going=counter(0.3), poll=0.1)
    assert [line for line in lines if " SUCCESS in " in line and ": a:" not in line]
    assert "work: 1 new file(s) in" in lines[1]
    lines.clear()
    bundle(tmp_path)
    (tmp_path / "databricks.yml").write_text(
        (tmp_path / "databricks.yml").read_text().replace(str(landing), "nowhere://x")
    )
    watch(spark, load.load(tmp_path, environment={}), home, progress=lines.append, going=counter(0.5), poll=0.1)
    assert len(lines) == 2 and "work: error: nowhere://x/ cannot be listed" in lines[1], "told once"
    with pytest.raises(LakeflowError, match="no job or alert of the target default has a schedule or a trigger"):
        watch(spark, bundle(tmp_path, paused=True), home)


def test_what_is_continuous_runs_again_and_waits_longer_after_each_failure(tmp_path: Path, home: Home) -> None:
    made = scheduled(tmp_path, continuous={"pause_status": "UNPAUSED"})
    (trigger,) = triggers.all_of(None, made, home)
    assert (str(trigger), trigger.due().trigger) == ("work: without end", {"type": "CONTINUOUS"})
    waits = []
    for succeeded in (True, False, False, *[False] * 9, True):
        trigger.ended(succeeded)
        waits.append(round((trigger.next() - datetime.now(UTC)).total_seconds() / 60))
        assert (trigger.due() is None) != succeeded
    assert waits[:4] == [0, 1, 2, 4] and waits[-2:] == [60, 0]
    assert list(triggers.all_of(None, scheduled(tmp_path, continuous={"pause_status": "PAUSED"}), home)) == []


WATCH = """\
import sys
from pathlib import Path
from lakeflow_local.bundle import load
from lakeflow_local.bundle.watch import watch
from lakeflow_local.home import Home
root = Path(sys.argv[1])
watch(None, load.load(root, environment={}), Home(root, root / ".lakehouse"))
"""


def test_a_killed_watch_runs_nothing_twice_and_misses_nothing(tmp_path: Path, home: Home) -> None:
    log = tmp_path / "log"
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        f"def say(what):\n    with Path({str(log)!r}).open('a') as log: log.write(f'{{what}} {{sys.argv[1]}}\\n')\n"
        "say('begin'); time.sleep(0.3); say('end')"
    )
    schedule = {"quartz_cron_expression": "* * * * * ?", "timezone_id": "UTC"}
    scheduled(tmp_path, code, "{{job.trigger.time.iso_datetime}}", schedule=schedule)

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", WATCH, str(tmp_path)], stdout=subprocess.PIPE, text=True)

    def wait_for(word: str, count: int) -> None:
        until = time.monotonic() + 30
        while not log.exists() or log.read_text().count(word) < count:
            assert time.monotonic() < until, log.read_text() if log.exists() else "nothing ran"
            time.sleep(0.02)

    first = start()
    wait_for("end", 1)
    wait_for("begin", 2)
    second = subprocess.run([sys.executable, "-c", WATCH, str(tmp_path)], capture_output=True, text=True)
    assert "another `bundle watch` runs on this machine" in second.stderr
    before = log.read_text().count("begin")
    wait_for("begin", before + 1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    killed = log.read_text().splitlines()[-1]
    assert killed.startswith("begin "), "killed between its begin and its end"
    time.sleep(1.5)
    again = start()
    wait_for("end", log.read_text().count("end") + 4)
    again.send_signal(signal.SIGINT)
    again.wait()

    lines = log.read_text().splitlines()
    ended = [datetime.fromisoformat(line.split()[1]) for line in lines if line.startswith("end ")]
    assert ended == [ended[0] + timedelta(seconds=n) for n in range(len(ended))], "each second once, in order"
    assert lines.count(killed) == 2, "what was killed is run again"
