# ruff: noqa: E501 - a table of faults reads best with a fault a line
"""Reading bundles and the faults that are found in them, each with its file and line."""

from __future__ import annotations

import json
import textwrap
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lakeflow_local.bundle import commands, cron, graph, load, validate
from lakeflow_local.bundle.pipelines import spec
from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home

BUNDLE = """\
bundle:
  name: shop
  uuid: 5f1f6d4e-63f2-4b38-8f3a-0d7f0e2d9a11
include: [resources/*.yml]
variables:
  catalog: {default: main}
  schema: {default: raw}
  url: {default: "s3://orders/in"}
  tags: {type: complex, default: {team: data, cost: low}}
targets:
  dev: {mode: development, default: true}
  prod:
    variables: {schema: raw_prod, tags: {team: ops}}
    resources:
      jobs:
        load:
          timeout_seconds: 60
          tasks:
            - task_key: second
              max_retries: 3
            - task_key: third
              sql_task: {warehouse_id: w, file: {path: sql/a.sql}}
  local:
    variables: {catalog: spark_catalog}
"""

JOB = """\
resources:
  jobs:
    load:
      name: load ${var.schema}
      tags: ${var.tags}
      tasks:
        - task_key: first
          sql_task:
            warehouse_id: w
            file: {path: ../sql/a.sql}
            parameters: {to: "${resources.schemas.raw.id}"}
        - task_key: second
          depends_on: [{task_key: first}]
          pipeline_task: {pipeline_id: "${resources.pipelines.orders.id}"}
  schemas:
    raw: {catalog_name: "${var.catalog}", name: "${var.schema}"}
  pipelines:
    orders:
      name: orders
      catalog: ${var.catalog}
      schema: ${resources.schemas.raw.name}
      libraries: [{glob: {include: ../src/**}}]
      configuration: {url: "${var.url}/x", keep: "$${not.this}", on: on}
      event_log: {schema: ops, name: log}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {"databricks.yml": BUNDLE, "resources/load.job.yml": JOB, "sql/a.sql": "SELECT 1", "src/t/b.py": "",
             "src/a.sql": "CREATE OR REFRESH MATERIALIZED VIEW a AS SELECT 1 AS x", "src/README.md": "", "src/__pycache__/c.py": ""}  # fmt: skip
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def read(
    root: Path, target: str | None = None, *variables: str, environment: dict[str, str] | None = None
) -> load.Bundle:
    return load.load(root, target, variables, environment=environment or {}, user="ann.lee@example.com")


def test_the_local_target_is_taken_unless_another_is_named(root: Path) -> None:
    assert read(root).target == "local"
    assert read(root).variables == {
        "catalog": "spark_catalog", "schema": "raw", "url": "s3://orders/in", "tags": {"team": "data", "cost": "low"},
    }  # fmt: skip
    assert read(root, "prod").variables["catalog"] == "main"


def test_without_a_local_target_the_default_one_is_taken(root: Path) -> None:
    file = root / "databricks.yml"
    file.write_text(file.read_text().partition("  local:")[0])
    assert read(root).target == "dev"
    file.write_text(file.read_text().replace(", default: true", ""))
    with pytest.raises(LakeflowError, match="choose a target with -t: dev, prod"):
        read(root)


def test_a_target_merges_mappings_and_tasks_and_replaces_complex_variables(root: Path) -> None:
    bundle = read(root, "prod")
    job = bundle.find("load", "jobs").value
    assert [task.plain("task_key") for task in job.sequence("tasks")] == ["first", "second", "third"]
    assert job.sequence("tasks")[1].plain("max_retries") == 3
    assert job.sequence("tasks")[1].get("pipeline_task") is not None
    assert job.plain("timeout_seconds") == 60
    assert job.plain("tags") == {"team": "ops"}
    third = job.sequence("tasks")[2].get("sql_task", "file", "path")
    assert load.path_of(third) == root / "sql" / "a.sql"


def test_development_puts_the_user_before_names_and_pauses(root: Path) -> None:
    bundle = read(root, "dev")
    assert bundle.find("load", "jobs").name == "[dev ann_lee] load raw"
    assert bundle.find("raw", "schemas").name == "dev_ann_lee_raw"
    assert bundle.find("orders", "pipelines").value.plain("schema") == "dev_ann_lee_raw"
    assert bundle.paused
    assert not read(root, "prod").paused


def test_values_from_outside_win_in_the_order_of_the_cli(root: Path) -> None:
    kept = root / ".databricks/bundle/local/variable-overrides.json"
    kept.parent.mkdir(parents=True)
    kept.write_text('{"schema": "kept", "catalog": "kept"}')
    bundle = read(root, None, "catalog=given", environment={"BUNDLE_VAR_catalog": "env", "BUNDLE_VAR_url": "s3://u"})
    assert bundle.variables | {"tags": 0} == {"catalog": "given", "schema": "kept", "url": "s3://u", "tags": 0}


def test_buckets_are_those_that_the_local_target_itself_names(root: Path) -> None:
    assert read(root).embedded_buckets == ("orders",)
    assert read(root, None, "url=s3://mine/x").embedded_buckets == ()
    assert read(root, environment={"BUNDLE_VAR_url": "s3://mine/x"}).embedded_buckets == ()
    assert read(root, "prod").embedded_buckets == ()


def test_a_pipeline_becomes_a_spec(root: Path, tmp_path: Path) -> None:
    bundle = read(root)
    found = spec(bundle, bundle.find("orders", "pipelines"), Home(root, tmp_path / "home"))
    assert found.sources == (root / "src/a.sql", root / "src/t/b.py")
    assert found.event_log == "spark_catalog.ops.log"
    assert found.configuration == {"url": "s3://orders/in/x", "keep": "${not.this}", "on": "on"}
    assert found.id == read(root).find("orders", "pipelines").id != read(root, "prod").find("orders", "pipelines").id


def test_a_valid_bundle_has_no_fault(root: Path) -> None:
    for target in ("local", "dev", "prod"):
        bundle, faults = load.examine(root, target, environment={})
        assert [*map(str, faults), *map(str, validate.check_resources(bundle))] == []


READING = {
    "not YAML": ("databricks.yml", "  name: shop", "  name: [shop", "databricks.yml:3: this is not YAML"),
    "a template": ("databricks.yml", "  name: shop", "  name: {{.name}}", "databricks.yml:2: a key is a word; if this is a template's {{…}}"),
    "a text for a mapping": ("databricks.yml", "bundle:\n  name: shop", "bundle: shop", "databricks.yml:1: a bundle needs `bundle.name`"),
    "a mapping for a text": ("databricks.yml", "mode: development", "mode: {a: b}", "databricks.yml:11: the mode of a target is development or production"),
    "include at the root": ("databricks.yml", "resources/*.yml", "/resources/*.yml", "databricks.yml:4: include: '/resources/*.yml' is no path of files"),
    "a key twice": ("databricks.yml", "  name: shop", "  name: shop\n  name: shop", "databricks.yml:3: the key `name` is given twice, first in line 2"),
    "unknown key": ("databricks.yml", "include:", "includes:", "databricks.yml:4: unknown key `includes` in the bundle; did you mean include?"),
    "unknown key of a target": ("databricks.yml", "mode: development", "modus: development", "databricks.yml:11: unknown key `modus` in targets.dev; did you mean mode?"),
    "mode": ("databricks.yml", "mode: development", "mode: develop", "databricks.yml:11: the mode of a target is development or production, not develop"),
    "include without files": ("databricks.yml", "resources/*.yml", "jobs/load.yml", "databricks.yml:4: include: no file matches jobs/load.yml"),
    "no value": ("databricks.yml", "schema: {default: raw}", "schema: {description: x}", "databricks.yml:7: the variable schema has no value"),
    "lookup": ("databricks.yml", "schema: {default: raw}", "schema: {lookup: {warehouse: x}}", "databricks.yml:7: the variable schema is looked up in a workspace (warehouse)"),
    "loop": ("databricks.yml", "schema: {default: raw}\n  url: {default: ", 'schema: {default: "${var.url}"}\n  url: {default: "${var.schema}"} # ', "databricks.yml:7: the references form a loop: var.url → var.schema → var.url"),
    "undeclared in a target": ("databricks.yml", "catalog: spark_catalog", "catalogue: x", "databricks.yml:24: targets.local sets the variable catalogue"),
    "undefined variable": ("resources/load.job.yml", "load ${var.schema}", "load ${var.shema}", "load.job.yml:4: ${var.shema}: the bundle has no such variable; did you mean schema?"),
    "undefined resource": ("resources/load.job.yml", "pipelines.orders.id", "pipelines.order.id", "load.job.yml:14: ${resources.pipelines.order.id} is not defined: there is no `order`; did you mean orders?"),
    "other root": ("resources/load.job.yml", "load ${var.schema}", "load ${vars.schema}", "load.job.yml:4: ${vars.schema} is not a reference"),
    "reference inside another": ("resources/load.job.yml", "load ${var.schema}", "load ${var.${bundle.target}}", "load.job.yml:4: a reference cannot stand inside another one"),
    "list inside text": ("resources/load.job.yml", "load ${var.schema}", "load ${var.tags}", "load.job.yml:4: ${var.tags} is a list or a mapping"),
    "one key in two types": ("resources/load.job.yml", "    raw: {", "    load: {catalog_name: c, name: n}\n    raw: {", "load.job.yml:16: the key load is used by schemas and by jobs (load.job.yml:3)"),
    "bundle in an included file": ("resources/load.job.yml", "resources:\n  jobs", "bundle: {name: y}\nresources:\n  jobs", "load.job.yml:1: `bundle` is read in databricks.yml only"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "message"), READING.values(), ids=READING)
def test_what_cannot_be_read_is_one_line_with_its_place(
    root: Path, monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str, message: str
) -> None:
    monkeypatch.chdir(root)
    seed(root / file, old, new)
    _, faults = load.examine(root, environment={})
    assert any(message in str(fault) for fault in faults), [str(fault) for fault in faults]


def seed(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) >= 1
    file.write_text(text.replace(old, new, 1))


def test_every_fault_is_found_at_once(root: Path) -> None:
    seed(root / "databricks.yml", "  name: shop", "  nam: shop")
    seed(root / "resources/load.job.yml", "load ${var.schema}", "load ${var.x}")
    seed(root / "resources/load.job.yml", "${var.url}", "${var.y}")
    _, faults = load.examine(root, environment={})
    assert len(faults) == 4
    with pytest.raises(LakeflowError, match=r"and 3 more; see `bundle validate`"):
        load.load(root, environment={})


def test_what_the_command_line_gets_wrong_is_said(root: Path) -> None:
    with pytest.raises(LakeflowError, match="there is no target x; there are dev, prod, local"):
        read(root, "x")
    with pytest.raises(LakeflowError, match="--var shema: the bundle has no such variable; did you mean schema"):
        read(root, None, "shema=x")
    with pytest.raises(LakeflowError, match="write --var NAME=VALUE"):
        read(root, None, "schema")
    with pytest.raises(LakeflowError, match="the complex variable tags cannot be set by --var"):
        read(root, None, "tags=x")
    with pytest.raises(LakeflowError, match=r"no databricks\.yml in"):
        read(root / "sql")


def test_the_same_resource_in_two_files(root: Path) -> None:
    (root / "resources/other.job.yml").write_text("resources:\n  jobs:\n    load: {name: x}\n")
    with pytest.raises(LakeflowError, match=r"resources.jobs.load is also defined in resources/load.job.yml:3"):
        read(root)


CRON = {
    "0 0 2 * * ?": None,
    "0 30 2 ? * MON-FRI": None,
    "0 0/15 8-18 ? * 2#1": None,
    "0 0 2 L-3W * ?": None,
    "0 0 2 15W JAN,JUL ? 2026-2030": None,
    "0 0 2 ? * FRIL": None,
    "0 2 * * *": "a Quartz expression has 6 or 7 fields, seconds first; this has 5",
    "0 0 2 * * *": "write `?` for exactly one of day of month and day of week",
    "0 0 24 * * ?": "hour: `24` is not between 0 and 23",
    "0 0/0 2 * * ?": "minute: `0/0` has no step between 1 and 59",
    "0 0 2 ? FOO MON": "month: `FOO` is not between 1 and 12",
    "0 0 2 ? * 8": "day of week: `8` is not between 1 and 7",
}


@pytest.mark.parametrize(("expression", "fault"), CRON.items())
def test_quartz_expressions(expression: str, fault: str | None) -> None:
    assert cron.check(expression) == fault


DASHBOARD = {"datasets": [{"name": "sales", "queryLines": ["SELECT day FROM orders"]}], "pages": []}
BROKEN = {
    "": ("", "", []),
    "query": ("SELECT day", "SELECT (day", ["d.lvdash.json: dataset sales: this is not SQL"]),
    "json": ('"pages"', "pages", ["d.lvdash.json: is no JSON"]),
    "shape": ('"datasets"', '"dataset"', ["d.lvdash.json: is no dashboard: 'datasets' is missing"]),
}


@pytest.mark.parametrize(("old", "new", "messages"), BROKEN.values(), ids=BROKEN)
def test_faults_of_dashboards(root: Path, old: str, new: str, messages: list[str]) -> None:
    board = {"display_name": "d", "warehouse_id": "w", "file_path": "d.lvdash.json"}
    (root / "resources/d.dashboard.yml").write_text(json.dumps({"resources": {"dashboards": {"d": board}}}))
    text = json.dumps(DASHBOARD)
    (root / "resources/d.lvdash.json").write_text(text.replace(old, new) if old else text)
    found = [str(fault) for fault in validate.check_resources(read(root))]
    assert len(found) == len(messages) and all(
        message in line for message, line in zip(messages, found, strict=True)
    ), found


# Moments after the first one, worked out by hand with a calendar; Berlin's clocks change on 29 March and 25 October 2026.
MOMENTS = {
    "0 30 2 * * ?": ("2026-03-28T12:00+01:00", ["2026-03-29T03:30+02:00", "2026-03-30T02:30+02:00"]),
    "0 30 2 ? * *": ("2026-10-24T12:00+02:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
    "0 0/30 * * * ?": ("2026-03-29T01:45+01:00", ["2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00", "2026-03-29T04:00+02:00"]),
    "0 0 22-1 * * ?": ("2026-05-01T21:00+02:00", ["2026-05-01T22:00+02:00", "2026-05-01T23:00+02:00", "2026-05-02T00:00+02:00", "2026-05-02T01:00+02:00", "2026-05-02T22:00+02:00"]),
    "20/25 0 9 ? * MON-FRI": ("2026-05-01T09:00:30+02:00", ["2026-05-01T09:00:45+02:00", "2026-05-04T09:00:20+02:00"]),
    "0 0 0 L-3 * ?": ("2026-02-01T00:00+01:00", ["2026-02-25T00:00+01:00", "2026-03-28T00:00+01:00"]),
    "0 0 0 LW * ?": ("2026-02-01T00:00+01:00", ["2026-02-27T00:00+01:00", "2026-03-31T00:00+02:00", "2026-04-30T00:00+02:00", "2026-05-29T00:00+02:00"]),
    "0 0 0 1W,15W * ?": ("2026-07-31T00:00+02:00", ["2026-08-03T00:00+02:00", "2026-08-14T00:00+02:00"]),
    "0 0 0 ? * 6L": ("2026-02-01T00:00+01:00", ["2026-02-27T00:00+01:00", "2026-03-27T00:00+01:00"]),
    "0 0 0 ? * FRI#3": ("2026-02-01T00:00+01:00", ["2026-02-20T00:00+01:00", "2026-03-20T00:00+01:00"]),
    "0 0 0 ? * FRI-MON": ("2026-02-01T00:00+01:00", ["2026-02-02T00:00+01:00", "2026-02-06T00:00+01:00"]),
    "0 0 0 29 2 ?": ("2026-02-01T00:00+01:00", ["2028-02-29T00:00+01:00", "2032-02-29T00:00+01:00"]),
    "0 0 0 1 1/6 ? 2026-2027": ("2026-02-01T00:00+01:00", ["2026-07-01T00:00+02:00", "2027-01-01T00:00+01:00", "2027-07-01T00:00+02:00", None]),
}  # fmt: skip


@pytest.mark.parametrize(("expression", "start", "moments"), [(e, *m) for e, m in MOMENTS.items()], ids=MOMENTS)
def test_the_moments_of_a_schedule(expression: str, start: str, moments: list[str | None]) -> None:
    assert cron.check(expression) is None
    schedule, moment = cron.Schedule(expression, "Europe/Berlin"), datetime.fromisoformat(start)
    for expected in moments:
        found = schedule.after(moment)
        assert found == (datetime.fromisoformat(expected) if expected else None)
        moment = found or moment


def test_a_graph_shows_every_task_and_edge(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    assert run("bundle", "graph", "load", "-t", "prod") == 0
    assert capsys.readouterr().out == textwrap.dedent("""\
        load raw_prod: starts by hand
        ┌───────────┐     ┌─────────────────┐
        │ first     ├────▶┤ second          │
        │ sql a.sql │     │ pipeline orders │
        └───────────┘     │ 3 retries       │
                          └─────────────────┘
        ┌───────────┐
        │ third     │
        │ sql a.sql │
        └───────────┘
        """)
    assert run("bundle", "graph", "load", "--mermaid") == 0
    assert capsys.readouterr().out == textwrap.dedent("""\
        flowchart LR
          t0["first<br/>sql a.sql"]
          t1["second<br/>pipeline orders"]
          t0 --> t1
        """)
    assert run("bundle", "graph", "load", "--svg") == 0
    picture = ElementTree.fromstring(capsys.readouterr().out)
    texts = [
        element.text or "".join(element.itertext()) for element in picture.iter("{http://www.w3.org/2000/svg}text")
    ]
    assert len(texts) == 4 and len(list(picture.iter("{http://www.w3.org/2000/svg}path"))) == 2
    with pytest.raises(LakeflowError, match="the bundle has no job `laod`"):
        run("bundle", "graph", "laod")


def test_an_edge_over_several_columns_has_a_row_of_its_own(root: Path) -> None:
    file = root / "resources/load.job.yml"
    file.write_text(file.read_text().replace("  schemas:", """\
        - {task_key: check, depends_on: [{task_key: second}], condition_task: {left: a, op: EQUAL_TO, right: b}}
        - task_key: last
          run_if: ALL_DONE
          depends_on: [{task_key: check, outcome: "true"}, {task_key: first}]
          run_job_task: {job_id: "${resources.jobs.load.id}"}
  schemas:""", 1))  # fmt: skip
    bundle = read(root)
    drawn = graph.text(graph.graph(bundle, bundle.find("load", "jobs")))
    assert drawn + "\n" == textwrap.dedent("""\
        ┌───────────┐     ┌─────────────────┐      ┌──────────────┐          ┌──────────────────┐
        │ first     ├─┬──▶┤ second          ├─────▶┤ check        ├──┬──true▶┤ last             │
        │ sql a.sql │ │   │ pipeline orders │      │ a EQUAL_TO b │  │       │ job load         │
        └───────────┘ │   └─────────────────┘      └──────────────┘  │       │ runs if ALL_DONE │
                      │                                              │       └──────────────────┘
                      └──────────────────────────────────────────────┘
        """)


def test_validate_prints_each_fault_and_ends_with_1(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    assert run("bundle", "validate") == 0
    assert capsys.readouterr().out == "shop, target local: 3 resources, no fault found\n"
    seed(root / "resources/load.job.yml", "name: load", "nam: load")
    seed(root / "resources/load.job.yml", "depends_on: [{task_key: first}]", "max_retries: many")
    assert run("bundle", "validate") == 1
    assert capsys.readouterr().err == textwrap.dedent("""\
        error: resources/load.job.yml:4: unknown key `nam` in resources.jobs.load; did you mean name?
        error: resources/load.job.yml:13: resources.jobs.load.tasks[1].max_retries must be a whole number, not `many`
        """)


def run(*arguments: str) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    commands.add_commands(parser.add_subparsers())
    args = parser.parse_args(arguments)
    return args.run(args)


def test_summary_shows_names_with_brackets(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setenv("COLUMNS", "200")
    assert run("bundle", "summary", "-t", "dev") == 0
    out = capsys.readouterr().out
    assert "[dev " in out
    assert "never" in out
