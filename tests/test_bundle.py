# ruff: noqa: E501 - a table of faults reads best with a fault a line
"""Our own bundle: valid for a workspace in shape, closed in its references, and every check proven by a seeded fault."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml

from lakeflow_local.bundle import jobs, load, queries, tasks, validate
from lakeflow_local.bundle.runs import JobRun, TaskRun
from lakeflow_local.pipelines.sql.tokens import Source

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("dev", "staging", "prod", "local")
# What only the one who deploys knows.
GIVEN = ("service_principal=00000000-0000-0000-0000-000000000000", "on_call=on-call@example.com")


def read(target: str) -> load.Bundle:
    return load.load(ROOT, target, GIVEN, environment={}, user="ann.lee@example.com")


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, so that a diff shows its lines."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def golden(target: str) -> str:
    """All of a target's resolved configuration as YAML, without what differs between machines."""
    bundle = read(target)
    content = bundle.value.plain()
    content["workspace"]["file_path"] = "${workspace.file_path}"
    del content["artifacts"], content["include"], content["bundle"]["environment"]
    content["variables"] = {name: variable["value"] for name, variable in content["variables"].items()}
    text = yaml.dump(content, Dumper=_Dumper, allow_unicode=True, width=120)
    for resources in bundle.resources.values():
        for resource in resources.values():
            if resource.type != "schemas":
                text = text.replace(f" {resource.id}\n", f" ${{{resource.label}.id}}\n")
    return text.replace(str(ROOT), "${workspace.file_path}")


def faults(root: Path, target: str | None = None) -> list[str]:
    bundle, found = load.examine(root, target, GIVEN, environment={}, user="tester@example.com")
    return [
        str(fault)
        for fault in found or ([*validate.check_resources(bundle), *validate.check_sources(bundle)] if bundle else [])
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_no_fault_in_any_target(target: str) -> None:
    assert faults(ROOT, target) == []


def test_the_resources_are_those_that_others_rely_on() -> None:
    bundle = load.load(ROOT, environment={}, user="ann.lee@example.com")
    assert bundle.target == "local"
    assert {type: sorted(resources) for type, resources in bundle.resources.items()} == {
        "alerts": ["data_stale", "reconciliation_differs", "rules_failed"],
        "dashboards": ["data_quality"],
        "jobs": [
            "erase_members",
            "invoices_audit",
            "invoices_ingest",
            "invoices_refresh",
            "maintenance",
            "members_ingest",
            "members_reconcile",
            "members_refresh",
            "redrive_members",
        ],
        "pipelines": ["invoices", "members", "members_gold"],
        "schemas": ["bronze", "gold", "ops", "silver"],
        "secret_scopes": ["member_lakehouse"],
        "sql_warehouses": ["operations"],
        "volumes": ["landing"],
    }
    assert bundle.embedded_buckets == ("landing",)
    assert bundle.variables == {
        "catalog": "spark_catalog", "bronze_schema": "bronze", "silver_schema": "silver", "gold_schema": "gold",
        "ops_schema": "ops", "landing_url": "s3://landing", "source": "env:LAKEHOUSE_MYSQL_URL",
        "secret_scope": "member_lakehouse_local", "service_principal": "", "on_call": "nobody@localhost",
        "operators": "member-lakehouse-operators", "budget_policy_id": "",
        "pseudonym_key": "env:LAKEHOUSE_SECRET_KEY", "great_expectations": "false", "unity_catalog": "false",
        "eraser": "env:LAKEHOUSE_MYSQL_URL",
        "ordering_state": f"{ROOT}/.lakehouse/pipelines/local/members/cdc/*/events-*",
    }  # fmt: skip


def test_each_resource_has_a_file_named_after_it() -> None:
    for resources in read("local").resources.values():
        for resource in resources.values():
            assert resource.value.place.file == ROOT / "resources" / f"{resource.key}.{resource.type.rstrip('s')}.yml"


def test_a_target_without_what_only_the_deployer_knows_is_refused() -> None:
    _, found = load.examine(ROOT, "prod", environment={}, user="ann.lee@example.com")
    assert [fault.message.partition(";")[0] for fault in found] == [
        "the variable service_principal has no value", "the variable on_call has no value",
    ]  # fmt: skip


def test_developers_have_schemas_of_their_own_and_paused_triggers() -> None:
    bundle = read("dev")
    assert {schema.name for schema in bundle.of_type("schemas").values()} == {
        "dev_ann_lee_bronze", "dev_ann_lee_silver", "dev_ann_lee_gold", "dev_ann_lee_ops",
    }  # fmt: skip
    pipeline = bundle.find("members", "pipelines").value
    assert pipeline.plain("configuration", "bronze_schema") == "dev_ann_lee_bronze"
    assert pipeline.plain("event_log", "schema") == "dev_ann_lee_ops"
    # Scopes and volumes get no prefix, and two locations may not overlap.
    assert bundle.find("member_lakehouse", "secret_scopes").name == "member_lakehouse_dev_ann_lee"
    assert bundle.find("landing", "volumes").value.plain("storage_location").endswith("-dev/ann_lee")
    assert bundle.paused
    for resources in bundle.resources.values():
        for resource in resources.values():
            assert not {"pause_status"} & {*resource.value.mapping("schedule"), *resource.value.mapping("trigger")}


@pytest.mark.parametrize("target", ["staging", "prod"])
def test_what_is_deployed_runs_as_the_service_principal_and_tells_the_one_on_call(target: str) -> None:
    bundle = read(target)
    assert not bundle.paused
    assert bundle.value.plain("run_as") == {"service_principal_name": GIVEN[0].partition("=")[2]}
    for job in bundle.of_type("jobs").values():
        assert job.value.plain("email_notifications", "on_failure") == ["on-call@example.com"]
        assert job.value.plain("tags") == {"project": "member_lakehouse", "environment": target}
        assert (
            job.value.plain("queue", "enabled")
            and job.value.plain("timeout_seconds")
            and job.value.plain("description")
        )
    for pipeline in bundle.of_type("pipelines").values():
        assert pipeline.value.plain("notifications")[0]["email_recipients"] == ["on-call@example.com"]
        assert pipeline.value.plain("event_log", "name") == f"{pipeline.key}_event_log"
        assert bool(pipeline.value.plain("lifecycle", "prevent_destroy")) == (target == "prod")
    for alert in bundle.of_type("alerts").values():
        assert alert.value.plain("evaluation", "notification", "subscriptions") == [
            {"user_email": "on-call@example.com"}
        ]


def test_no_secret_and_no_source_url_is_in_the_bundle() -> None:
    for target in TARGETS:
        for name in ("source", "eraser", "pseudonym_key"):
            assert read(target).variables[name].partition(":")[0] in ("env", "file", "secret")


def test_each_task_says_whether_it_is_tried_again() -> None:
    """Else `databricks bundle validate --strict` of newer versions warns, and so fails."""
    for job in read("prod").of_type("jobs").values():
        for task in job.value.sequence("tasks"):
            assert task.get("max_retries") is not None, f"{job.key}, {task.plain('task_key')}"


def test_the_wheel_holds_what_its_entry_points_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {value.partition(".")[0] for value in project["project"]["scripts"].values()} == {*packages}


def states(job: str, target: str, failing: str = "") -> dict[str, str]:
    """How each task of a job ends, if that one fails and the others do what they are there for."""
    resource = read(target).of_type("jobs")[job]
    order = jobs.sorted_tasks(resource)
    entries = {task.plain("task_key"): task for task in resource.value.sequence("tasks")}
    run = JobRun(1, job, target, {}, {}, tasks=[TaskRun(key, tasks.type_of(entries[key])) for key in order])
    outputs = {}
    for key in order:
        condition = entries[key].get("condition_task")
        if condition is not None:
            outputs[key] = {"outcome": str(condition.plain("left") == condition.plain("right")).lower()}
        state = jobs.verdict(entries[key], run, outputs) or ("FAILED" if key == failing else "SUCCESS")
        run.task(key).state = state
    return {key: run.task(key).state for key in order}


@pytest.mark.parametrize("job", ["members_refresh", "invoices_refresh"])
def test_governance_comes_before_the_pipeline_and_is_left_out_where_there_is_none(job: str) -> None:
    governance = {"functions", "schema_grants", "masked", "grants", "tags"}
    local, prod = states(job, "local"), states(job, "prod")
    assert {*prod.values()} == {"SUCCESS"}
    assert {key for key, state in local.items() if state == "EXCLUDED"} == governance & {*local}
    assert {*local.values()} == {"SUCCESS", "EXCLUDED"}
    assert [*prod].index("schema_grants") < [*prod].index("refresh") < [*prod].index("gate") < [*prod].index("alerts")
    for failing, after in (("schema_grants", "refresh"), ("refresh", "gate"), ("gate", "alerts")):
        assert states(job, "prod", failing)[after] == "UPSTREAM_FAILED"
    if job == "members_refresh":
        for target in ("prod", "local"):
            assert states(job, target, "gate")["publish"] == "UPSTREAM_FAILED"


INGEST = "resources/members_ingest.job.yml"
REFRESH = "resources/members_refresh.job.yml"
RECONCILE = "resources/members_reconcile.job.yml"
STALE = "resources/data_stale.alert.yml"
PIPELINE = "resources/members.pipeline.yml"
SQL_TASK = (
    "          pipeline_task:\n            pipeline_id: ${resources.pipelines.members.id}",
    "          sql_task: {{warehouse_id: w, file: {{path: ../sql/{}.sql}}, parameters: {{catalog: c}}}}",
)
SEEDED = {
    "unknown key": (INGEST, "timeout_seconds: 7200", "timeout_second: 7200", "unknown key `timeout_second` in resources.jobs.members_ingest; did you mean timeout_seconds?"),
    "unknown type": (REFRESH, "  jobs:", "  job:", "there is no resource type `job`"),
    "text for a number": (INGEST, "max_retries: 2", "max_retries: two", "tasks[0].max_retries must be a whole number, not `two`"),
    "text for a list": (INGEST, "          libraries:\n            - whl: ../dist/*.whl\n            - maven:\n                coordinates: com.mysql:mysql-connector-j:9.7.0", "          libraries: x", "tasks[0].libraries must be a list"),
    "a mapping for text": (REFRESH, "name: members_refresh", "name: {a: b}", "resources.jobs.members_refresh.name must be a single value, not a mapping"),
    "unknown word": (INGEST, "availability: SPOT_WITH_FALLBACK", "availability: SPOT_OR_NOT", "availability is one of"),
    "missing url": (REFRESH, "          url: ${var.landing_url}/members/\n", "", "trigger.file_arrival needs `url`"),
    "variable without value": ("databricks.yml", "      catalog: spark_catalog\n", "", "the variable catalog has no value"),
    "reference to nothing": (REFRESH, "pipelines.members.id", "pipelines.typo.id", "${resources.pipelines.typo.id} is not defined"),
    "a key in two types": (REFRESH, "  jobs:", "  schemas:\n    members: {name: x, catalog_name: y}\n  jobs:", "the key members is used by"),
    "a pipeline that is not ours": (REFRESH, "${resources.pipelines.members.id}", "abc", "pipeline_id is not one of the bundle"),
    "dependency that does not exist": (REFRESH, "- task_key: governed", "- task_key: governed\n          depends_on: [{task_key: before}]", "the task governed depends on before, which does not exist"),
    "circle": (REFRESH, "- task_key: governed", "- task_key: governed\n          depends_on: [{task_key: functions}]", "the tasks governed → functions → governed depend on each other in a circle"),
    "two tasks of one key": (REFRESH, "      tasks:", "      tasks:\n        - task_key: refresh\n          condition_task: {left: a, op: EQUAL_TO, right: b}", "two tasks have the key refresh"),
    "task without a type": (REFRESH, "          pipeline_task:\n            pipeline_id: ${resources.pipelines.members.id}\n", "", "the task refresh needs exactly one type"),
    "outcome of no condition": (REFRESH, "      tasks:", "      tasks:\n        - task_key: x\n          depends_on: [{task_key: refresh, outcome: 'true'}]\n          pipeline_task: {pipeline_id: '${resources.pipelines.members.id}'}", "`outcome` needs a condition_task, and refresh is not one"),
    "unknown cluster": (INGEST, "job_cluster_key: ingest\n          max_retries", "job_cluster_key: big\n          max_retries", "the task ingest names the job_cluster_key big; there is ingest"),
    "unknown environment": (INGEST, "job_cluster_key: ingest\n          max_retries", "environment_key: default\n          max_retries", "the task ingest names the environment_key default; there is none"),
    "no compute": (INGEST, "job_cluster_key: ingest\n          max_retries", "max_retries", "the task ingest needs one of environment_key"),
    "cron": (INGEST, "0 0 2 * * ?", "0 0 2 * * *", "write `?` for exactly one of day of month and day of week"),
    "time zone": (INGEST, "timezone_id: UTC", "timezone_id: Europe/Atlantis", "there is no time zone Europe/Atlantis"),
    "seconds": (REFRESH, "min_time_between_triggers_seconds: 300", "min_time_between_triggers_seconds: 5", "min_time_between_triggers_seconds is at least 60, not 5"),
    "wait": (REFRESH, "wait_after_last_change_seconds: 60", "wait_after_last_change_seconds: 59", "wait_after_last_change_seconds is at least 60, not 59"),
    "trigger's url": (REFRESH, "url: ${var.landing_url}/members/", "url: members/", "members/ is not the URL of an external location or volume"),
    "entry point": (INGEST, "entry_point: ingest-members", "entry_point: ingest-member", "pyproject.toml declares no entry point ingest-member; did you mean ingest-members?"),
    "distribution": (INGEST, "package_name: member-lakehouse", "package_name: members", "members is neither the distribution of pyproject.toml nor installed here"),
    "job parameter": (INGEST, "{{job.parameters.mode}}", "{{job.parameters.modus}}", "the job has no parameter modus"),
    "task value": (INGEST, "{{job.parameters.mode}}", "{{tasks.before.values.mode}}", "the job has no task before"),
    "missing file": (REFRESH, "          pipeline_task:\n            pipeline_id: ${resources.pipelines.members.id}", "          sql_task: {warehouse_id: w, file: {path: ../sql/absent.sql}}", "there is no file ../sql/absent.sql"),
    "glob": (PIPELINE, "transformations/**", "transformation/**", "resources.pipelines.members: this matches no .py, .sql or .ipynb file"),
    "root folder": (PIPELINE, "root_path: ../pipelines/members", "root_path: ../pipelines/member", "there is no folder ../pipelines/member"),
    "alert word": (PIPELINE, "- on-update-failure", "- on-update-failed", "an alert is one of on-update-success, on-update-failure, on-update-fatal-failure, on-flow-failure, not on-update-failed"),
    "channel": (PIPELINE, "      serverless: true", "      serverless: true\n      channel: CURENT", "channel is one of CURRENT, PREVIEW, not CURENT"),
    "serverless with clusters": (PIPELINE, "      serverless: true", "      serverless: true\n      clusters: [{label: default, num_workers: 1}]", "a serverless pipeline has no clusters"),
    "two ways to start": (REFRESH, "      trigger:", "      schedule: {quartz_cron_expression: '0 0 2 * * ?', timezone_id: UTC}\n      trigger:", "has schedule and trigger; a job has at most one of them"),
    "a warning that never comes": (INGEST, "value: 2400", "value: 7200", "a run ends after timeout_seconds 7200, before this rule of health warns"),
    "health's metric": (INGEST, "RUN_DURATION_SECONDS", "RUN_DURATION", "metric is one of RUN_DURATION_SECONDS"),
    "dynamic value": (INGEST, "{{job.parameters.mode}}", "{{job.paramters.mode}}", "{{job.paramters.mode}} is no dynamic value that a job has"),
    "parameter of a called job": (RECONCILE, "mode: reconcile", "modus: reconcile", "the job members_ingest has no parameter modus; did you mean mode?"),
    "a job that is not ours": (RECONCILE, "${resources.jobs.members_ingest.id}", "1", "job_id is not one of the bundle"),
    "address": (REFRESH, "        on_failure:\n          - ${var.on_call}", "        on_failure:\n          - on call", "on call is no e-mail address"),
    "whom to permit": (REFRESH, "- group_name: ${var.operators}\n", "- group_name: ''\n", "a permission names one group, user or service principal"),
    "permission of an alert": (STALE, "level: CAN_READ", "level: CAN_VIEW", "a level is one of CAN_READ, CAN_RUN, CAN_EDIT, CAN_MANAGE, not CAN_VIEW"),
    "permission of a job": (REFRESH, "level: CAN_MANAGE_RUN", "level: CAN_RUN", "level is one of CAN_MANAGE, IS_OWNER, CAN_MANAGE_RUN, CAN_VIEW, not CAN_RUN"),
    "an alert's query": (STALE, "          SELECT max(timestamp) AS completed_at", "          SELECT max(timestamp AS completed_at", "resources.alerts.data_stale: this is not SQL"),
    "an alert's column": (STALE, "name: hours_late", "name: hour_late", "the query returns no column hour_late; did you mean hours_late?"),
    "an alert's parameter": (STALE, "WHERE status = 'succeeded'", "WHERE status = :status", ":status has no value; the parameters are: none"),
    "an alert without threshold": (STALE, "        threshold:\n          value:\n            double_value: 0\n", "", "GREATER_THAN needs a threshold"),
    "an alert for nobody": (STALE, "          subscriptions:\n            - user_email: ${var.on_call}\n", "", "resources.alerts.data_stale tells nobody"),
    "an alert's schedule": (STALE, "0 0 5,11,17 * * ?", "0 5 * * ?", "a Quartz expression has 6 or 7 fields"),
    "SQL file": (REFRESH, SQL_TASK[0], SQL_TASK[1].format("broken"), "members_refresh, task refresh: this is not SQL"),
    "parameter of a SQL file": (REFRESH, SQL_TASK[0], SQL_TASK[1].format("asking"), "task refresh: :day has no value; the parameters are: catalog"),
    "pipeline without schema": (PIPELINE, "      schema: ${resources.schemas.silver.name}\n", "", "resources.pipelines.members needs `schema`"),
}  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("databricks.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("resources", "pipelines", "dashboards", "sql/governance"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "sql/broken.sql").write_text("SELECT 1;\nSELECT FROM WHERE")
    (tmp_path / "sql/asking.sql").write_text("SELECT * FROM IDENTIFIER(:catalog || '.ops.t') WHERE day = :day")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def seed(copy: Path, file: str, old: str, new: str) -> None:
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(("file", "old", "new", "message"), SEEDED.values(), ids=SEEDED)
def test_a_seeded_fault_is_found(copy: Path, file: str, old: str, new: str, message: str) -> None:
    seed(copy, file, old, new)
    bundle, found = load.examine(copy, None, environment={})
    found = [str(fault) for fault in found or (validate.check_resources(bundle) if bundle else [])]
    assert all(re.match(r"((resources|sql)/[\w.]+|databricks\.yml):\d+: ", line) for line in found), found
    assert any(message in line for line in found), found


SOURCES = {
    "Python": ("pipelines/members/transformations/bronze_members.py", "def ", "deff ", "invalid syntax"),
    "SQL": ("pipelines/invoices/transformations/fact_invoice.sql", "CREATE OR REFRESH", "CREATE OR REFRES", "fact_invoice.sql"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "message"), SOURCES.values(), ids=SOURCES)
def test_a_seeded_fault_in_a_source_is_found(copy: Path, file: str, old: str, new: str, message: str) -> None:
    assert faults(copy) == []
    seed(copy, file, old, new)
    assert any(message in line for line in faults(copy)), faults(copy)


def test_alerts_read_tables_that_something_makes(copy: Path) -> None:
    # By ingest/run_log.py and quality/results.py.
    ingested = ["spark_catalog.ops.ingest_runs", "spark_catalog.ops.dq_results"]
    assert queries.unknown_tables(load.load(copy, environment={}), ingested) == []
    seed(copy, STALE, "members_event_log", "member_event_log")
    (fault,) = queries.unknown_tables(load.load(copy, environment={}), ingested)
    assert str(fault).startswith(
        "resources/data_stale.alert.yml:10: resources.alerts.data_stale reads spark_catalog.ops."
    )
    assert "member_event_log, which no pipeline makes; did you mean spark_catalog.ops.members_event_log?" in str(fault)


def test_sql_tasks_are_about_tables_that_something_makes(copy: Path) -> None:
    known = ["spark_catalog.ops.ingest_runs", "spark_catalog.ops.dq_results"]
    seed(copy, "sql/governance/tags.sql", "ALTER MATERIALIZED VIEW members_current", "ALTER MATERIALIZED VIEW current")
    seed(copy, "sql/governance/grants.sql", "TABLE members_history", "TABLE member_history")
    seed(copy, "sql/governance/members_masked.sql", "FROM members", "FROM silver_members")
    found = [str(fault) for fault in queries.unknown_tables(load.load(copy, environment={}), known)]
    assert [re.findall("task .* reads (.*),", line) for line in found] == [
        ["spark_catalog.silver.silver_members"], ["spark_catalog.silver.member_history"], ["spark_catalog.gold.current"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "file", sorted([*ROOT.glob("sql/analysis/*.sql"), *ROOT.glob("sql/ops/*.sql")]), ids=lambda file: file.name
)
def test_a_sql_file_is_one_statement_that_parses(file: Path) -> None:
    names = re.findall(r"(?<!:):(\w+)", file.read_text())
    assert len(queries.parsed(Source(file.read_text(), file), dict.fromkeys(names, "x"))) == 1


GOLDEN = ROOT / "tests" / "golden"


@pytest.mark.parametrize("target", TARGETS)
def test_the_resolved_configuration_is_the_reviewed_one(target: str) -> None:
    """After a wanted change: `make golden`, and read its diff."""
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / f"{target}.yml").write_text(golden(target))
    assert golden(target) == (GOLDEN / f"{target}.yml").read_text()
