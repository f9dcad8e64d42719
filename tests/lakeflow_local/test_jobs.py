# ruff: noqa: E501 - a table of cases reads best with a case a line
"""Task graphs run for real, in small bundles that do not need servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession

from lakeflow_local.bundle import alerts, jobs, load
from lakeflow_local.bundle.runs import JobRun, Runs, TaskRun
from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.home import Home

Make = Callable[..., load.Bundle]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, tmp_path / ".lakehouse")


@pytest.fixture
def bundle(tmp_path: Path) -> Make:
    """Makes a bundle with one job `work` of the given tasks, and others if wanted."""

    def make(*tasks: dict, others: dict | None = None, **settings: object) -> load.Bundle:
        resources = {"jobs": {"work": {"name": "work", "tasks": list(tasks), **settings}, **(others or {})}}
        (tmp_path / "databricks.yml").write_text(yaml.safe_dump({"bundle": {"name": "b"}, "resources": resources}))
        return load.load(tmp_path, environment={})

    return make


def python(tmp_path: Path, key: str, code: str = "", *parameters: str, **settings: object) -> dict:
    """A Python task that appends its name to the file `log`, then runs `code`."""
    file = tmp_path / f"{key}.py"
    file.write_text(f"import sys\nfrom pathlib import Path\nwith Path({str(tmp_path / 'log')!r}).open('a') as log:\n"
                    f"    log.write('{key} ' + ' '.join(sys.argv[1:]) + '\\n')\n{code}\n")  # fmt: skip
    return {
        "task_key": key,
        "spark_python_task": {"python_file": f"{key}.py", "parameters": list(parameters)},
        **settings,
    }


def after(*keys: str, **outcome: str) -> list[dict]:
    return [{"task_key": key, **outcome} for key in keys]


def condition(key: str, left: str, op: str, right: str) -> dict:
    return {"task_key": key, "condition_task": {"left": left, "op": op, "right": right}}


def log(tmp_path: Path) -> list[str]:
    file = tmp_path / "log"
    return [line.strip() for line in file.read_text().splitlines()] if file.exists() else []


def states(run: JobRun) -> dict[str, str]:
    return {task.key: task.state for task in run.tasks}


def test_tasks_run_after_what_they_depend_on(spark: SparkSession, bundle: Make, home: Home, tmp_path: Path) -> None:
    lines: list[str] = []
    made = bundle(
        python(tmp_path, "last", depends_on=after("middle")),
        python(tmp_path, "middle", "", "{{job.parameters.day}}", "{{task.name}}", depends_on=after("first")),
        python(tmp_path, "first", "import os; assert os.environ['ONLY_HERE'] == '1'"),
        parameters=[{"name": "day", "default": "monday"}],
    )
    run = jobs.run(
        spark,
        made,
        "work",
        parameters={"day": "friday"},
        progress=lines.append,
        environment={"ONLY_HERE": "1"},
        home=home,
    )
    assert run.succeeded
    assert log(tmp_path) == ["first", "middle friday middle", "last"]
    assert "ONLY_HERE" not in os.environ
    assert lines[0] == "work: first: started"
    assert lines[-1].startswith("work: SUCCESS in ")

    kept = json.loads(next((home.jobs / "work" / "runs").glob("*.json")).read_text())
    assert kept["run_id"] == run.run_id
    assert kept["parameters"] == {"day": "friday"}
    assert [(task["key"], task["state"], task["attempts"]) for task in kept["tasks"]] == [
        ("first", "SUCCESS", 1), ("middle", "SUCCESS", 1), ("last", "SUCCESS", 1),
    ]  # fmt: skip
    assert Runs(home, "work").last() == run


def test_a_failed_task_stops_those_after_it_and_says_where(
    spark: SparkSession, bundle: Make, home: Home, tmp_path: Path
) -> None:
    made = bundle(
        python(tmp_path, "bad", "raise ValueError('no luck\\nsecond line')"),
        python(tmp_path, "next", depends_on=after("bad")),
        python(tmp_path, "other"),
    )
    run = jobs.run(spark, made, "work", progress=lambda _: None, home=home)
    assert (run.state, states(run)) == ("FAILED", {"bad": "FAILED", "next": "UPSTREAM_FAILED", "other": "SUCCESS"})
    assert run.task("bad").error == f"{tmp_path / 'bad.py'}:5: ValueError: no luck"
    assert run.error == f"bad: {run.task('bad').error}"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("sys.exit(3)", "bad.py: it exited with 3"),
        ("sys.exit('bad input')", "bad.py: bad input"),
        ("sys.exit(0)", None),
    ],
)
def test_exit_codes(
    spark: SparkSession, bundle: Make, home: Home, tmp_path: Path, code: str, error: str | None
) -> None:
    argv = list(sys.argv)
    run = jobs.run(spark, bundle(python(tmp_path, "bad", code)), "work", progress=lambda _: None, home=home)
    assert run.task("bad").error == error
    assert sys.argv == argv


def test_a_task_is_tried_again(spark: SparkSession, bundle: Make, home: Home, tmp_path: Path) -> None:
    flaky = f"if Path({str(tmp_path / 'log')!r}).read_text().count('flaky') < 3: raise OSError('not yet')"
    made = bundle(
        python(tmp_path, "flaky", flaky, max_retries=2, min_retry_interval_millis=200),
        python(tmp_path, "never", "raise OSError('never')", max_retries=1),
    )
    lines: list[str] = []
    run = jobs.run(spark, made, "work", progress=lines.append, home=home)
    assert (run.task("flaky").state, run.task("flaky").attempts) == ("SUCCESS", 3)
    assert run.task("flaky").seconds >= 0.4
    assert (run.task("never").state, run.task("never").attempts) == ("FAILED", 2)
    assert any("flaky: attempt 1 failed" in line and "again in 0.2 s" in line for line in lines)


def test_a_task_that_takes_too_long_is_stopped(spark: SparkSession, bundle: Make, home: Home, tmp_path: Path) -> None:
    slow = (
        "from pyspark.sql import SparkSession, functions as F\n"
        "import time\n"
        "wait = F.udf(lambda x: time.sleep(60) or x, 'long')\n"
        "SparkSession.getActiveSession().range(1).select(wait('id')).collect()"
    )
    made = bundle(python(tmp_path, "slow", slow, timeout_seconds=2, max_retries=3))
    begin = time.monotonic()
    run = jobs.run(spark, made, "work", progress=lambda _: None, home=home)
    assert time.monotonic() - begin < 40
    assert run.task("slow").state == "TIMEDOUT"
    assert run.task("slow").attempts == 1
    assert run.task("slow").error == "it took longer than the 2 s that it has"
    assert spark.range(3).count() == 3


def test_the_job_has_a_time_limit_too(spark: SparkSession, bundle: Make, home: Home, tmp_path: Path) -> None:
    made = bundle(python(tmp_path, "slow", "import time; time.sleep(30)"), timeout_seconds=1)
    assert jobs.run(spark, made, "work", progress=lambda _: None, home=home).state == "TIMEDOUT"


def test_conditions_choose_a_branch(spark: SparkSession, bundle: Make, home: Home, tmp_path: Path) -> None:
    made = bundle(
        condition("check", "{{job.parameters.rows}}", "GREATER_THAN", "9"),
        python(tmp_path, "many", depends_on=after("check", outcome="true")),
        python(tmp_path, "few", depends_on=after("check", outcome="false")),
        python(tmp_path, "after_few", depends_on=after("few")),
        python(tmp_path, "join", depends_on=after("many", "after_few"), run_if="NONE_FAILED"),
        parameters=[{"name": "rows", "default": "10.0"}],
    )
    run = jobs.run(spark, made, "work", progress=lambda _: None, home=home)
    assert states(run) == {
        "check": "SUCCESS", "many": "SUCCESS", "few": "EXCLUDED", "after_few": "EXCLUDED", "join": "SUCCESS",
    }  # fmt: skip
    run = jobs.run(spark, made, "work", parameters={"rows": "9"}, progress=lambda _: None, home=home)
    assert (states(run)["many"], states(run)["few"]) == ("EXCLUDED", "SUCCESS")


@pytest.mark.parametrize(
    ("run_if", "after_success", "after_failure", "after_both"),
    [
        ("ALL_SUCCESS", "SUCCESS", "UPSTREAM_FAILED", "UPSTREAM_FAILED"),
        ("AT_LEAST_ONE_SUCCESS", "SUCCESS", "UPSTREAM_FAILED", "SUCCESS"),
        ("NONE_FAILED", "SUCCESS", "UPSTREAM_FAILED", "UPSTREAM_FAILED"),
        ("ALL_DONE", "SUCCESS", "SUCCESS", "SUCCESS"),
        ("AT_LEAST_ONE_FAILED", "EXCLUDED", "SUCCESS", "SUCCESS"),
        ("ALL_FAILED", "EXCLUDED", "SUCCESS", "EXCLUDED"),
    ],
)
def test_run_if(
    spark: SparkSession, bundle: Make, home: Home, tmp_path: Path,
    run_if: str, after_success: str, after_failure: str, after_both: str,
) -> None:  # fmt: skip
    made = bundle(
        python(tmp_path, "good"),
        python(tmp_path, "bad", "1 / 0"),
        *(
            python(tmp_path, name, depends_on=after(*names), run_if=run_if)
            for name, names in {"x": ["good"], "y": ["bad"], "z": ["good", "bad"]}.items()
        ),
    )
    found = states(jobs.run(spark, made, "work", progress=lambda _: None, home=home))
    assert (found["x"], found["y"], found["z"]) == (after_success, after_failure, after_both)


def test_a_disabled_task_disables_what_needs_it(spark: SparkSession, bundle: Make, home: Home, tmp_path: Path) -> None:
    made = bundle(
        python(tmp_path, "off", disabled=True),
        python(tmp_path, "needs", depends_on=after("off")),
        python(tmp_path, "cleans", depends_on=after("off"), run_if="ALL_DONE"),
    )
    found = states(jobs.run(spark, made, "work", progress=lambda _: None, home=home))
    assert found == {"off": "DISABLED", "needs": "DISABLED", "cleans": "SUCCESS"}


def test_a_failure_that_is_handled_is_success_with_failures(
    spark: SparkSession, bundle: Make, home: Home, tmp_path: Path
) -> None:
    made = bundle(
        python(tmp_path, "bad", "1 / 0"), python(tmp_path, "cleans", depends_on=after("bad"), run_if="ALL_DONE")
    )
    run = jobs.run(spark, made, "work", progress=lambda _: None, home=home)
    assert run.state == "SUCCESS_WITH_FAILURES"
    assert run.succeeded


def test_a_wheel_task_runs_the_entry_point_of_an_installed_distribution(
    spark: SparkSession, bundle: Make, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "tiny-1.dist-info").mkdir(parents=True)
    (site / "tiny-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
    (site / "tiny-1.dist-info/entry_points.txt").write_text("[console_scripts]\ncount = tiny:count\nodd = tiny:odd\n")
    (site / "tiny.py").write_text(
        "import sys\nfrom pyspark.sql import SparkSession\n\ndef count():\n"
        "    rows = SparkSession.builder.getOrCreate().range(int(sys.argv[1].split('=')[1]))\n"
        "    print(sys.argv, rows.count())\n\ndef odd():\n    return 2\n"
    )
    monkeypatch.syspath_prepend(str(site))

    def wheel(key: str, entry_point: str, **parameters: object) -> dict:
        return {
            "task_key": key,
            "python_wheel_task": {"package_name": "tiny", "entry_point": entry_point, **parameters},
        }

    made = bundle(
        wheel("listed", "count", parameters=["--n=2"]),
        wheel("named", "count", named_parameters={"n": "3"}),
        wheel("missing", "cuont"),
        wheel("returns", "odd"),
    )
    run = jobs.run(spark, made, "work", progress=lambda _: None, home=home)
    assert states(run) == {"listed": "SUCCESS", "named": "SUCCESS", "missing": "FAILED", "returns": "FAILED"}
    assert "the entry point cuont of tiny is not installed" in (run.task("missing").error or "")
    assert "odd returned 2" in (run.task("returns").error or "")


def test_sql_tasks_bind_parameters_and_hand_on_their_rows(
    spark: SparkSession, bundle: Make, home: Home, tmp_path: Path
) -> None:
    (tmp_path / "make.sql").write_text(
        "-- a comment; with a semicolon\nCREATE OR REPLACE TEMP VIEW IDENTIFIER(:name) AS SELECT 'a;b' AS x, 7 AS n;\n"
        "SELECT x, n FROM IDENTIFIER({{name}}) WHERE x <> ';{{name}}'"
    )
    (tmp_path / "bad.sql").write_text("SELECT 1;\n\nSELECT *\nFROM nowhere;\n")

    def sql(key: str, file: str, **settings: object) -> dict:
        return {"task_key": key, "sql_task": {"warehouse_id": "w", "file": {"path": file}}, **settings}

    made = bundle(
        sql("make", "make.sql"),
        condition("seven", "{{tasks.make.output.first_row.n}}", "EQUAL_TO", "7") | {"depends_on": after("make")},
        python(tmp_path, "then", depends_on=after("seven", outcome="true")),
        sql("bad", "bad.sql"),
        sql("absent", "absent.sql"),
        parameters=[{"name": "name", "default": "made_by_task"}],
    )
    run = jobs.run(spark, made, "work", progress=lambda _: None, home=home)
    assert states(run) == {
        "make": "SUCCESS",
        "seven": "SUCCESS",
        "then": "SUCCESS",
        "bad": "FAILED",
        "absent": "FAILED",
    }
    assert (run.task("bad").error or "").startswith(f"{tmp_path / 'bad.sql'}:3: [TABLE_OR_VIEW_NOT_FOUND]")
    assert "\n" not in (run.task("bad").error or "")
    assert run.task("absent").error == f"{tmp_path / 'absent.sql'}: there is no such file"
    assert "a;b" not in next((home.jobs / "work" / "runs").glob("*.json")).read_text()


def test_alerts_compare_what_their_query_returns(spark: SparkSession, bundle: Make, home: Home, tmp_path: Path) -> None:
    def alert(query: str, operator: str, source: dict, **evaluation: object) -> dict:
        rules = {"comparison_operator": operator, "source": source, **evaluation}
        schedule = {"quartz_cron_schedule": "0 0 * * * ?", "timezone_id": "UTC"}
        return {
            "display_name": "a",
            "query_text": query,
            "warehouse_id": "w",
            "schedule": schedule,
            "evaluation": rules,
        }

    def over(limit: float) -> dict:
        return {"value": {"double_value": limit}}

    two = "SELECT * FROM VALUES (1, CAST(2.5 AS DECIMAL(9, 2)), 'x'), (3, NULL, 'y') AS t(n, d, s)"
    empty = f"{two} WHERE n > 9"
    cases = {
        "first": (alert(two, "GREATER_THAN", {"name": "n"}, threshold=over(0)), "TRIGGERED: n 1 GREATER_THAN 0"),
        "total": (alert(two, "LESS_THAN", {"name": "n", "aggregation": "SUM"}, threshold=over(4)), "OK: n 4 LESS_THAN 4"),
        "money": (alert(two, "EQUAL", {"name": "d", "aggregation": "MAX"}, threshold=over(2.5)), "TRIGGERED: d 2.50 EQUAL 2.5"),
        "text": (alert(two, "EQUAL", {"name": "s"}, threshold={"value": {"string_value": "x"}}), "TRIGGERED: s x EQUAL x"),
        "columns": (alert(two, "LESS_THAN", {"name": "n"}, threshold={"column": {"name": "d"}}), "TRIGGERED: n 1 LESS_THAN 2.50"),
        "null": (alert("SELECT NULL AS n", "GREATER_THAN", {"name": "n"}, threshold=over(0)), "OK: None GREATER_THAN 0"),
        "is_null": (alert("SELECT NULL AS n", "IS_NULL", {"name": "n"}), "TRIGGERED: None IS_NULL"),
        "empty": (alert(empty, "GREATER_THAN", {"name": "n"}, threshold=over(0)), "OK: None GREATER_THAN 0"),
        "no_rows": (alert(empty, "GREATER_THAN", {"name": "n"}, threshold=over(0), empty_result_state="ERROR"), "ERROR: None GREATER_THAN 0"),
        "count": (alert(empty, "EQUAL", {"name": "n", "aggregation": "COUNT"}, threshold=over(0)), "OK: n 0 EQUAL 0"),
    }  # fmt: skip
    task = {"task_key": "ask", "alert_task": {"alert_id": "${resources.alerts.first.id}", "warehouse_id": "w"}}
    state = condition("bad", "{{tasks.ask.output.alert_state}}", "EQUAL_TO", "TRIGGERED") | {"depends_on": after("ask")}
    content = {
        "bundle": {"name": "b"},
        "resources": {
            "alerts": {key: made for key, (made, _) in cases.items()},
            "jobs": {"work": {"name": "work", "tasks": [task, state]}},
        },
    }
    (tmp_path / "databricks.yml").write_text(yaml.safe_dump(content))
    made = load.load(tmp_path, environment={})
    found = {key: str(alerts.evaluate(spark, made.find(key, "alerts"), home)) for key in cases}
    assert found == {key: expected for key, (_, expected) in cases.items()}
    assert str(alerts.last(made.find("total", "alerts"), home)) == "OK: n 4 LESS_THAN 4"
    run = jobs.run(spark, made, "work", progress=lambda _: None, home=home)
    assert (run.state, run.task("bad").values) == ("SUCCESS", {"outcome": "true"})

    file = tmp_path / "databricks.yml"
    file.write_text(
        file.read_text().replace("name: n\n", "name: m\n").replace("AS t(n, d, s)", "AS t(n, d, s) WHERE q")
    )
    broken = load.load(tmp_path, environment={})
    with pytest.raises(LakeflowError, match=r"resources.alerts.first: \[UNRESOLVED_COLUMN.*`q`"):
        alerts.evaluate(spark, broken.find("first", "alerts"), home)
    with pytest.raises(LakeflowError, match="the query returns no column m; it returns n"):
        alerts.evaluate(spark, broken.find("is_null", "alerts"), home)


def test_task_values_go_from_task_to_task(spark: SparkSession, bundle: Make, home: Home, tmp_path: Path) -> None:
    count = "from pyspark.dbutils import DBUtils\nDBUtils(spark).jobs.taskValues.set('rows', spark.range(3).count())"
    read = "assert dbutils.jobs.taskValues.get('count', 'rows') == 3"
    made = bundle(
        python(tmp_path, "count", count),
        python(tmp_path, "read", read, depends_on=after("count")),
        condition("any", "{{tasks.count.values.rows}}", "GREATER_THAN", "0") | {"depends_on": after("count")},
        python(tmp_path, "absent", "dbutils.jobs.taskValues.get('count', 'bytes')", depends_on=after("count")),
        python(tmp_path, "big", "dbutils.jobs.taskValues.set('x', 'x' * 50_000)"),
        python(tmp_path, "secret", "dbutils.secrets.get('scope', 'key')"),
    )
    run = jobs.run(spark, made, "work", progress=lambda _: None, home=home)
    assert (states(run)["read"], run.task("any").values) == ("SUCCESS", {"outcome": "true"})
    assert "the task count has set no value bytes" in (run.task("absent").error or "")
    assert "has 50002 bytes; at most 49152" in (run.task("big").error or "")
    assert "dbutils.secrets is not supported on this machine" in (run.task("secret").error or "")
    assert "pyspark.dbutils" not in sys.modules


def test_schemas_of_the_bundle_are_made_first(spark: SparkSession, home: Home, tmp_path: Path) -> None:
    schemas = {"made": {"catalog_name": "spark_catalog", "name": "made_by_job", "comment": "it's new"}}
    task = python(tmp_path, "look", "from pyspark.sql import SparkSession\n"
                  "assert SparkSession.getActiveSession().catalog.databaseExists('made_by_job')")  # fmt: skip
    content = {
        "bundle": {"name": "b"},
        "resources": {"schemas": schemas, "jobs": {"work": {"name": "w", "tasks": [task]}}},
    }
    (tmp_path / "databricks.yml").write_text(yaml.safe_dump(content))
    try:
        for _ in range(2):
            run = jobs.run(spark, load.load(tmp_path, environment={}), "work", progress=lambda _: None, home=home)
            assert run.succeeded, run.error
    finally:
        spark.sql("DROP SCHEMA IF EXISTS made_by_job")


def test_a_job_runs_another(spark: SparkSession, bundle: Make, home: Home, tmp_path: Path) -> None:
    inner = {"name": "inner", "parameters": [{"name": "x", "default": ""}],
             "tasks": [python(tmp_path, "inside", "", "{{job.parameters.x}}")]}  # fmt: skip
    call = {"job_id": "${resources.jobs.inner.id}", "job_parameters": {"x": "given"}}
    made = bundle({"task_key": "call", "run_job_task": call}, others={"inner": inner})
    assert jobs.run(spark, made, "work", progress=lambda _: None, home=home).succeeded
    assert log(tmp_path) == ["inside given"]
    kept = Runs(home, "inner").last()
    assert kept is not None
    assert kept.trigger["type"] == "RUN_JOB_TASK"


def test_a_task_runs_for_each_input(spark: SparkSession, bundle: Make, home: Home, tmp_path: Path) -> None:
    inner = python(tmp_path, "one", "sys.argv[2] == 'DE' and 1 / 0", "{{input.name}}", "{{input.country}}")
    inputs = '[{"name": "a", "country": "FR"}, {"name": "b", "country": "DE"}, {"name": "c", "country": "GB"}]'
    run = jobs.run(
        spark,
        bundle(
            {"task_key": "all", "for_each_task": {"inputs": "{{job.parameters.inputs}}", "task": inner}},
            parameters=[{"name": "inputs", "default": inputs}],
        ),
        "work",
        progress=lambda _: None,
        home=home,
    )
    assert log(tmp_path) == ["one a FR", "one b DE", "one c GB"]
    assert run.state == "FAILED" and "1 of 3 inputs failed; input 2: division by zero" in (run.task("all").error or "")
    made = bundle({"task_key": "all", "for_each_task": {"inputs": "a, b", "task": inner}})
    (task,) = jobs.run(spark, made, "work", progress=lambda _: None, home=home).tasks
    assert (task.error or "").endswith("inputs is not a JSON array: a, b")


def test_what_does_not_run_here_is_refused_by_name(
    spark: SparkSession, bundle: Make, home: Home, tmp_path: Path
) -> None:
    made = bundle({"task_key": "book", "notebook_task": {"notebook_path": "a.ipynb"}})
    run = jobs.run(spark, made, "work", progress=lambda _: None, home=home)
    assert (run.task("book").error or "").endswith("a notebook_task does not run on this machine")
    with pytest.raises(UnsupportedError, match="`git_source` of a job is not supported"):
        jobs.run(spark, bundle(python(tmp_path, "a"), git_source={"git_url": "u"}), "work", home=home)
    with pytest.raises(LakeflowError, match="has no parameter `x`; it has none"):
        jobs.run(spark, bundle(python(tmp_path, "a")), "work", parameters={"x": "1"}, home=home)
    with pytest.raises(LakeflowError, match="the bundle has no job `wrok`; there are work"):
        jobs.run(spark, bundle(python(tmp_path, "a")), "wrok", home=home)


def test_one_run_at_a_time(spark: SparkSession, bundle: Make, home: Home, tmp_path: Path) -> None:
    runs = Runs(home, "work")
    refusing = bundle(python(tmp_path, "a"), queue={"enabled": False})
    with (
        runs.slot(1, wait=False, waiting=lambda: None),
        pytest.raises(LakeflowError, match="max_concurrent_runs is 1"),
    ):
        jobs.run(spark, refusing, "work", progress=lambda _: None, home=home)
    assert [run.state for run in runs.all()] == ["SKIPPED"]

    holder = (
        "import sys, time; from pathlib import Path; from lakeflow_local.home import Home\n"
        "from lakeflow_local.bundle.runs import Runs\n"
        "with Runs(Home(Path(sys.argv[1]), Path(sys.argv[1]) / '.lakehouse'), 'work')"
        ".slot(1, wait=False, waiting=lambda: None):\n    print('held', flush=True); time.sleep(1)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", holder, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    lines: list[str] = []
    assert jobs.run(spark, bundle(python(tmp_path, "a")), "work", progress=lines.append, home=home).succeeded
    assert lines[0] == "work: waits for the run before it"
    assert other.wait() == 0


def test_a_run_whose_process_died_is_shown_as_such(home: Home, tmp_path: Path) -> None:
    victim = (
        "import sys, time; from pathlib import Path; from lakeflow_local.home import Home\n"
        "from lakeflow_local.bundle.runs import Runs, TaskRun\n"
        "runs = Runs(Home(Path(sys.argv[1]), Path(sys.argv[1]) / '.lakehouse'), 'work')\n"
        "run = runs.create('local', {'type': 'ONE_TIME'}, {}, [TaskRun('a', 'sql_task', 'RUNNING')])\n"
        "run.state = 'RUNNING'\n"
        "with runs.living(run): print('runs', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", victim, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "runs\n"
    runs = Runs(home, "work")
    going = runs.last()
    assert going is not None
    assert going.state == "RUNNING"
    process.send_signal(signal.SIGKILL)
    process.wait()
    dead = runs.last()
    assert dead is not None
    assert (dead.state, dead.error, dead.tasks[0].state) == ("INTERNAL_ERROR", "process ended", "INTERNAL_ERROR")


def test_an_interrupted_run_is_kept_as_canceled(spark: SparkSession, bundle: Make, home: Home, tmp_path: Path) -> None:
    made = bundle(python(tmp_path, "stop", "raise KeyboardInterrupt", max_retries=5))
    with pytest.raises(KeyboardInterrupt):
        jobs.run(spark, made, "work", progress=lambda _: None, home=home)
    run = Runs(home, "work").last()
    assert run is not None
    assert (run.state, run.tasks[0].state, run.tasks[0].attempts) == ("CANCELED", "CANCELED", 1)


def test_a_half_written_record_is_passed_over(home: Home) -> None:
    runs = Runs(home, "work")
    run = runs.create("local", {"type": "ONE_TIME"}, {}, [TaskRun("a", "sql_task")])
    assert runs.last() is None
    with runs.living(run):
        assert runs.last() == run
