# ruff: noqa: E501 - a table of faults reads best with a fault a line
"""Our own bundle: valid for a workspace in shape, closed in its references, and every check proven by a seeded fault."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from lakeflow_local.bundle import load, validate

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("dev", "prod", "local")


def faults(root: Path, target: str | None = None) -> list[str]:
    bundle, found = load.examine(root, target, environment={}, user="tester@example.com")
    return [str(fault) for fault in found or (validate.check(bundle) if bundle else [])]


@pytest.mark.parametrize("target", TARGETS)
def test_no_fault_in_any_target(target: str) -> None:
    assert faults(ROOT, target) == []


def test_the_resources_are_those_that_others_rely_on() -> None:
    bundle = load.load(ROOT, environment={})
    assert bundle.target == "local"
    assert {type: sorted(resources) for type, resources in bundle.resources.items()} == {
        "jobs": ["members_ingest", "members_refresh"],
        "pipelines": ["invoices", "members"],
        "schemas": ["bronze", "gold", "ops", "silver"],
    }
    assert bundle.embedded_buckets == ("landing",)
    assert bundle.variables == {
        "catalog": "spark_catalog", "bronze_schema": "bronze", "silver_schema": "silver", "gold_schema": "gold",
        "ops_schema": "ops", "landing_url": "s3://landing", "source": "env:LAKEHOUSE_MYSQL_URL",
    }  # fmt: skip


def test_each_resource_has_a_file_named_after_it() -> None:
    for resources in load.load(ROOT, environment={}).resources.values():
        for resource in resources.values():
            assert resource.value.place.file == ROOT / "resources" / f"{resource.key}.{resource.type.rstrip('s')}.yml"


def test_developers_have_schemas_of_their_own_and_paused_triggers() -> None:
    bundle = load.load(ROOT, "dev", environment={}, user="ann.lee@example.com")
    assert {schema.name for schema in bundle.of_type("schemas").values()} == {
        "dev_ann_lee_bronze", "dev_ann_lee_silver", "dev_ann_lee_gold", "dev_ann_lee_ops",
    }  # fmt: skip
    pipeline = bundle.find("members", "pipelines").value
    assert pipeline.plain("configuration", "bronze_schema") == "dev_ann_lee_bronze"
    assert pipeline.plain("event_log", "schema") == "dev_ann_lee_ops"
    assert bundle.paused
    assert not load.load(ROOT, "prod", environment={}).paused


def test_no_secret_and_no_source_url_is_in_the_bundle() -> None:
    for target in TARGETS:
        source = load.load(ROOT, target, environment={}).variables["source"]
        assert source.partition(":")[0] in ("env", "file", "secret")


INGEST = "resources/members_ingest.job.yml"
REFRESH = "resources/members_refresh.job.yml"
PIPELINE = "resources/members.pipeline.yml"
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
    "dependency that does not exist": (REFRESH, "- task_key: refresh", "- task_key: refresh\n          depends_on: [{task_key: before}]", "the task refresh depends on before, which does not exist"),
    "circle": (REFRESH, "- task_key: refresh", "- task_key: refresh\n          depends_on: [{task_key: refresh}]", "the tasks refresh → refresh depend on each other in a circle"),
    "two tasks of one key": (REFRESH, "      tasks:", "      tasks:\n        - task_key: refresh\n          condition_task: {left: a, op: EQUAL_TO, right: b}", "two tasks have the key refresh"),
    "task without a type": (REFRESH, "          pipeline_task:\n            pipeline_id: ${resources.pipelines.members.id}\n", "", "the task refresh needs exactly one type"),
    "outcome of no condition": (REFRESH, "      tasks:", "      tasks:\n        - task_key: x\n          depends_on: [{task_key: refresh, outcome: 'true'}]\n          pipeline_task: {pipeline_id: '${resources.pipelines.members.id}'}", "`outcome` needs a condition_task, and refresh is not one"),
    "unknown cluster": (INGEST, "- task_key: ingest\n          job_cluster_key: ingest", "- task_key: ingest\n          job_cluster_key: big", "the task ingest names the job_cluster_key big; there is ingest"),
    "unknown environment": (INGEST, "- task_key: ingest\n          job_cluster_key: ingest", "- task_key: ingest\n          environment_key: default", "the task ingest names the environment_key default; there is none"),
    "no compute": (INGEST, "- task_key: ingest\n          job_cluster_key: ingest", "- task_key: ingest", "the task ingest needs one of environment_key"),
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
    "glob": (PIPELINE, "transformations/**", "transformation/**", "resources.pipelines.members: this matches no .py or .sql file"),
    "root folder": (PIPELINE, "root_path: ../pipelines/members", "root_path: ../pipelines/member", "there is no folder ../pipelines/member"),
    "alert word": (PIPELINE, "      serverless: true", "      serverless: true\n      notifications: [{alerts: [on-update-failed], email_recipients: [a@example.com]}]", "an alert is one of on-update-success, on-update-failure, on-update-fatal-failure, on-flow-failure, not on-update-failed"),
    "channel": (PIPELINE, "      serverless: true", "      serverless: true\n      channel: CURENT", "channel is one of CURRENT, PREVIEW, not CURENT"),
    "serverless with clusters": (PIPELINE, "      serverless: true", "      serverless: true\n      clusters: [{label: default, num_workers: 1}]", "a serverless pipeline has no clusters"),
    "pipeline without schema": (PIPELINE, "      schema: ${resources.schemas.silver.name}\n", "", "resources.pipelines.members needs `schema`"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "message"), SEEDED.values(), ids=SEEDED)
def test_a_seeded_fault_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str, message: str
) -> None:
    for name in ("databricks.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("resources", "pipelines"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1))
    found = faults(tmp_path)
    assert all(re.match(r"(resources/[\w.]+|databricks\.yml):\d+: ", line) for line in found), found
    assert any(message in line for line in found), found
