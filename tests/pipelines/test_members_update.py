"""The members pipeline through its updates: drift, history, checks, quarantine redriven, the gate, and an erasure.

One small lakehouse lives through all of it; each test takes it where the one before has left it.
"""

from __future__ import annotations

import re
import shutil
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ingest.members import erase, redrive
from ingest.members.table import DDL
from ingest.run_log import Run, RunLog
from ingest.source import Source
from lakeflow_local.bundle import sql_files
from lakeflow_local.pipelines import update
from lakeflow_local.pipelines.spec import PipelineSpec
from quality import contract, gate

ROOT = Path(__file__).parents[2]
LAYERS = ("bronze", "silver", "gold", "ops")
LANDED = """
    member_id STRING, first_name STRING, last_name STRING, email STRING, phone_number STRING, address STRING,
    city STRING, country STRING, registration_date DATE, updated_at TIMESTAMP, _op STRING, _changed_at TIMESTAMP,
    _row_hash STRING, _extracted_at TIMESTAMP, _run_id STRING
"""
IDS = {name: f"3f0e9a52-5f3c-4a4e-9d1a-0c8f6a7b1e{n:02x}" for n, name in enumerate("abcdex", start=1)}


def day(number: int, hour: int = 0) -> datetime:
    return datetime(2024, 3, number, hour, tzinfo=UTC)


def member(name: str, at: datetime, *, op: str = "U", **changed: object) -> tuple:
    row = {
        "member_id": IDS[name],
        "first_name": f"First{name}",
        "last_name": f"Last{name}",
        "email": f"person.{name}@example.com",
        "phone_number": f"+44 20 7946 00{ord(name) % 100:02}",
        "address": f"{ord(name)} Unusual Lane",
        "city": "Bath",
        "country": "United Kingdom",
        "registration_date": date(2024, 2, 1),
    } | changed
    if op == "D":
        row = dict.fromkeys(row) | {"member_id": IDS[name]}
    return (*row.values(), at, op, at, f"hash {name} {at:%d}", day(28), "run 1")


@dataclass
class Lakehouse:
    """A lakehouse of these tests alone."""

    spark: SparkSession
    folder: Path
    source: str
    pipeline: Path = ROOT / "pipelines" / "members"
    said: list[str] = field(default_factory=list)

    @property
    def landing(self) -> Path:
        return self.folder / "landing"

    @property
    def options(self) -> list[str]:
        return ["--catalog=spark_catalog", *(f"--{layer}-schema=mu_{layer}" for layer in LAYERS)]

    def spec(self, name: str = "members", folder: str = "transformations") -> PipelineSpec:
        return PipelineSpec(
            key=name,
            name=name,
            id=f"{name}-of-tests",
            catalog="spark_catalog",
            schema="mu_silver",
            sources=tuple(sorted((self.pipeline / folder).glob("*.py"))),
            root_path=self.pipeline,
            configuration={
                **{f"{layer}_schema": f"mu_{layer}" for layer in LAYERS[:3]},
                "landing_url": str(self.landing),
                "pseudonym_key": "env:MEMBERS_TEST_KEY",
            },
            storage=str(self.folder / "storage" / name),
            event_log=f"spark_catalog.mu_ops.{name}_event_log",
        )

    def land(self, name: str, *rows: tuple, more: str = "") -> None:
        frame = self.spark.createDataFrame(list(rows), LANDED + more)
        frame.coalesce(1).write.parquet(str(self.landing / "members" / "ingest_date=2024-03-28" / name))

    def update(self) -> str | None:
        """Both pipelines, as the job runs them; the error of the first that failed."""
        for spec in (self.spec(), self.spec("members_gold", "gold")):
            result = update.run(self.spark, spec, progress=self.said.append)
            if not result.succeeded:
                return result.error
        return None

    def table(self, name: str):
        return self.spark.table(f"mu_{name}")

    def names(self, table: str) -> list[str]:
        by_id = {value: name for name, value in IDS.items()}
        return sorted(by_id[row.member_id] for row in self.table(table).select("member_id").collect())

    def checks(self) -> dict[str, int]:
        return {row["name"]: row.failed for row in self.table("silver.members_checks").collect()}

    def as_of(self, moment: str) -> dict[str, str]:
        file = ROOT / "sql" / "members" / "members_as_of.sql"
        (result,) = sql_files.run(
            self.spark, file, {"catalog": "spark_catalog", "silver_schema": "mu_silver", "day": moment}
        )
        by_id = {value: name for name, value in IDS.items()}
        return {by_id[row["member_id"]]: row["city"] for row in result.rows}

    def gate(self, *options: str) -> gate.Verdict:
        rules = self.pipeline / "rules.py"
        event_log = f"--event-log={self.spec().event_log}"
        return gate.run([*self.options, f"--rules={rules}", event_log, *options], self.spark)

    def results(self, run: str) -> list:
        return self.table("ops.dq_results").where(F.col("run_id") == run).collect()


@pytest.fixture(scope="module")
def lakehouse(spark: SparkSession, endpoints, tmp_path_factory):
    for layer in LAYERS:
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS mu_{layer}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMBERS_TEST_KEY", "a secret of the tests")
        patch.setenv("MEMBERS_TEST_MYSQL_URL", endpoints.mysql_url)
        yield Lakehouse(spark, tmp_path_factory.mktemp("lakehouse"), "env:MEMBERS_TEST_MYSQL_URL")
    for layer in LAYERS:
        spark.sql(f"DROP SCHEMA mu_{layer} CASCADE")


def test_what_arrives_is_let_through_or_refused(lakehouse: Lakehouse):
    lakehouse.land(
        "first",
        *(member(name, day(1)) for name in "abcd"),
        member("x", day(1), country="Neverland", city=" "),
    )
    lakehouse.land(
        "second",
        (*member("b", day(5), city="Leeds"), "gold"),
        (*member("c", day(6), op="D"), None),
        (*member("e", day(7), phone_number="1234567"), "silver"),
        more=", loyalty STRING",
    )
    assert lakehouse.update() is None
    assert lakehouse.names("silver.members") == ["a", "b", "d", "e"]
    assert lakehouse.names("silver.members_quarantine") == ["x"]
    refused = lakehouse.table("silver.members_quarantine").first()
    assert refused.failed_rules == ["city_present", "country_known"]
    assert refused._run_id == "run 1" and "/first/part-" in refused._source_file
    counts = {t: lakehouse.table(t).count() for t in ("bronze.members", "silver.members_changes")}
    assert counts == {"bronze.members": 8, "silver.members_changes": 7}
    assert set(lakehouse.checks().values()) == {0}


def test_a_new_column_waits_in_bronze_and_is_reported(lakehouse: Lakehouse):
    assert "loyalty" in lakehouse.table("bronze.members").columns
    assert "loyalty" not in lakehouse.table("silver.members_changes").columns
    # Two runs of the ingest: one that found two members which were missed, and one of which bronze lacks a row.
    log = RunLog(lakehouse.spark, "spark_catalog", "mu_ops")
    compared = Run("run 0", "lakehouse.members", "reconcile", day(27), "succeeded", ended_at=day(27))
    log.append(replace(compared, rows_landed=3, rows_deleted=1, rows_source=5))
    log.append(Run("run 1", "lakehouse.members", "incremental", day(28), "succeeded", ended_at=day(28), rows_landed=9))
    assert str(lakehouse.gate("--suites=false", "--run-id=new")).endswith("0 of them critical")
    (new,) = [row for row in lakehouse.results("new") if row.rule == "column_unexpected"]
    assert (new.layer, new.table_name, new.column_name, new.severity) == ("bronze", "members", "loyalty", "info")
    rules = {row.rule: row for row in lakehouse.results("new") if row.checked_by == "expectation"}
    assert rules["country_known"].failed_records == 1 and rules["country_known"].evaluated_records == 8
    assert (rules["phone_number_assigned"].severity, rules["phone_number_assigned"].column_name) == (
        "warning",
        "phone_number",
    )
    checkers = {"contract", "expectation", "cross-row check", "reconciliation"}
    assert {row.checked_by for row in lakehouse.results("new")} == checkers
    reconciled = {
        row.rule: (row.passed, row.failed_records, row.evaluated_records, row.severity)
        for row in lakehouse.results("new")
        if row.checked_by == "reconciliation"
    }
    assert reconciled == {
        "bronze_holds_what_landed": (False, 1, 9, "warning"),
        "silver_equals_source": (False, 2, 5, "warning"),
    }


def test_the_history_is_a_replay_of_the_changes(lakehouse: Lakehouse):
    changes = lakehouse.table("silver.members_changes").orderBy("_changed_at").collect()
    by_id = {value: name for name, value in IDS.items()}
    for number in (1, 4, 5, 6, 7):
        replayed: dict[str, str] = {}
        for row in changes:
            if row._changed_at.day <= number:
                name = by_id[row.member_id]
                if row._op == "D":
                    replayed.pop(name, None)
                else:
                    replayed[name] = row.city
        assert lakehouse.as_of(f"2024-03-0{number}") == replayed, number
    assert lakehouse.as_of("2024-02-29") == {}


def test_gold_tells_nobody_who_a_member_is(lakehouse: Lakehouse):
    current = lakehouse.table("gold.members_current")
    assert current.count() == 4 and not {*IDS.values()} & {row.member_key for row in current.collect()}
    churn = [tuple(row)[1:] for row in lakehouse.table("gold.members_churn_by_month").orderBy("month").collect()]
    assert [row[:3] for row in churn] == [(0, 5, 0), (5, 0, 1)]
    (country,) = lakehouse.table("gold.members_by_country").collect()
    assert (country.country_code, country.country, country.members) == ("GB", "United Kingdom", 4)
    assert lakehouse.table("gold.members_registrations_by_month").first().registrations == 5


def test_tables_are_as_their_contracts(lakehouse: Lakehouse):
    for table in contract.tables("members"):
        found = {f.name: f.dataType.simpleString() for f in lakehouse.table(table.full).schema}
        problems = [d.problem for d in contract.differences(table, found)]
        assert problems == (["unexpected"] if table.full == "bronze.members" else []), table.full


def test_the_suites_hold_and_their_pages_need_no_network(lakehouse: Lakehouse):
    docs = lakehouse.folder / "docs"
    verdict = lakehouse.gate("--run-id=suites", f"--docs={docs}")
    assert verdict.critical == ()
    found = [row for row in lakehouse.results("suites") if row.checked_by == "great expectations"]
    assert len(found) > 15 and all(row.passed for row in found)
    pages = [page.read_text() for page in docs.rglob("*.html")]
    assert len(pages) > 5
    for page in pages:
        assert not any(f'{attribute}="http' in page for attribute in ("src", "<link href")) and "<style>" in page
        assert not any(value in page for value in (*IDS.values(), "person.a@", "Lasta"))


def test_a_critical_fault_fails_the_gate_in_one_line(lakehouse: Lakehouse, capsys, monkeypatch):
    spark = lakehouse.spark
    current = spark.table("mu_gold.members_current")
    current.unionAll(current.limit(1)).withColumn("member_key", F.coalesce("member_key", F.lit(""))).drop(
        "country_code"
    ).write.mode("overwrite").option("overwriteSchema", "true").saveAsTable("mu_gold.members_current")
    with pytest.raises(gate.GateError, match=r"gold.members_current: country_code \(string\) is gone"):
        lakehouse.gate("--suites=false", "--run-id=broken")
    (drift,) = [row for row in lakehouse.results("broken") if row.rule == "column_missing"]
    assert (drift.table_name, drift.column_name, drift.severity) == ("members_current", "country_code", "critical")
    DeltaTable.forName(spark, "mu_gold.members_current").restoreToVersion(
        DeltaTable.forName(spark, "mu_gold.members_current").history(2).select(F.min("version")).first()[0]
    )


def test_failed_checks_keep_the_last_good_gold(lakehouse: Lakehouse):
    silver = DeltaTable.forName(lakehouse.spark, "mu_silver.members")
    good = silver.history(1).first().version
    before = lakehouse.table("gold.members_by_country").collect()
    silver.delete(F.col("member_id") == IDS["a"])
    assert "current_is_open_version" in lakehouse.update()
    assert lakehouse.table("gold.members_by_country").collect() == before
    silver.restoreToVersion(good)


def test_quarantine_is_redriven_after_a_rule_was_mended(lakehouse: Lakehouse, tmp_path: Path):
    mended = tmp_path / "members"
    shutil.copytree(ROOT / "pipelines" / "members", mended, ignore=shutil.ignore_patterns("__pycache__"))
    contacts, rules = mended / "contacts.py", mended / "rules.py"
    contacts.write_text(contacts.read_text().replace('"Turkey": "TR",', '"Turkey": "TR", "Neverland": "GB",'))
    # The tutorial's rule in the place of one, and its dataset.
    blocks = re.findall(r"```(text|python|sql)\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    rule, dataset = (block for kind, block in blocks if kind != "sql")
    rules.write_text(rules.read_text().replace("""    _present("city", "deliveries go there"),\n""", rule))
    (mended / "gold" / "members_by_city.py").write_text(dataset)
    lakehouse.pipeline = mended
    options = ["--catalog=spark_catalog", "--silver-schema=mu_silver", f"--landing-url={lakehouse.landing}"]
    assert redrive.run([*options, "--rule=email_valid"], lakehouse.spark) == redrive.Redriven(0, None)
    for _ in range(2):
        redriven = redrive.run([*options, "--run-id=again"], lakehouse.spark)
        assert redriven.rows == 1 and redriven.path.endswith("/redrive-again")
    assert lakehouse.update() is None
    assert lakehouse.names("silver.members") == ["a", "b", "d", "e", "x"]
    row = lakehouse.table("silver.members_changes").where("_run_id = 'again'").first()
    assert row.country == "Neverland" and row.country_code == "GB"
    # The refusal stays on record, and nothing of it waits any more.
    assert lakehouse.table("silver.members_quarantine").count() == 1
    assert redrive.run(options, lakehouse.spark).rows == 0
    assert lakehouse.checks()["nothing_lost"] == 0
    tile = tmp_path / "cities.sql"
    tile.write_text([block for kind, block in blocks if kind == "sql"][-1])
    (cities,) = sql_files.run(lakehouse.spark, tile, {"catalog": "spark_catalog", "gold_schema": "mu_gold"})
    assert ("Bath", 3) in map(tuple, cities.rows)
    lakehouse.gate("--suites=false", "--run-id=tutorial")
    assert {"city_without_digits"} <= {row.rule for row in lakehouse.results("tutorial")}


def found(folder: Path, values: list[str]) -> list[str]:
    needles = [value.encode() for value in values]
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [f"{file.name}: {n.decode()}" for file in files for n in needles if n in readable(file)]


def readable(file: Path) -> bytes:
    """The bytes of a file, and those of its rows where it is Parquet, which compresses them."""
    content = file.read_bytes()
    if content[:4] == b"PAR1":
        import pyarrow.parquet as pq

        content += repr(pq.ParquetFile(file).read().to_pylist()).encode()
    return content


@pytest.mark.timeout(900)
def test_an_erased_member_is_in_no_byte_any_more(lakehouse: Lakehouse, worker_home):
    spark = lakehouse.spark
    source = Source.of(lakehouse.source)
    with closing(source.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS members")
        cursor.execute(DDL)
        cursor.executemany(
            "INSERT INTO members (member_id, city) VALUES (%s, 'Bath')", [(IDS[name],) for name in "abd"]
        )
        connection.commit()
    options = [*lakehouse.options, f"--landing-url={lakehouse.landing}", f"--source={lakehouse.source}"]
    state = f"--ordering-state={lakehouse.folder}/storage/members/cdc/*/events-*"
    assert erase.run([*options, "--step=sources"], spark).requests == 0
    # Of the member that has left, the state that orders changes holds the delete.
    wanted = [(f"request {number}", IDS[name]) for number, name in enumerate("bcx", start=1)]
    spark.createDataFrame(wanted, "request_id STRING, member_id STRING").withColumn(
        "requested_at", F.current_timestamp()
    ).write.mode("append").saveAsTable("mu_ops.erasure_requests")
    # Of the pipeline of invoices: which customer is which member.
    pairs = [f'{{"customer_id":"{n}","member_id":"{IDS[n]}"}}' for n in "abx"] + [
        f'{{"member_id": "{IDS["c"].upper()}"'
    ]
    landed_pairs = lakehouse.landing / "customer_members" / "pairs.json"
    landed_pairs.parent.mkdir()
    landed_pairs.write_text("\n".join(pairs) + "\n")
    spark.sql(
        "CREATE TABLE mu_bronze.customer_members TBLPROPERTIES ('delta.dataSkippingStatsColumns' = 'customer_id') AS "
        f"SELECT * FROM VALUES ('a', '{IDS['a']}'), ('b', '{IDS['b'].upper()}') AS pairs (customer_id, member_id)"
    )
    values = [v for n in "bcx" for v in (IDS[n], IDS[n].upper(), f"Last{n}", f"person.{n}@", f"{ord(n)} Unusual")]
    # As it was written, and as it was normalised.
    values += [f"7946{space}00{ord(n) % 100}" for n in "bcx" for space in (" ", "")]
    places = [lakehouse.landing, Path(spark.conf.get("spark.sql.warehouse.dir").removeprefix("file:"))]
    schemas = [places[0], *(places[1] / f"mu_{layer}.db" for layer in LAYERS)]
    assert found(schemas[0], values) and found(schemas[1], values)

    with pytest.raises(erase.IngestError, match="still has a requested member"):
        erase.run([*options, "--step=purge", "--retain-hours=0"], spark)
    with pytest.raises(erase.IngestError, match="matches no folder"):
        erase.run([*options, "--step=tables", f"--ordering-state={lakehouse.folder}/absent/*"], spark)
    assert "b" in lakehouse.names("bronze.members")
    assert erase.run([*options, "--step=sources"], spark).items == {"mysql": 1, "landing": 4}
    assert erase.run([*options, state, "--step=tables"], spark).items["ordering state"] > 0
    assert lakehouse.names("bronze.members") == ["a", "d", "e"]
    # Run again, as after a death: nothing is left to do.
    for step in ("--step=sources", "--step=tables"):
        assert set(erase.run([*options, state, step], spark).items.values()) == {0}
    assert lakehouse.update() is None
    assert lakehouse.names("silver.members") == ["a", "d", "e"]
    assert lakehouse.names("bronze.customer_members") == ["a"] and landed_pairs.read_text() == pairs[0] + "\n"
    assert lakehouse.table("gold.members_current").count() == 3
    assert set(lakehouse.checks().values()) == {0}
    kept = erase.run([*options, "--step=purge"], spark)
    assert kept.open == 3
    purged = erase.run([*options, "--step=purge", "--retain-hours=0"], spark)
    assert purged.open == 0 and lakehouse.table("ops.erasure_requests").count() == 0
    assert [hit for folder in [*schemas, lakehouse.folder / "storage"] for hit in found(folder, values)] == []
    receipts = lakehouse.table("ops.erasure_receipts")
    assert receipts.where("step = 'purge' AND place = 'requests'").first().request_ids == [
        "request 1",
        "request 2",
        "request 3",
    ]
    # The others are as they were, and nothing came back.
    assert lakehouse.as_of("2024-03-28") == {"a": "Bath", "d": "Bath", "e": "Bath"}
