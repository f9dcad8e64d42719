"""Pipelines' SQL: every form of the reference, what is refused, and that nothing else of a text matters."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines import faults
from lakeflow_local.pipelines.graph import (
    Action,
    AutoCdc,
    Column,
    Expectation,
    Flow,
    ForeignKey,
    Kind,
    PrimaryKey,
    Snapshot,
)
from lakeflow_local.pipelines.sql import (
    CreateDataset,
    CreateFlow,
    Input,
    SetConf,
    TableArgument,
    TableFunction,
    inputs,
    normalise,
    parse,
    rewrite,
)
from lakeflow_local.pipelines.sql.statements import _cells, _split
from lakeflow_local.pipelines.sql.tokens import Source

FILE = Path("pipeline.sql")


def statements(text, configuration=None, **options):
    return parse(text, file=FILE, configuration={} if configuration is None else configuration, **options)


def created(text, configuration=None, **options) -> CreateDataset:
    (statement,) = statements(text, configuration, **options)
    assert isinstance(statement, CreateDataset)
    return statement


def flow_of(text, configuration=None) -> Flow:
    (statement,) = statements(text, configuration)
    return statement.flow if isinstance(statement, CreateFlow) else statement.flows[0]


def cdc_of(clauses) -> AutoCdc:
    return flow_of(f"CREATE FLOW f AS AUTO CDC INTO t {clauses}").cdc


def refused(text, configuration=None, kind=LakeflowError) -> str:
    with pytest.raises(kind) as fault:
        statements(text, configuration)
    assert fault.value.file == FILE and fault.value.line
    return str(fault.value)


class TestKinds:
    @pytest.mark.parametrize(
        ("head", "kind", "private"),
        [
            ("STREAMING TABLE", Kind.STREAMING_TABLE, False),
            ("OR REFRESH STREAMING TABLE", Kind.STREAMING_TABLE, False),
            ("OR REPLACE STREAMING TABLE", Kind.STREAMING_TABLE, False),
            ("STREAMING TABLE IF NOT EXISTS", Kind.STREAMING_TABLE, False),
            ("OR REFRESH PRIVATE STREAMING TABLE", Kind.STREAMING_TABLE, True),
            ("TEMPORARY STREAMING TABLE", Kind.STREAMING_TABLE, True),
            ("STREAMING LIVE TABLE", Kind.STREAMING_TABLE, False),
            ("LIVE STREAMING TABLE", Kind.STREAMING_TABLE, False),
            ("OR REFRESH TEMPORARY STREAMING LIVE TABLE", Kind.STREAMING_TABLE, True),
            ("INCREMENTAL LIVE TABLE", Kind.STREAMING_TABLE, False),
            ("MATERIALIZED VIEW", Kind.MATERIALIZED_VIEW, False),
            ("OR REPLACE MATERIALIZED VIEW", Kind.MATERIALIZED_VIEW, False),
            ("OR REFRESH PRIVATE MATERIALIZED VIEW", Kind.MATERIALIZED_VIEW, True),
            ("LIVE TABLE", Kind.MATERIALIZED_VIEW, False),
            ("OR REFRESH TEMPORARY LIVE TABLE", Kind.MATERIALIZED_VIEW, True),
            ("OR REFRESH TABLE", Kind.MATERIALIZED_VIEW, False),
            ("VIEW", Kind.TEMPORARY_VIEW, False),
            ("OR REPLACE VIEW", Kind.TEMPORARY_VIEW, False),
            ("TEMPORARY VIEW", Kind.TEMPORARY_VIEW, True),
            ("OR REPLACE TEMP VIEW", Kind.TEMPORARY_VIEW, True),
            ("LIVE VIEW", Kind.TEMPORARY_VIEW, True),
            ("TEMPORARY STREAMING LIVE VIEW", Kind.TEMPORARY_VIEW, True),
        ],
    )
    def test_by_the_words_of_the_statement(self, head, kind, private):
        for text in (f"CREATE {head} t AS SELECT 1", f"create {head.lower()} t as select 1"):
            dataset = created(text).dataset
            assert (dataset.name, dataset.kind, dataset.private) == ("t", kind, private)

    def test_the_dataset_s_own_query_is_a_flow_of_its_name(self):
        flow = flow_of("\n\nCREATE LIVE TABLE t\nAS -- why\n  SELECT 1 -- one\n  AS x -- two\n;")
        assert (flow.name, flow.target, flow.place.line, flow.query_line) == ("t", "t", 3, 5)
        assert flow.query == "SELECT 1 -- one\n  AS x"

    @pytest.mark.parametrize("query", ["SELECT 1", "WITH a AS (SELECT 1) SELECT * FROM a", "FROM a", "(SELECT 1)"])
    def test_as_may_be_left_out(self, query):
        assert flow_of(f"CREATE LIVE TABLE t COMMENT 'x' {query}").query == query
        assert flow_of(f"CREATE LIVE TABLE t {query}").query == query

    def test_a_streaming_table_may_wait_for_its_flows(self):
        assert created("CREATE STREAMING TABLE t;").flows == ()
        assert "expected AS and a query" in refused("CREATE MATERIALIZED VIEW t")


class TestNames:
    @pytest.mark.parametrize(
        ("written", "name"),
        [
            ("LIVE.t", "t"),
            ("live.`t`", "t"),
            ("c.s.t", "c.s.t"),
            ("`c`.`s`.`a b`", "c.s.`a b`"),
            ("`a.b`", "`a.b`"),
            ("`a``b`", "`a``b`"),
            ("c.3_gold.1_t", "c.3_gold.1_t"),
            ("`left`", "`left`"),
            ("${c}.${s}_x.t", "main.silver_x.t"),
            ("IDENTIFIER(:schema || '.t')", "bronze.t"),
            ("IDENTIFIER(CONCAT({{ schema }}, '.t'))", "bronze.t"),
            ("IDENTIFIER('${c}.s.t')", "main.s.t"),
        ],
    )
    def test_are_kept_without_needless_quotes(self, written, name):
        text = f"CREATE MATERIALIZED VIEW {written} AS SELECT 1"
        statement = created(text, {"c": "main", "s": "silver"}, parameters={"schema": "bronze"})
        assert statement.dataset.name == statement.flows[0].target == name

    def test_compare_by_their_parts(self):
        assert normalise("LIVE.T") == normalise("`t`") == ("t",)
        assert normalise("C.`s x`.T") == ("c", "s x", "t")
        assert normalise("`a.b`.`c``d`") == ("a.b", "c`d")

    def test_use_qualifies_the_tables_after_it_in_its_file(self):
        text = """
            CREATE LIVE TABLE a AS SELECT 1;
            USE CATALOG main; USE SCHEMA silver;
            CREATE LIVE TABLE b AS SELECT 1;
            CREATE LIVE TABLE gold.c AS SELECT 1;
            CREATE VIEW d AS SELECT 1;
            USE other.bronze;
            CREATE FLOW f AS INSERT INTO e BY NAME SELECT 1;
        """
        a, b, c, d, e = statements(text)
        assert [x.dataset.name for x in (a, b, c, d)] == ["a", "main.silver.b", "main.gold.c", "d"]
        assert (b.flows[0].catalog, b.flows[0].schema) == ("main", "silver")
        assert (e.flow.target, e.flow.catalog, e.flow.schema) == ("other.bronze.e", "other", "bronze")
        (a,) = statements("USE CATALOG c; CREATE LIVE TABLE a AS SELECT 1")
        assert (a.dataset.name, a.flows[0].schema) == ("c.default.a", "default")


class TestColumns:
    def test_everything_that_a_column_can_have(self):
        text = """CREATE STREAMING TABLE t (
            id BIGINT NOT NULL COMMENT 'it''s' PRIMARY KEY RELY,
            at TIMESTAMP DEFAULT current_timestamp() COMMENT "d\\"e",
            day DATE GENERATED ALWAYS AS (CAST(at AS DATE)),
            n BIGINT GENERATED ALWAYS AS IDENTITY (START WITH 5 INCREMENT BY 2),
            m BIGINT GENERATED BY DEFAULT AS IDENTITY,
            ssn STRING MASK main.f USING COLUMNS (id, 'x') NOT NULL,
            s STRUCT<a: INT COMMENT 'x, y', -- note
                     b: MAP<STRING, ARRAY<DECIMAL(10,2)>>> COMMENT r'\\d',
            ref STRING CONSTRAINT fk REFERENCES LIVE.c(k) NOT ENFORCED,
            constraint STRING, comment STRING, `a b` INT,
            untyped,
        )"""
        dataset = created(text).dataset
        assert dataset.columns == (
            Column("id", "BIGINT", not_null=True, comment="it's"),
            Column("at", "TIMESTAMP", default="current_timestamp()", comment='d"e'),
            Column("day", "DATE", generated="CAST(at AS DATE)"),
            Column("n", "BIGINT", generated="ALWAYS AS IDENTITY (START WITH 5 INCREMENT BY 2)"),
            Column("m", "BIGINT", generated="BY DEFAULT AS IDENTITY"),
            Column("ssn", "STRING", mask="main.f USING COLUMNS (id, 'x')", not_null=True),
            Column("s", "STRUCT<a: INT COMMENT 'x, y', b: MAP<STRING, ARRAY<DECIMAL(10,2)>>>", comment="\\d"),
            Column("ref", "STRING"),
            Column("constraint", "STRING"),
            Column("comment", "STRING"),
            Column("a b", "INT"),
            Column("untyped"),
        )
        assert dataset.primary_key == PrimaryKey(("id",), rely=True)
        assert dataset.foreign_keys == (ForeignKey(("ref",), "c", ("k",), name="fk"),)

    def test_expectations_stand_between_columns(self):
        text = """CREATE LIVE TABLE t (
            CONSTRAINT a EXPECT (x > 0 AND y <> ')') ON VIOLATION DROP ROW,
            x INT,
            CONSTRAINT `b c` EXPECT (z IS NOT NULL or (z in (1, 2))) on violation fail update,
            y STRING,
            CONSTRAINT d EXPECT(true)
        ) AS SELECT 1"""
        dataset = created(text).dataset
        assert [column.name for column in dataset.columns] == ["x", "y"]
        assert dataset.expectations == (
            Expectation("a", "x > 0 AND y <> ')'", Action.DROP),
            Expectation("b c", "z IS NOT NULL or (z in (1, 2))", Action.FAIL),
            Expectation("d", "true", Action.WARN),
        )

    def test_keys_of_the_table(self):
        text = """CREATE LIVE TABLE t (a INT, b INT,
            CONSTRAINT pk PRIMARY KEY (a, b TIMESERIES) NOT ENFORCED RELY,
            FOREIGN KEY (a) REFERENCES c.s.u (k) NORELY,
            CONSTRAINT fk FOREIGN KEY (b) REFERENCES v NOT ENFORCED INITIALLY DEFERRED RELY) AS SELECT 1"""
        dataset = created(text).dataset
        assert dataset.primary_key == PrimaryKey(("a", "b"), "pk", rely=True)
        assert dataset.foreign_keys == (
            ForeignKey(("a",), "c.s.u", ("k",)),
            ForeignKey(("b",), "v", (), name="fk", rely=True),
        )

    def test_unique_keys_are_read_and_change_nothing(self):
        text = """CREATE LIVE TABLE seats (
            unique BOOLEAN, badge STRING UNIQUE NOT NULL, code STRING CONSTRAINT one UNIQUE RELY COMMENT 'c', row INT,
            UNIQUE (row) NOT ENFORCED, CONSTRAINT two UNIQUE (row, code) RELY,
            CONSTRAINT sure EXPECT (row > 0)) AS SELECT 1"""
        dataset = created(text).dataset
        assert dataset.columns == (
            Column("unique", "BOOLEAN"),
            Column("badge", "STRING", not_null=True),
            Column("code", "STRING", comment="c"),
            Column("row", "INT"),
        )
        assert dataset.expectations == (Expectation("sure", "row > 0", Action.WARN),)
        assert dataset.primary_key is None

    def test_an_empty_list_is_none(self):
        assert created("CREATE STREAMING LIVE VIEW v ( ) COMMENT 'x' AS SELECT 1").dataset.columns == ()


class TestClauses:
    CLAUSES = (
        "COMMENT 'text'",
        "TBLPROPERTIES ('a.b' = 'c', delta.x = TRUE, \"n\" = 1, e '1.5', f = -2, g = 1.25,)",
        "PARTITIONED BY (p, q)",
        "LOCATION '/x'",
        "USING DELTA",
        "WITH ROW FILTER c.s.f ON (a, 'b')",
        "DEFAULT COLLATION UTF8_BINARY",
    )

    @pytest.mark.parametrize("turn", range(len(CLAUSES)))
    def test_stand_in_any_order(self, turn):
        clauses = self.CLAUSES[turn:] + self.CLAUSES[:turn]
        dataset = created(f"CREATE STREAMING TABLE t {' '.join(clauses)} AS SELECT 1").dataset
        assert dataset.comment == "text"
        assert dataset.properties == {"a.b": "c", "delta.x": "true", "n": "1", "e": "1.5", "f": "-2", "g": "1.25"}
        assert (dataset.partition_cols, dataset.path) == (("p", "q"), "/x")
        assert dataset.row_filter == "c.s.f ON (a, 'b')"

    def test_clustering(self):
        assert created("CREATE STREAMING TABLE t CLUSTER BY (a, `b c`)").dataset.cluster_by == ("a", "b c")
        assert created("CREATE STREAMING TABLE t CLUSTER BY AUTO").dataset.cluster_by_auto
        assert created("CREATE STREAMING TABLE t CLUSTER BY NONE").dataset.cluster_by == ()

    @pytest.mark.parametrize(
        ("clause", "name"),
        [
            ("SCHEDULE EVERY 1 HOUR", "SCHEDULE"),
            ("SCHEDULE REFRESH CRON '0 0 * * * ?' AT TIME ZONE 'UTC'", "SCHEDULE"),
            ("TRIGGER ON UPDATE AT MOST EVERY INTERVAL 5 MINUTES", "TRIGGER ON UPDATE"),
            ("REFRESH POLICY INCREMENTAL STRICT", "REFRESH POLICY"),
            ("REFRESH POLICY AUTO", "REFRESH POLICY"),
            ("WITH SCHEMA TYPE EVOLUTION", "WITH SCHEMA"),
        ],
    )
    def test_without_effect_are_named(self, clause, name):
        assert created(f"CREATE MATERIALIZED VIEW t {clause} COMMENT 'x' AS SELECT 1").without_effect == (name,)


class TestFlows:
    @pytest.mark.parametrize(
        ("head", "target", "once"),
        [
            ("INSERT INTO t BY NAME", "t", False),
            ("INSERT INTO LIVE.t", "t", False),
            ("INSERT INTO ONCE t BY NAME", "t", True),
            ("INSERT ONCE INTO t BY NAME", "t", True),
            ("INSERT INTO once BY NAME", "once", False),
            ("INSERT INTO ONCE once BY NAME", "once", True),
        ],
    )
    def test_insert(self, head, target, once):
        flow = flow_of(f"CREATE FLOW f COMMENT 'c' AS {head}\nSELECT * FROM STREAM s")
        assert (flow.name, flow.target, flow.once, flow.comment) == ("f", target, once, "c")
        assert (flow.query, flow.query_line, flow.cdc) == ("SELECT * FROM STREAM s", 2, None)

    def test_inside_the_table(self):
        flow = flow_of("CREATE STREAMING TABLE t FLOW INSERT ONCE BY NAME SELECT 1")
        assert (flow.name, flow.target, flow.once, flow.query) == ("t", "t", True, "SELECT 1")
        flow = flow_of("CREATE STREAMING TABLE t COMMENT 'x' FLOW AUTO CDC FROM STREAM s KEYS (a) SEQUENCE BY b")
        assert (flow.name, flow.target, flow.cdc) == ("t", "t", AutoCdc("s", ("a",), "b"))


class TestAutoCdc:
    CLAUSES = (
        "KEYS (a, `b c`)",
        "IGNORE NULL UPDATES",
        "APPLY AS DELETE WHEN CASE WHEN op = 'D' THEN true ELSE false END",
        'APPLY AS TRUNCATE WHEN op = "T"',
        "SEQUENCE BY columns",
        "COLUMNS * EXCEPT (op, seq)",
        "STORED AS SCD TYPE 2",
        "TRACK HISTORY ON x, y",
    )

    @pytest.mark.parametrize("turn", range(len(CLAUSES)))
    def test_clauses_stand_in_any_order(self, turn):
        clauses = self.CLAUSES[turn:] + self.CLAUSES[:turn]
        assert cdc_of(f"FROM STREAM(LIVE.s) {' '.join(clauses)}") == AutoCdc(
            "s",
            ("a", "b c"),
            "columns",
            apply_as_deletes="CASE WHEN op = 'D' THEN true ELSE false END",
            apply_as_truncates='op = "T"',
            except_columns=("op", "seq"),
            scd_type=2,
            track_history=("x", "y"),
            ignore_null_updates=True,
        )

    @pytest.mark.parametrize(
        "head",
        [
            "APPLY CHANGES INTO LIVE.t",
            "CREATE FLOW t AS AUTO CDC INTO t",
            "CREATE FLOW t AS APPLY CHANGES INTO t",
            "CREATE OR REFRESH FLOW t AS AUTO CDC INTO t",
        ],
    )
    def test_old_and_new_heads_mean_the_same(self, head):
        flow = flow_of(f"{head} FROM STREAM(s) KEYS (k) SEQUENCE BY q")
        assert (flow.name, flow.target, flow.query, flow.cdc) == ("t", "t", None, AutoCdc("s", ("k",), "q"))
        assert flow.once is False

    def test_from_snapshots(self):
        of_table = flow_of("CREATE STREAMING TABLE t FLOW AUTO CDC FROM SNAPSHOT a.b KEYS (k) STORED AS SCD TYPE 2")
        assert (of_table.target, of_table.snapshot) == ("t", Snapshot(("k",), source="a.b", scd_type=2))
        versions = "WITH VERSION (SELECT max(v) AS v FROM s WHERE v > (SELECT v FROM last_snapshot_version()))"
        of_query = flow_of(
            f"CREATE FLOW f AS AUTO CDC INTO t FROM SNAPSHOT (SELECT * FROM s) {versions} KEYS (k) TRACK HISTORY ON a"
        ).snapshot
        assert (of_query.query, of_query.version_query) == ("SELECT * FROM s", versions[14:-1])
        assert of_query.track_history == ("a",)
        into = "CREATE FLOW f AS AUTO CDC INTO t FROM SNAPSHOT"
        assert "takes KEYS, WITH VERSION" in refused(f"{into} s KEYS (k) SEQUENCE BY x")
        assert "WITH VERSION needs a query" in refused(f"{into} s {versions} KEYS (k)")

    def test_a_managed_table_is_written_by_flows(self):
        (statement,) = statements("CREATE TABLE t (CONSTRAINT c EXPECT (a > 0)) FLOW INSERT BY NAME SELECT 1 AS a")
        assert (statement.dataset.kind, len(statement.flows)) == (Kind.STREAMING_TABLE, 1)
        assert "CREATE TABLE is not a statement of a pipeline" in refused("CREATE TABLE t AS SELECT 1")

    @pytest.mark.parametrize("once", ["AUTO CDC ONCE INTO t", "AUTO CDC INTO ONCE t"])
    def test_once(self, once):
        assert flow_of(f"CREATE FLOW f AS {once} FROM s KEYS (k) SEQUENCE BY q").once is True

    @pytest.mark.parametrize(
        ("written", "source", "query"),
        [
            ("s", "s", None),
            ("STREAM s", "s", None),
            ("stream ( c.s.`a b` )", "c.s.`a b`", None),
            ("STREAM(LIVE.s)", "s", None),
            ("stream", "stream", None),
            ("(SELECT * FROM STREAM s WHERE a)", None, "SELECT * FROM STREAM s WHERE a"),
            ("(FROM STREAM s |> SELECT *)", None, "FROM STREAM s |> SELECT *"),
            ("STREAM read_files('/x', a => 1)", None, "SELECT * FROM STREAM read_files('/x', a => 1)"),
            ("STREAM(s) AS x", None, "SELECT * FROM STREAM(s) AS x"),
            ("STREAM s WITH (SKIPCHANGECOMMITS)", None, "SELECT * FROM STREAM s WITH (SKIPCHANGECOMMITS)"),
        ],
    )
    def test_sources(self, written, source, query):
        cdc = cdc_of(f"FROM {written}\nKEYS (k) SEQUENCE BY q")
        assert (cdc.source, cdc.source_query) == (source, query)

    @pytest.mark.parametrize(
        "expression",
        ["a < 5", "a > 5", "a[0] < b[1]", "a IS DISTINCT FROM b", "extract(YEAR FROM a) = 1", "x.columns", "keys"],
    )
    def test_expressions_end_at_the_next_clause(self, expression):
        cdc = cdc_of(f"FROM s KEYS (k) APPLY AS DELETE WHEN {expression} SEQUENCE BY {expression} COLUMNS (k)")
        assert (cdc.apply_as_deletes, cdc.sequence_by, cdc.columns) == (expression, expression, ("k",))

    def test_a_condition_on_the_source_becomes_a_query(self):
        cdc = cdc_of("FROM STREAM(s) KEYS (k) WHERE a > 1 SEQUENCE BY q")
        assert (cdc.source, cdc.source_query) == (None, "SELECT * FROM STREAM s WHERE a > 1")

    def test_two_times_and_columns_that_a_change_names(self):
        rest = "FROM s KEYS (k) SEQUENCE BY q "
        known = cdc_of(rest + "SYSTEM SEQUENCE BY coalesce(seen, at) COLUMNS * EXCEPT (x) STORED AS BITEMPORAL")
        assert (known.scd_type, known.system_sequence_by) == (2, "coalesce(seen, at)")
        assert cdc_of(rest + "STORED AS SCD TYPE 1 COLUMNS TO UPDATE changed").columns_to_update == "changed"
        for half in ("STORED AS BITEMPORAL", "SYSTEM SEQUENCE BY seen", "SYSTEM SEQUENCE BY seen STORED AS SCD TYPE 2"):
            assert "BITEMPORAL and SYSTEM SEQUENCE BY go together" in refused(f"APPLY CHANGES INTO t {rest}{half}")

    def test_lists_of_columns(self):
        rest = "FROM s KEYS (k) SEQUENCE BY q "
        assert cdc_of(rest + "COLUMNS (a, b)").columns == ("a", "b")
        assert cdc_of(rest + "COLUMNS *") == cdc_of(rest)
        assert cdc_of(rest + "TRACK HISTORY ON * EXCEPT (a)").track_history_except == ("a",)
        assert cdc_of(rest + "IGNORE NULL UPDATES ON (a, b)").ignore_null_columns == ("a", "b")
        assert cdc_of(rest + "IGNORE NULL UPDATES ON * EXCEPT (a)").ignore_null_except == ("a",)

    @pytest.mark.parametrize("clause", ["KEYS (k)", "SEQUENCE BY q", "FROM s"])
    def test_what_it_cannot_do_without(self, clause):
        clauses = [x for x in ("FROM s", "KEYS (k)", "SEQUENCE BY q") if x != clause]
        assert f"has no {clause.split()[0]}" in refused(f"APPLY CHANGES INTO t {' '.join(clauses)}")

    def test_no_clause_twice(self):
        assert "KEYS is given twice" in refused("APPLY CHANGES INTO t FROM s KEYS (k) KEYS (l) SEQUENCE BY q")


class TestConfiguration:
    def test_replaces_text_outside_comments(self):
        text = (
            "CREATE LIVE TABLE ${c}.t COMMENT '${c}/x' /* ${no} */ AS -- ${no}\n"
            "SELECT ${expr} FROM `${c}`.u -- ${no}\nWHERE a"
        )
        statement = created(text, {"c": "main", "expr": "1 AS a"})
        assert (statement.dataset.name, statement.dataset.comment) == ("main.t", "main/x")
        assert statement.flows[0].query == "SELECT 1 AS a FROM `main`.u -- ${no}\nWHERE a"

    def test_an_unset_key_is_a_fault_with_its_line(self):
        message = refused("CREATE LIVE TABLE t AS\nSELECT *\nFROM ${landing.url}.x")
        assert message == (
            "pipeline.sql:3: the configuration key landing.url is not set; "
            "give it in the pipeline's configuration or with SET"
        )

    def test_set_holds_for_what_follows(self):
        first, view, second, table = statements(
            "SET day = '2020-01-01'; CREATE VIEW v AS SELECT ${day}; SET pipelines.trigger.interval = 5 minute ;"
            "CREATE LIVE TABLE t AS SELECT ${day}"
        )
        assert first == SetConf("day", "'2020-01-01'", 1)
        assert second == SetConf("pipelines.trigger.interval", "5 minute", 1)
        assert view.flows[0].query == "SELECT '2020-01-01'" and view.flows[0].spark_conf == {"day": "'2020-01-01'"}
        assert table.flows[0].spark_conf["pipelines.trigger.interval"] == "5 minute"
        assert statements("SET spark.source;") == []

    def test_a_mapping_may_supply_defaults(self):
        class Names(dict):
            def __missing__(self, key):
                return f"some_{key}"

        assert created("CREATE LIVE TABLE ${x}.t AS SELECT 1", Names()).dataset.name == "some_x.t"

    def test_lines_stay_those_of_the_file(self):
        text = "CREATE LIVE TABLE t AS\nSELECT ${a}\nFROM ${a} ${a};\n\nCREATE LIVE TABLE u CHECK"
        assert ":5:" in refused(text, {"a": "x" * 50})


class TestFiles:
    NOTEBOOK = (
        "-- Databricks notebook source\n-- MAGIC %md\n-- MAGIC it's; a title\n\n-- COMMAND ----------\n\n"
        "-- DBTITLE 1,A\nCREATE LIVE TABLE a AS SELECT 1\n\n-- COMMAND ----------\n\n"
        "-- MAGIC %sql\n-- MAGIC CREATE LIVE TABLE b AS\n-- MAGIC SELECT 2;\n\n-- COMMAND ----------\n\n"
        "-- MAGIC %md ### text\n"
    )

    def test_notebooks_end_statements_at_cells(self):
        a, b = statements(self.NOTEBOOK)
        assert (a.dataset.name, a.dataset.place.line, a.flows[0].query) == ("a", 8, "SELECT 1")
        assert (b.dataset.name, b.dataset.place.line, b.flows[0].query_line) == ("b", 13, 14)

    def test_carriage_returns_and_byte_order_marks(self):
        text = "\ufeff" + self.NOTEBOOK.replace("\n", "\r\n")
        assert [(x.dataset.name, x.dataset.place.line) for x in statements(text)] == [("a", 8), ("b", 13)]

    def test_cells_of_other_languages_are_comments(self):
        text = "SET a = b\n-- COMMAND ----------\n-- MAGIC %python\n-- MAGIC print('x')"
        assert [statement.key for statement in statements(text)] == ["a"]

    def test_magic_commands_may_stand_without_their_comment(self):
        text = (
            "-- x\n%sql\nSET a = b; SET c = d\n-- COMMAND ----------\n%python\nprint('it is')\n-- COMMAND ----------\n"
        )
        assert [(x.key, x.line) for x in statements(f"{text}\n %sql SET e = f")] == [("a", 3), ("c", 3), ("e", 9)]

    def test_semicolons_count_outside_strings_and_comments(self):
        text = """;; -- a; it's
            CREATE LIVE TABLE `a;b` COMMENT ";" AS SELECT ';', r'\\', 'it''s;', "\\";" /* ; /* ; */ ; */ ;
            ; CREATE LIVE TABLE c AS SELECT 'ünï;' AS `日;本`;;"""
        assert [x.dataset.name for x in statements(text)] == ["`a;b`", "c"]

    def test_empty(self):
        assert statements("") == statements(" ; -- x\n;") == statements("-- Databricks notebook source\n") == []

    def test_text_inside_another_file_keeps_that_file_s_lines(self):
        assert created("\nCREATE LIVE TABLE t AS SELECT 1", line=10).dataset.place.line == 11

    @given(
        st.lists(st.sampled_from(["a", "'x;y'", '"--"', "`b;c`", "-- n;\n", "/* ; */", ";", " ", "\n", "${k}", "("]))
    )
    def test_statements_are_the_text_less_what_is_between_them(self, pieces):
        text = "".join(pieces)
        position = 0
        for cell in _cells(Source(text)):
            for statement in _split(cell):
                start = text.index(statement.text, position)
                assert not re.sub(r"--[^\n]*|/\*.*?\*/|[;\s]", "", text[position:start])
                position = start + len(statement.text)
        assert not re.sub(r"--[^\n]*|/\*.*?\*/|[;\s]", "", text[position:])


REFUSED = [
    (
        "CREATE LIVE TABLE t (\n a INT,\n CONSTRAINT p CHECK (a > 0)) AS SELECT 1",
        "3: expected EXPECT after CONSTRAINT p; found CHECK "
        "(only EXPECT, PRIMARY KEY, FOREIGN KEY and UNIQUE constraints exist in pipelines)",
    ),
    ("CREATE LIVE TABLE t (CONSTRAINT a EXPECT (b) ON VIOLATION WARN) AS SELECT 1", "expected DROP ROW or FAIL UPDATE"),
    ("CREATE LIVE TABLE t (CONSTRAINT a EXPECT b) AS SELECT 1", "expected ( after EXPECT; found b"),
    ("CREATE LIVE TABLE t (a INT CONSTRAINT b CHECK (c)) AS SELECT 1", "a key, a comma or ) after the column a"),
    ("CREATE LIVE TABLE t (CONSTRAINT a EXPECT (b), CONSTRAINT a EXPECT (c)) AS SELECT 1", "declared twice"),
    ("CREATE LIVE TABLE t (a INT, A INT) AS SELECT 1", "the column A is declared twice"),
    ("CREATE LIVE TABLE t (a INT b) AS SELECT 'x", "a quote or a comment that begins here has no end"),
    ("CREATE LIVE TABLE t AS SELECT (1", "this ( is never closed"),
    ("CREATE LIVE TABLE t AS SELECT 1)", "this ) closes nothing"),
    ("CREATE LIVE TABLE t AS INSERT INTO x", "expected a query after MATERIALIZED VIEW t AS; found INSERT"),
    ("CREATE LIVE TABLE t AS SELECT 1\n\nCREATE LIVE TABLE u AS SELECT 2", "3: a ; is missing before CREATE LIVE"),
    ("CREATE STREAMING TABLE t AS SELECT 1 APPLY CHANGES INTO t", "a ; is missing before APPLY CHANGES INTO"),
    ("CREATE LIVE TABLE t COMMENT 'a' COMMENT 'b' AS SELECT 1", "COMMENT is given twice"),
    ("CREATE LIVE TABLE t COMMENT x AS SELECT 1", "expected a string after COMMENT; found x"),
    ("CREATE LIVE TABLE a.b.c.d AS SELECT 1", "has more than three parts"),
    ("CREATE LIVE TABLE my-catalog.a.b AS SELECT 1", "a name with - in it needs back quotes: `my-…`"),
    ("CREATE TABLE IF NOT EXISTS t (a INT)", "CREATE TABLE is not a statement of a pipeline"),
    ("CREATE OR REPLACE FUNCTION f() RETURN 1", "CREATE FUNCTION is not a statement of a pipeline"),
    ("CREATE SCHEMA s", "CREATE SCHEMA is not a statement of a pipeline"),
    ("SET VARIABLE x = 1", "SET VARIABLE is not a statement of a pipeline"),
    ("SET TIME ZONE 'UTC'", "SET TIME is not a statement of a pipeline"),
    ("CREATE OR REPLACE TEMPORARY FUNCTION f() RETURN 1", "CREATE TEMPORARY FUNCTION is not a statement of a pipeline"),
    ("SET a b c d", "expected SET key = value; found SET a b c"),
    ("CREATE VIEW v LANGUAGE YAML AS $$a: b$$", "VIEW v WITH METRICS is not a statement of a pipeline"),
    ("CREATE VIEW v WITH METRICS LANGUAGE YAML AS $$it's$$", "VIEW v WITH METRICS is not a statement of a pipeline"),
    ("CREATE OR REFRESH STREMING TABLE t AS SELECT 1", "CREATE OR REFRESH STREMING is not a statement of a pipeline"),
    ("AUTO CDC INTO t FROM s", "AUTO CDC INTO needs a flow's name"),
    *((f"{word} x", f"{word} is not a statement of a") for word in ("INSERT", "MERGE", "SELECT", "GRANT", "DROP")),
]  # fmt: skip

UNSUPPORTED = [
    ("CREATE STREAMING TABLE t USING parquet AS SELECT 1", "USING parquet"),
    ("CREATE GLOBAL TEMPORARY VIEW v AS SELECT 1", "CREATE GLOBAL TEMPORARY VIEW"),
    ("CREATE VIEW v DEFAULT COLLATION UNICODE_CI AS SELECT 1", "DEFAULT COLLATION UNICODE_CI"),
]

NOT_DONE = [
    ("CREATE STREAMING TABLE t FLOW REPLACE WHERE a > (SELECT 1) BY NAME SELECT 1", "REPLACE WHERE"),
    ("CREATE MATERIALIZED VIEW t FLOW REPLACE WHERE a > 1 BY NAME SELECT 1", "REPLACE WHERE"),
    ("CREATE FLOW f AS INSERT INTO t BY NAME REPLACE WHERE a > 1 SELECT 1", "REPLACE WHERE"),
    ("CREATE FLOW f AS INSERT INTO t BY NAME REPLACE USING (a, b) SEQUENCE BY c SELECT 1", "REPLACE USING"),
    ("CREATE FLOW f AS INSERT INTO t BY NAME REPLACE USING (a) SELECT 1", "REPLACE USING"),
]


class TestRefused:
    @pytest.mark.parametrize(("text", "message"), REFUSED)
    def test_with_the_place_and_what_is_wrong(self, text, message):
        assert message in refused(text)

    @pytest.mark.parametrize(("text", "name"), UNSUPPORTED)
    def test_what_databricks_alone_has_by_its_name(self, text, name):
        assert f"{name} " in refused(text, kind=UnsupportedError)

    @pytest.mark.parametrize(("text", "name"), NOT_DONE)
    def test_what_an_update_alone_refuses(self, text, name):
        flow = flow_of(text)
        assert (flow.target, flow.refused) == ("t", name)
        assert "; declare a materialized view" in faults.refused(flow)
        assert flow.query in (None, "SELECT 1")


UNFINISHED = [
    ("SELECT a,\n  b FROM", "2: a table is missing after FROM"),
    ("SELECT a FROM t WHERE b =", "1: the query ends after ="),
    ("SELECT a FROM t\nJOIN", "2: a table is missing after JOIN"),
    ("SELECT a FROM t,\nINNER JOIN u", "1: a table is missing after ,"),
    ("SELECT a FROM\nLEFT SEMI JOIN u", "1: a table is missing after FROM"),
    ("SELECT a FROM\nWHERE b > 1", "1: a table is missing after FROM"),
    ("SELECT a FROM\nGROUP BY a", "1: a table is missing after FROM"),
    ("SELECT a FROM\nUNION ALL SELECT b FROM u", "1: a table is missing after FROM"),
    ("SELECT a FROM (SELECT b FROM) u", "1: a table is missing after FROM"),
    ("SELECT *\nSTREAM t", "2: expected FROM after *; found STREAM"),
    ("SELECT 1,\nCASE WHEN a THEN CASE WHEN b THEN 1 END FROM t", "2: this CASE has no END"),
]


@pytest.mark.parametrize(("query", "message"), UNFINISHED)
def test_a_query_that_is_cut_off_is_refused(query, message):
    with pytest.raises(LakeflowError, match=re.escape(message)):
        inputs(query, file=FILE)


QUERIES = [
    ("SELECT * FROM LIVE.a JOIN `b c`.`D` ON true, STREAM e, STREAM(LIVE.f) g", "a `b c`.D e~ f~"),
    ("WITH a AS (SELECT * FROM a), b AS (SELECT * FROM a) SELECT * FROM b, c", "a c"),
    ("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n FROM r) SELECT * FROM r", ""),
    ("WITH a AS (WITH b AS (SELECT * FROM c) SELECT * FROM b) SELECT * FROM b", "c b"),
    ("SELECT (SELECT max(x) FROM u) FROM t WHERE EXISTS (SELECT 1 FROM v) AND k IN (SELECT k FROM w)", "u t v w"),
    ("SELECT extract(YEAR FROM d), trim(BOTH 'x' FROM e), substring(f FROM 1 FOR 2) FROM t", "t"),
    ("SELECT a IS DISTINCT FROM b, c IS NOT DISTINCT FROM d FROM t", "t"),
    ("FROM STREAM(p) |> WHERE x |> JOIN q USING (k) |> SELECT y", "p~ q"),
    ("(SELECT 1 FROM a) UNION ALL SELECT 2 FROM b EXCEPT TABLE c MINUS (FROM d)", "a b c d"),
    ("SELECT * EXCEPT (x, y), z FROM a LATERAL VIEW explode(z) v AS p, q", "a"),
    ("SELECT * FROM (a JOIN b) JOIN ((SELECT * FROM c) UNION (SELECT * FROM d)) e", "a b c d"),
    ("SELECT * FROM a, LATERAL (SELECT * FROM b), explode(array(1)) c, VALUES (1, null), (2, x) v(m, n)", "a b"),
    ("SELECT * FROM STREAM t WATERMARK ts DELAY OF INTERVAL 1 MINUTE AS s LEFT ANTI JOIN u", "t~ u"),
    ("SELECT * FROM t VERSION AS OF 3, u TIMESTAMP AS OF '2020-01-01', delta.`/x`", "t u delta.`/x`"),
    ("SELECT * FROM t PIVOT (sum(a) FOR b IN ('x', 'y')), u", "t u"),
    ("SELECT a.from, 'FROM x', `from`, \"JOIN y\" -- FROM z\nFROM t /* , w */ ORDER BY a, b", "t"),
    ("SELECT * FROM stream JOIN stream.a", "stream stream.a"),
    ("SELECT inner.k FROM inner WHERE inner.v > 2", "`inner`"),
    ("SELECT * FROM order o CROSS JOIN (SELECT 1 FROM left) ORDER BY a", "order `left`"),
    ("SELECT * FROM a, group, order.b, limit LIMIT 1", "a group order.b limit"),
    ("SELECT * FROM c.3_gold.t, a A, A b", "c.3_gold.t a"),
]


class TestInputs:
    @pytest.mark.parametrize(
        ("query", "names"),
        [
            *QUERIES,
            ("SELECT * FROM STREAM read_files('/x'), range(3), f((SELECT 1 FROM t)), g(TABLE(u), TABLE v)", "t u v"),
            ("SELECT * FROM STREAM(TABLE(t)) JOIN TABLE(s.u), TABLE(f(1)), TABLE(SELECT * FROM v)", "t~ s.u v"),
            ("SELECT * FROM table_changes('s.t', 0), event_log(TABLE(x)), event_log('id')", "s.t"),
            ("SELECT * FROM IDENTIFIER(:schema || '.t') JOIN STREAM(IDENTIFIER('u'))", "bronze.t u~"),
            ("INSERT INTO x SELECT * FROM t", "t"),
            ("SHOW TABLES", ""),
        ],
    )
    def test_are_the_tables_that_spark_would_look_up(self, query, names):
        found = inputs(query, parameters={"schema": "bronze"})
        assert [x.name + "~" * x.streaming for x in found] == re.findall(r"(?:`[^`]*`|[^\s`])+", names)

    @pytest.mark.parametrize("query", [query for query, _ in QUERIES])
    def test_spark_s_own_parser_finds_the_same(self, spark, query):
        text = rewrite(query, lambda call: "")
        plan = spark._jsparkSession.sessionState().sqlParser().parsePlan(text).treeString()
        relations = re.findall(r"UnresolvedRelation \[(.*?)\], \[.*?\], (true|false)", plan)
        common = {name.lower() for names in re.findall(r"CTE \[(.*?)\]", plan) for name in names.split(", ")}
        theirs = {(name.lower().replace(", ", "."), streaming == "true") for name, streaming in relations}
        ours = {(".".join(normalise(x.name)), x.streaming) for x in inputs(text)}
        assert {x for x in ours if x[0] not in common} == {x for x in theirs if x[0] not in common}

    def test_have_lines(self):
        assert inputs("SELECT *\nFROM a\nJOIN STREAM\nb", line=7) == [Input("a", False, 8), Input("b", True, 10)]

    def test_queries_nested_too_deeply_are_refused(self):
        with pytest.raises(LakeflowError, match="nested too deeply"):
            inputs("SELECT " + "(" * 3000 + "1" + ")" * 3000)

    def test_a_live_name_that_with_hides_is_refused(self):
        with pytest.raises(LakeflowError, match=r"LIVE\.a is hidden by WITH a"):
            inputs("WITH a AS (SELECT 1) SELECT * FROM LIVE.a JOIN a")


class TestRewrite:
    def calls(self, query, **parameters):
        found: list[TableFunction] = []

        def replace(call):
            found.append(call)
            return f"«{len(found)}»"

        return rewrite(query, replace, parameters=parameters), found

    def test_replaces_calls_with_their_stream_and_nothing_else(self):
        text, calls = self.calls(
            "SELECT  * , 'read_files(1)' -- LIVE.x\nFROM STREAM read_files('/a') x\n JOIN STREAM ( read_files('/b') ) ,"
            "read_files('/c'),STREAM(cloud_files('/d', 'json')) , range(3), STREAM(s)"
        )
        assert text == ("SELECT  * , 'read_files(1)' -- LIVE.x\nFROM «1» x\n JOIN «2» ,«3»,«4» , range(3), STREAM(s)")
        assert [(x.name, x.streaming, x.arguments[0], x.line) for x in calls] == [
            ("read_files", True, "/a", 2),
            ("read_files", True, "/b", 3),
            ("read_files", False, "/c", 3),
            ("cloud_files", True, "/d", 3),
        ]

    def test_arguments_are_values(self):
        _, (call,) = self.calls(
            "SELECT * FROM read_files('s3://' || :bucket || '/x', concat('a', \"b\", 'it''s'), -1, 2.5, 10L, TRUE, "
            "NULL, map('k', 'v', 'n', 1), array(1, 2), ('z'), format => 'csv', `cloudFiles.x` => true, "
            "schemaHints=>'a INT',)",
            bucket="landing",
        )
        assert call.arguments == (
            "s3://landing/x", "abit's", -1, 2.5, 10, True, None, {"k": "v", "n": 1}, [1, 2], "z",
        )  # fmt: skip
        assert call.named == {"format": "csv", "cloudfiles.x": True, "schemahints": "a INT"}

    def test_event_logs(self):
        _, calls = self.calls("SELECT * FROM event_log('1-2'), event_log(TABLE(c.s.`t u`))")
        assert [x.arguments for x in calls] == [("1-2",), (TableArgument("c.s.`t u`"),)]

    def test_removes_live_where_it_is_the_pipeline_s_schema(self):
        text, _ = self.calls("SELECT LIVE.a.x, live.y FROM LIVE.a JOIN STREAM(`Live` . b) JOIN live JOIN c AS live")
        assert text == "SELECT a.x, live.y FROM a JOIN STREAM(b) JOIN live JOIN c AS live"

    def test_options_without_value_get_one(self):
        text, _ = self.calls(
            "FROM STREAM t WITH (SKIPCHANGECOMMITS, 'a' = 'b', c) JOIN STREAM(u) WITH (d), read_files('x') WITH (e)"
        )
        assert text == (
            "FROM STREAM t WITH (SKIPCHANGECOMMITS = 'true', 'a' = 'b', c = 'true') JOIN STREAM(u) WITH (d = 'true'), "
            "«1» WITH (e = 'true')"
        )

    @pytest.mark.parametrize(
        "argument", ["upper('x')", "'a' || NULL", "x", ":missing", "'a' ||", "map('k')", "-'a'", "secret('a', 'b')"]
    )
    def test_arguments_that_are_no_constants_are_refused(self, argument):
        with pytest.raises(LakeflowError, match=r"must be a constant|is not set") as fault:
            rewrite(f"SELECT *\nFROM read_files({argument})", lambda call: "", file=FILE, line=5)
        assert fault.value.line == 6

    @given(st.text(alphabet="ab.,;()'\"`-/*\n $:{}|>=", max_size=40))
    def test_leaves_other_text_alone(self, text):
        with contextlib.suppress(LakeflowError):
            assert rewrite(text, lambda call: "") == text


EVERYTHING = """
CREATE OR REFRESH PRIVATE STREAMING TABLE IF NOT EXISTS LIVE . `a b` (
  id BIGINT NOT NULL COMMENT 'i' PRIMARY KEY RELY, m MAP < STRING , ARRAY < INT > > DEFAULT map ( ) ,
  g DATE GENERATED ALWAYS AS ( CAST ( x AS DATE ) ) , s STRING MASK f USING COLUMNS ( id ) ,
  CONSTRAINT c EXPECT ( id > 0 ) ON VIOLATION DROP ROW ,
  CONSTRAINT k FOREIGN KEY ( id ) REFERENCES u ( id ) NOT ENFORCED
) USING DELTA COMMENT "c" TBLPROPERTIES ( 'a' = 'b' , c . d = true ) CLUSTER BY ( id ) LOCATION '/x'
WITH ROW FILTER f ON ( id ) AS SELECT * FROM STREAM ( LIVE . t ) ;
CREATE FLOW f COMMENT 'x' AS AUTO CDC ONCE INTO t FROM STREAM ( s ) KEYS ( a , b ) IGNORE NULL UPDATES
APPLY AS DELETE WHEN op = 'D' SEQUENCE BY q COLUMNS * EXCEPT ( op ) STORED AS SCD TYPE 2
TRACK HISTORY ON * EXCEPT ( z ) ;
CREATE FLOW g AS INSERT INTO ONCE t BY NAME SELECT 1 ;
USE CATALOG c ; USE SCHEMA s ; CREATE TEMPORARY LIVE VIEW v SELECT 1 ;
"""
TOKENS = Source(EVERYTHING).tokens
GAPS = [" ", "\n", "\r\n", "\t", " /* it`s; ${no} */ ", " -- it`s; ( ${no}\n", " /* a /* b */ c */ ", "\u00a0"]


def comparable(found):
    """What statements say, without the places, and without the comments and white space of the texts in them."""
    said = re.sub(r"/\* (a /\* b \*/ c|it`s; \$\{no\}) \*/|-- it`s; \( \$\{no\}\\n", " ", repr(found))
    return re.sub(r"(query_)?line=\d+|\\r|\\n|\\t|\\xa0|\s|[\"'\\]", "", said)


def test_spark_parses_the_queries_that_are_handed_over(spark):
    for statement in statements(EVERYTHING):
        for flow in getattr(statement, "flows", ()):
            text = rewrite(flow.query, lambda call: "STREAM s" if call.streaming else "s")
            spark._jsparkSession.sessionState().sqlParser().parsePlan(text)


class TestAnyText:
    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.sampled_from(GAPS), min_size=len(TOKENS), max_size=len(TOKENS)))
    def test_comments_and_white_space_between_tokens_change_nothing(self, gaps):
        text = "".join(EVERYTHING[token.start : token.end + 1] + gap for token, gap in zip(TOKENS, gaps, strict=True))
        assert comparable(statements(text)) == comparable(statements(EVERYTHING))

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_a_damaged_statement_is_refused_in_one_line_or_read(self, data):
        pieces = [EVERYTHING[token.start : token.end + 1] for token in TOKENS]
        for _ in range(data.draw(st.integers(1, 4))):
            index = data.draw(st.integers(0, len(pieces) - 1))
            if data.draw(st.booleans()):
                del pieces[index]
            else:
                pieces.insert(index, data.draw(st.sampled_from([*pieces, "'", "`", "(", ")", "<", ".", ";", "$", "{"])))
        try:
            for statement in statements(" ".join(pieces)):
                for flow in getattr(statement, "flows", ()):
                    inputs(flow.query or "")
        except LakeflowError as fault:
            assert fault.file == FILE or fault.file is None
            assert fault.line and "\n" not in str(fault)

    @pytest.mark.parametrize("end", range(0, len(TOKENS), 1))
    def test_a_cut_file_never_crashes(self, end):
        try:
            statements(EVERYTHING[: TOKENS[end].start])
        except LakeflowError as fault:
            assert fault.line
