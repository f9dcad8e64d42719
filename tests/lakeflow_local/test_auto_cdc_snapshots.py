"""AUTO CDC FROM SNAPSHOT against the model of AUTO CDC, over the differences of its snapshots."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines.auto_cdc import TARGET_PROPERTIES, apply_snapshots, next_snapshot, snapshot_frame
from lakeflow_local.pipelines.auto_cdc import snapshots as module
from lakeflow_local.pipelines.graph import Snapshot
from tests.lakeflow_local.auto_cdc_model import model_current, model_history
from tests.lakeflow_local.project import Project

ROWS = "k INT, a STRING, b INT"
VERSIONS = (10, 20, 30)


def some_snapshots(rng: random.Random, keys: int = 120) -> dict[int, list[tuple]]:
    """Rows by version. Each key comes, changes and goes by itself, so that they are as many feeds side by side."""
    return {
        version: [(key, rng.choice([None, "x"]), rng.randint(1, 2)) for key in range(keys) if rng.random() < 0.7]
        for version in VERSIONS
    }


def differences(snapshots: dict[int, list[tuple]]) -> list[tuple]:
    events, before = [], {}
    for version, rows in snapshots.items():
        after = {row[0]: row for row in rows}
        events += [(*row, version, "U") for row in rows if before.get(row[0]) != row]
        events += [(key, None, None, version, "D") for key in before.keys() - after.keys()]
        before = after
    return events


def test_snapshots_are_auto_cdc_of_their_differences_through_a_kill_after_each_write(spark, tmp_path, monkeypatch):
    snapshots = some_snapshots(random.Random("snapshots"))
    asked = []

    def source(latest):
        asked.append(latest)
        version = next((version for version in VERSIONS if latest is None or version > latest), None)
        return None if version is None else (spark.createDataFrame(snapshots[version], ROWS), version)

    spark.sql("CREATE SCHEMA IF NOT EXISTS test_auto_cdc_snapshots")
    current = Snapshot(keys=("k",), function=source)
    cases = {
        "current": (current, lambda events: [row[:3] for row in model_current(events)]),
        "history": (replace(current, scd_type=2, track_history=("a",)), lambda e: model_history(e, tracked=(0,))),
    }
    write, killed = module.Storage.write_json, set()

    def once_cut_short(storage, content, *parts):
        if (storage.root, content["int"]) not in killed:
            killed.add((storage.root, content["int"]))
            raise KeyboardInterrupt
        write(storage, content, *parts)

    monkeypatch.setattr(module.Storage, "write_json", once_cut_short)
    for name, (snapshot, model) in cases.items():
        table = f"spark_catalog.test_auto_cdc_snapshots.{name}"
        ddl = snapshot_frame(spark.createDataFrame([], ROWS), 1, snapshot).schema.toDDL()
        listed = ", ".join(f"'{key}' = '{value}'" for key, value in TARGET_PROPERTIES.items())
        spark.sql(f"CREATE TABLE {table} ({ddl}) USING delta TBLPROPERTIES ({listed})")
        for _ in VERSIONS:
            with pytest.raises(KeyboardInterrupt):
                apply_snapshots(spark, None, target=table, state=str(tmp_path / name), snapshot=snapshot)
        assert apply_snapshots(spark, None, target=table, state=str(tmp_path / name), snapshot=snapshot) is None
        found = sorted(map(tuple, spark.table(table).collect()), key=repr)
        assert found == sorted(model(differences(snapshots)), key=repr)
        assert asked == [None, None, 10, 10, 20, 20, 30]
        asked.clear()
        spark.sql(f"DROP TABLE {table}")


PIPELINE = """
    import datetime as dt

    from pyspark import pipelines as dp

    @dp.materialized_view
    def members():
        return spark.read.schema("k STRING, v INT").json(spark.conf.get("landing"))

    dp.create_streaming_table("by_table")
    dp.create_auto_cdc_from_snapshot_flow(target="by_table", source="members", keys=["k"], stored_as_scd_type=2)

    def next_day(latest):
        day = dt.date(2026, 1, 1) if latest is None else latest + dt.timedelta(days=1)
        if day > dt.date.fromisoformat(spark.conf.get("last_day", "2026-01-02")):
            return None
        return spark.createDataFrame([("a", day.day), (str(day.day), 0)], "k STRING, v INT"), day

    dp.create_streaming_table("by_function")
    dp.apply_changes_from_snapshot(target="by_function", source=next_day, keys=["k"])

    dp.create_streaming_table("hydrated", expect_all={"positive": "v > 1"})
    dp.create_auto_cdc_flow(target="hydrated", source="members", keys=["k"], sequence_by="v", name="first", once=True)

    @dp.temporary_view
    def landed():
        return spark.readStream.schema("k STRING, v INT").json(spark.conf.get("landing"))

    dp.create_streaming_table("of_stream")
    dp.create_auto_cdc_flow(target="of_stream", source="landed", keys=["k"], sequence_by="v", name="first", once=True)
"""


IN_SQL = """
    CREATE OR REFRESH STREAMING TABLE by_query
      FLOW AUTO CDC FROM SNAPSHOT (SELECT k, v FROM members) KEYS (k) STORED AS SCD TYPE 2;
    CREATE OR REFRESH STREAMING TABLE by_version;
    CREATE FLOW versions AS AUTO CDC INTO by_version
      FROM SNAPSHOT (SELECT k, v + day AS v FROM members CROSS JOIN current_snapshot_version())
      WITH VERSION (
        SELECT day FROM VALUES (1), (2), (3) AS t(day)
        WHERE day > coalesce((SELECT day FROM last_snapshot_version()), 1) ORDER BY day LIMIT 1
      )
      KEYS (k) STORED AS SCD TYPE 2;
"""


def test_by_table_each_update_is_a_version_by_function_one_update_takes_all(project: Project):
    project.source("a.py", PIPELINE)
    project.source("b.sql", IN_SQL)
    project.land("1.json", {"k": "a", "v": 1}, {"k": "b", "v": 2})
    first = project.update()
    assert first.succeeded, first.error
    assert {f.dataset.split(".")[-1]: f.counts for f in first.flows if "by_" in f.dataset} == {
        "by_table": {},
        "by_function": {},
        "by_query": {},
        "by_version": {},
    }
    versions = [("a", 3, 2, 3), ("a", 4, 3, None), ("b", 4, 2, 3), ("b", 5, 3, None)]
    assert project.rows("by_version") == versions
    assert project.rows("by_function") == [("2", 0), ("a", 2)]
    (hydration,) = (flow for flow in first.flows if flow.dataset.endswith("hydrated"))
    assert (hydration.upserted, [(r.passed, r.failed) for r in hydration.expectations]) == (2, [(1, 1)])
    (project.landing / "1.json").unlink()
    project.land("2.json", {"k": "a", "v": 5})
    assert project.update().succeeded
    assert project.rows("hydrated") == [("a", 1), ("b", 2)] == project.rows("of_stream")
    assert project.rows("by_version") == versions, "no version is later"
    assert project.rows("by_query", "k", "v") == project.rows("by_table", "k", "v")
    rows = project.spark.table(f"{project.schema}.by_table").orderBy("k", "__START_AT").collect()
    assert [(r.k, r.v, r["__END_AT"] is None) for r in rows] == [("a", 1, False), ("a", 5, True), ("b", 2, False)]
    assert rows[0]["__END_AT"] == rows[1]["__START_AT"] == rows[2]["__END_AT"] > rows[0]["__START_AT"]
    kinds = {e.details for e in project.events("flow_definition") if "by_table" in e.origin.dataset_name}
    assert all('"SNAPSHOT_CHANGE"' in details for details in kinds)


ALSO_A_CHANGE_FEED = """
dp.create_auto_cdc_flow(target="t", source="s", keys=["k"], sequence_by="v", name="two")"""
EXPECTS = """
dp.create_streaming_table("u", expect_all={"r": "v > 0"})
dp.create_auto_cdc_from_snapshot_flow(target="u", source="s", keys=["k"])"""


@pytest.mark.parametrize(
    ("more", "message"), [(ALSO_A_CHANGE_FEED, "by no other flow"), (EXPECTS, "supports no expectations")]
)
def test_what_a_target_of_snapshots_cannot_be_is_refused_with_its_line(project: Project, more, message):
    before = """
        from pyspark import pipelines as dp

        @dp.materialized_view
        def s():
            return spark.createDataFrame([("a", 1)], "k STRING, v INT")

        dp.create_streaming_table("t")
        dp.create_auto_cdc_from_snapshot_flow(target="t", source="s", keys=["k"])
    """
    lines = before.count("\n")
    project.source("a.py", before.rstrip() + more.replace("\n", "\n        "))
    with pytest.raises(LakeflowError, match=message) as fault:
        project.update()
    assert fault.value.file.name == "a.py" and fault.value.line >= lines - 1


def test_versions_ascend_and_a_function_gives_a_frame_and_a_version(spark):
    frame = spark.range(1)

    def giving(*given):
        return Snapshot(keys=("id",), function=lambda latest: given if len(given) > 1 else given[0])

    assert next_snapshot(giving(None), 3) is None
    assert next_snapshot(giving(frame, 4), 3) == (frame, 4)
    for given, latest, message in (
        ((frame, 3), 3, "gave version 3 after 3; versions must ascend"),
        ((frame, "4"), 3, "a version is a str, the one before a int; versions must be of one type"),
        ((frame, True), None, "a version cannot be a bool"),
        (([frame],), None, r"must return \(DataFrame, version\) or None; it returned list"),
    ):
        with pytest.raises(LakeflowError, match=message):
            next_snapshot(giving(*given), latest)


def test_a_key_that_is_null_or_comes_twice_is_counted_and_not_shown(spark, tmp_path):
    spark.sql("CREATE SCHEMA IF NOT EXISTS test_auto_cdc_snapshots")
    table = "spark_catalog.test_auto_cdc_snapshots.doubtful"
    spark.sql(f"CREATE TABLE {table} ({ROWS}) USING delta")
    for rows, message in (
        ([(1, "secret", 1), (1, "x", 2), (2, "x", 1)], "1 key comes more than once in the snapshot; k must tell"),
        ([(None, "secret", 1)], "the key k is NULL in 1 row of the snapshot"),
    ):
        frame = spark.createDataFrame(rows, ROWS)
        with pytest.raises(LakeflowError, match=message) as fault:
            apply_snapshots(spark, frame, target=table, state=str(tmp_path / "s"), snapshot=Snapshot(keys=("K",)))
        assert "secret" not in fault.value.message
    assert spark.table(table).isEmpty()
    for snapshot, message in (
        (Snapshot(keys=("nix",)), "the key `nix` is not a column of the snapshot; there are k, a, b"),
        (Snapshot(keys=("k",), track_history=("a",)), "needs SCD type 2"),
    ):
        with pytest.raises(LakeflowError, match=message):
            snapshot_frame(frame, 1, snapshot)
    spark.sql(f"DROP TABLE {table}")
