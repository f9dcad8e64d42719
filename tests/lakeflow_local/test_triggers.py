"""File arrivals start jobs: nothing is missed, nothing fires twice."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession

from lakeflow_local.bundle import load, triggers
from lakeflow_local.bundle.runs import Runs
from lakeflow_local.errors import LakeflowError
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


def fire(spark: SparkSession, made: load.Bundle, home: Home, **options: bool) -> list[str]:
    return [run.state for run in triggers.fire(spark, made, progress=lambda _: None, home=home, **options)]


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


def test_both_waiting_times_are_kept_when_asked_for(
    spark: SparkSession, tmp_path: Path, home: Home, landing: Path
) -> None:
    made = bundle(tmp_path, min_time_between_triggers_seconds=3, wait_after_last_change_seconds=1)
    land(landing, "a.json")
    begin = time.time()
    assert fire(spark, made, home, wait=True) == ["SUCCESS"]
    assert time.time() - begin >= 0.9
    first = json.loads((home.jobs / "work" / "file_arrival.json").read_text())["fired"]
    land(landing, "b.json")
    assert fire(spark, made, home, wait=True) == ["SUCCESS"]
    assert json.loads((home.jobs / "work" / "file_arrival.json").read_text())["fired"] - first >= 3


def test_a_bucket_is_listed_like_a_folder(spark: SparkSession) -> None:
    url = "s3://landing/test_triggers/in"
    assert triggers.listing(spark, url) == {}
    spark.range(1).coalesce(1).write.mode("overwrite").parquet(f"{url}/day=1")
    found = triggers.listing(spark, url)
    assert [Path(path).suffix for path in found] == [".parquet"]
    assert triggers.arrivals(spark, url, {"url": url, "seen": found}) == {}
    assert triggers.arrivals(spark, url, {"url": "s3://landing/other", "seen": found}) == found
