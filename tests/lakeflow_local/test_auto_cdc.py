"""AUTO CDC against a model of what it means, and against what was measured on Databricks."""

from __future__ import annotations

import itertools
import random
from contextlib import nullcontext
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest
from delta.tables import DeltaTable

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines import api, auto_cdc
from lakeflow_local.pipelines.auto_cdc import Counts, apply_batch, target_schema
from lakeflow_local.pipelines.auto_cdc import state as states
from lakeflow_local.pipelines.auto_cdc import target as targets
from lakeflow_local.pipelines.graph import AutoCdc
from lakeflow_local.pipelines.registry import Registry, collecting
from tests.lakeflow_local.auto_cdc_model import model_beliefs, model_current, model_history, whole

CHANGES = "k INT, a STRING, b INT, seq INT, op STRING"
KEPT = AutoCdc(source="s", keys=("k",), sequence_by="seq", apply_as_deletes="op = 'D'", except_columns=("op",))
HIDDEN = replace(KEPT, except_columns=("op", "seq"))
HISTORY = replace(HIDDEN, scd_type=2)
COMPOSITE = "code STRING, number DECIMAL(20, 2), part STRUCT<x: INT, y: STRING>"


@dataclass
class Target:
    """A target and its state, that batches are applied to."""

    spark: object
    cdc: AutoCdc
    name: str
    state: str
    schema: str = CHANGES

    def frame(self, rows):
        return self.spark.createDataFrame(rows, self.schema)

    def apply(self, rows) -> Counts:
        return apply_batch(self.spark, self.frame(rows), target=self.name, state=self.state, cdc=self.cdc)

    def rows(self, *columns: str) -> list[tuple]:
        found = self.spark.table(self.name).select(*columns or "*").collect()
        return sorted((tuple(row) for row in found), key=repr)

    def version(self) -> int:
        return DeltaTable.forName(self.spark, self.name).history(1).first()["version"]


_number = itertools.count()


@pytest.fixture(scope="module")
def make_target(spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    spark.sql("CREATE SCHEMA IF NOT EXISTS test_auto_cdc")

    def make(cdc: AutoCdc, schema: str = CHANGES, columns=None, properties=auto_cdc.TARGET_PROPERTIES) -> Target:
        name = f"spark_catalog.test_auto_cdc.t{next(_number)}"
        changes = spark.createDataFrame([], schema).schema
        ddl = columns or target_schema(changes, cdc, spark).toDDL()
        listed = ", ".join(f"'{key}' = '{value}'" for key, value in properties.items())
        spark.sql(f"CREATE TABLE {name} ({ddl}) USING delta" + (f" TBLPROPERTIES ({listed})" if listed else ""))
        made.append(name)
        return Target(spark, cdc, name, str(folder / str(next(_number))), schema)

    made: list[str] = []
    yield make
    for name in made:
        spark.sql(f"DROP TABLE IF EXISTS {name}")


def a_feed(rng: random.Random, keys: int = 150) -> list[tuple]:
    """Few values and sequence numbers, so that runs and deletes of all kinds occur; one content a number."""
    feed = []
    for key in range(keys):
        for seq in rng.sample(range(1, 10), rng.randint(1, 7)):
            content = (rng.choice([None, "x", "y"]), rng.choice([None, 1]))
            kinds = rng.choice(["U", "U", "U", "U", "D", "UD"])
            feed += [(key, None, None, seq, "D") if kind == "D" else (key, *content, seq, "U") for kind in kinds]
    return feed


class Killed(Exception):
    pass


def die_before(monkeypatch, *names: str):
    """Writes of the target that are killed: what comes before them is done."""

    def killed(*_, **__):
        raise Killed

    for name in names:
        monkeypatch.setattr(targets.Target, name, killed)


def with_composite_keys(cdc: AutoCdc) -> tuple[AutoCdc, str]:
    return replace(cdc, keys=("code", "number", "part")), CHANGES.replace("k INT", COMPOSITE)


def composite(row: tuple) -> tuple:
    """A row or an event with a key of three columns in the place of its number."""
    key, *rest = row
    return (f"k{key % 7}", Decimal(25 * key).scaleb(-2), (key % 3, None if key % 5 else "y"), *rest)


def take_for_large(monkeypatch):
    """Any table that is not empty is taken for a large one, which is read and written in other ways."""
    monkeypatch.setattr(targets, "SMALL_TABLE_BYTES", 0)


def apply_with_kills(monkeypatch, rng: random.Random, target: Target, feed: list[tuple]) -> None:
    """The feed in three batches, cut differently for every key, each event at random in one or more of them.

    Keys do not meet, so that one table holds as many feeds as there are keys. The first batch is killed between the
    writes of the state and of the target and comes again, with more, in the second; the second was written but is not
    known to be, so for half of the keys it comes again in the third.
    """
    cuts = {event[:-4]: rng.choice(("early", "late", "mixed")) for event in feed}
    batches: list[list[tuple]] = [[], [], []]
    for event in feed:
        number = {"early": 0, "late": rng.choice((1, 2)), "mixed": rng.choice((0, 1, 2))}[cuts[event[:-4]]]
        batches[number].append(event)
    batches[1] += batches[0] + rng.choices(batches[0], k=20)
    again = {key: rng.random() < 0.5 for key in cuts}
    batches[2] += [event for event in batches[1] if again[event[:-4]]]
    for batch in batches:
        rng.shuffle(batch)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_before(patch, "_append", "_execute")
        target.apply(batches[0])
    target.apply(batches[1])
    if len(target.cdc.keys) > 1 and target.cdc.sequence_by not in target.cdc.except_columns:
        # The rows that a large table lacks are added, and those that it has not changed yet.
        with monkeypatch.context() as patch, pytest.raises(Killed):
            die_before(patch, "_execute")
            target.apply(batches[2])
    target.apply(batches[2])


CASES = {
    "type 1, the target keeps the sequence": (KEPT, lambda feed: model_current(feed)),
    "type 1, the sequence is hidden": (HIDDEN, lambda feed: [row[:3] for row in model_current(feed)]),
    "type 1, NULLs are ignored": (
        replace(HIDDEN, ignore_null_updates=True),
        lambda feed: [row[:3] for row in model_current(feed, sparse=True)],
    ),
    "type 2": (HISTORY, lambda feed: model_history(feed)),
    "type 2, one column tracked": (
        replace(HISTORY, track_history=("a",)),
        lambda feed: model_history(feed, tracked=(0,)),
    ),
    "type 2, NULLs are ignored": (
        replace(HISTORY, ignore_null_updates=True),
        lambda feed: model_history(feed, sparse=True),
    ),
}


LARGE = ("type 1, the target keeps the sequence", "type 1, NULLs are ignored", "type 2")


@pytest.mark.parametrize("case", CASES)
def test_any_order_any_batches_and_any_kill_give_what_the_events_mean(case, make_target, monkeypatch):
    cdc, model = CASES[case]
    rng = random.Random(case)
    feed = a_feed(rng)
    expected = model(feed)
    if case in LARGE:
        take_for_large(monkeypatch)
        target = make_target(*with_composite_keys(cdc))
        feed, expected = map(composite, feed), map(composite, expected)
    else:
        target = make_target(cdc)
    apply_with_kills(monkeypatch, rng, target, list(feed))
    assert target.rows() == sorted(expected, key=repr)


PARTIAL = replace(HIDDEN, columns_to_update="columns", except_columns=("op", "seq", "columns"))
BELIEFS = replace(HISTORY, system_sequence_by="known", except_columns=("op", "seq", "known"))
PARTIAL_CHANGES = CHANGES.replace("a STRING", "columns ARRAY<STRING>, a STRING")
BELIEF_CHANGES = CHANGES.replace("a STRING", "known INT, a STRING")


@pytest.mark.parametrize("scd_type", [1, 2])
def test_each_change_writes_the_columns_that_it_names_in_any_order(scd_type, make_target, monkeypatch):
    rng = random.Random(scd_type)
    names = [None, (), ("a",), ("B", "k"), ("a", "b")]
    feed = [(k, rng.choice(names), *rest) for k, *rest in a_feed(rng, keys=60)]
    lowered = [(k, names and tuple(map(str.lower, names)), *rest) for k, names, *rest in feed]
    expected = model_history(whole(lowered)) if scd_type == 2 else [row[:3] for row in model_current(whole(lowered))]
    target = make_target(replace(PARTIAL, scd_type=scd_type), PARTIAL_CHANGES)
    apply_with_kills(monkeypatch, rng, target, feed)
    assert target.rows() == expected


def test_what_was_known_when_is_the_history_of_what_had_come_by_then_in_any_order(make_target, monkeypatch):
    rng = random.Random(9)
    feed = [
        (k, known, *(event[1:3] if known % 2 else (rng.choice("xyz"), 2)), *event[3:])
        for event in a_feed(rng, keys=40)
        for k in event[:1]
        for known in rng.sample(range(1, 7), rng.choice((1, 1, 2)))
    ]
    feed = [(k, known, *((None, None) if op == "D" else (a, b)), seq, op) for k, known, a, b, seq, op in feed]
    target = make_target(BELIEFS, BELIEF_CHANGES)
    apply_with_kills(monkeypatch, rng, target, feed)
    assert target.rows() == model_beliefs(feed)


def test_measured_9_each_belief_is_kept_with_the_time_in_which_it_was_held(make_target):
    target = make_target(BELIEFS, BELIEF_CHANGES)
    assert target.spark.table(target.name).columns[-4:] == [
        "__START_AT",
        "__END_AT",
        "__SYSTEM_START_AT",
        "__SYSTEM_END_AT",
    ]
    for known, status, since in [(60, "PENDING", 0), (180, "ACTIVE", 120), (300, "SUSPENDED", 240)]:
        target.apply([(1, known, status, None, since, "U")])
    in_two_times = ("a", "__START_AT", "__END_AT", "__SYSTEM_START_AT", "__SYSTEM_END_AT")
    after_three = [
        ("ACTIVE", 120, 240, 300, None),
        ("ACTIVE", 120, None, 180, 300),
        ("PENDING", 0, 120, 180, None),
        ("PENDING", 0, None, 60, 180),
        ("SUSPENDED", 240, None, 300, None),
    ]
    assert target.rows(*in_two_times) == after_three
    # A delete has no row of its own; what is known as late as 360 of a time before corrects that time alone.
    target.apply([(1, 360, None, None, 400, "D"), (1, 360, "HELD", None, 60, "U")])
    assert target.rows(*in_two_times) == sorted(
        [
            *(row for row in after_three if row != ("PENDING", 0, 120, 180, None) and row[0] != "SUSPENDED"),
            ("HELD", 60, 120, 360, None),
            ("PENDING", 0, 120, 180, 360),
            ("PENDING", 0, 60, 360, None),
            ("SUSPENDED", 240, 400, 360, None),
            ("SUSPENDED", 240, None, 300, 360),
        ],
        key=repr,
    )


def test_a_list_that_names_no_column_and_a_change_without_a_system_time_are_refused(make_target):
    with pytest.raises(LakeflowError, match="columns names `colour`, which is no column of the target"):
        make_target(PARTIAL, PARTIAL_CHANGES).apply([(1, ["a", "Colour"], "x", 1, 1, "U")])
    with pytest.raises(LakeflowError, match="the system_sequence_by known is NULL in 1 change;"):
        make_target(BELIEFS, BELIEF_CHANGES).apply([(1, None, "x", 1, 1, "U")])


def test_type_1_is_the_open_row_of_type_2_even_where_contents_tie(make_target, monkeypatch):
    rng = random.Random("ties")
    feed = [(key, a, None, seq, "U") for key in range(40) for seq in (1, 2) for a in rng.sample("xyz", 2)]
    feed += [(key, None, None, 2, "D") for key in range(10)]
    rng.shuffle(feed)
    monkeypatch.setattr(states, "COMPACT_ABOVE_FILES", 0)
    kept, hidden, history = make_target(KEPT), make_target(HIDDEN), make_target(HISTORY)
    kept.apply(feed)
    for target in (hidden, history):
        target.apply(feed[:80])
    take_for_large(monkeypatch)
    for target in (hidden, history):
        target.apply(feed[80:])
    current = hidden.rows("k", "a")
    assert len(current) == 30
    assert kept.rows("k", "a") == current
    opened = history.spark.table(history.name).where("__END_AT IS NULL").select("k", "a")
    assert sorted(map(tuple, opened.collect()), key=repr) == current
    assert kept.apply(sorted(feed, key=repr)) == Counts()


# What was measured on Databricks, with its numbers there: https://github.com/ivanvyd/lakeflow-auto-cdc-torture-test

DUPLICATE, LATE, LATE_BEFORE_DELETE, REPLAY, OLDER_DELETE, UNKNOWN = range(6)
FIRST = [
    (DUPLICATE, "ACTIVE", 1, 10, "U"),
    (DUPLICATE, "ACTIVE", 1, 10, "U"),
    (LATE, "ACTIVE", 1, 12, "U"),
    (LATE_BEFORE_DELETE, "ACTIVE", 1, 17, "U"),
    (LATE_BEFORE_DELETE, None, None, 20, "D"),
    *(history := [(REPLAY, "PENDING", 1, 10, "U"), (REPLAY, "ACTIVE", 1, 20, "U"), (REPLAY, "ACTIVE", 2, 30, "U")]),
    *(end := [(REPLAY, "SUSPENDED", 3, 40, "U"), (REPLAY, None, None, 50, "D")]),
    (OLDER_DELETE, "ACTIVE", 1, 10, "U"),
    (OLDER_DELETE, None, None, 20, "D"),
]
SECOND = [
    (DUPLICATE, "ACTIVE", 1, 10, "U"),
    (LATE, "PENDING", 1, 10, "U"),
    (LATE_BEFORE_DELETE, "SUSPENDED", 1, 18, "U"),
    *history,
    *end,
    (OLDER_DELETE, None, None, 15, "D"),
    (UNKNOWN, None, None, 15, "D"),
]


@pytest.fixture(scope="module")
def measured(make_target):
    targets = {1: make_target(HIDDEN), 2: make_target(HISTORY)}
    for target in targets.values():
        target.apply(FIRST)
        target.apply(SECOND)
    return {scd_type: target.rows() for scd_type, target in targets.items()}


@pytest.mark.parametrize(
    ("fact", "key", "current", "history"),
    [
        ("1, 7: duplicates change nothing", DUPLICATE, [("ACTIVE", 1)], [("ACTIVE", 1, 10, None)]),
        (
            "2, 2b: an older event does not win, and goes to its place in history",
            LATE,
            [("ACTIVE", 1)],
            [("ACTIVE", 1, 12, None), ("PENDING", 1, 10, 12)],
        ),
        (
            "6, 6b: an upsert that is older than the delete",
            LATE_BEFORE_DELETE,
            [],
            [("ACTIVE", 1, 17, 18), ("SUSPENDED", 1, 18, 20)],
        ),
        (
            "7: a full replay",
            REPLAY,
            [],
            [("ACTIVE", 1, 20, 30), ("ACTIVE", 2, 30, 40), ("PENDING", 1, 10, 20), ("SUSPENDED", 3, 40, 50)],
        ),
        ("an older delete of a deleted key", OLDER_DELETE, [], [("ACTIVE", 1, 10, 15), (None, None, None, 20)]),
        ("choice: a delete of a key that never was is not shown", UNKNOWN, [], []),
    ],
)
def test_measured_on_databricks(measured, fact, key, current, history):
    assert [row[1:] for row in measured[1] if row[0] == key] == current
    assert [row[1:] for row in measured[2] if row[0] == key] == history


def test_measured_5_nulls_overwrite_unless_they_are_ignored(make_target):
    events = [(1, "x", 1, 10, "U"), (1, None, 2, 20, "U")]
    overwritten, ignored = make_target(HIDDEN), make_target(replace(HIDDEN, ignore_null_columns=("a",)))
    overwritten.apply(events)
    ignored.apply(events)
    assert overwritten.rows() == [(1, None, 2)]
    assert ignored.rows() == [(1, "x", 2)]


def test_measured_8_untracked_columns_make_no_history(make_target):
    events = [(1, "ACTIVE", minute, minute, "U") for minute in range(51)]
    every, tracked = make_target(HISTORY), make_target(replace(HISTORY, track_history_except=("b",)))
    assert every.apply(events) == Counts(upserted=51)
    assert tracked.apply(events) == Counts(upserted=1)
    assert tracked.rows() == [(1, "ACTIVE", 50, 0, None)]


def test_measured_3c_a_struct_orders_by_its_first_field_then_the_next(make_target):
    cdc = replace(HISTORY, sequence_by="struct(seq, b)")
    target = make_target(cdc)
    target.apply([(1, "SUSPENDED", 2, 10, "U"), (1, "ACTIVE", 1, 10, "U"), (2, "ACTIVE", 1, 11, "U")])
    assert target.rows() == [
        (1, "ACTIVE", 1, (10, 1), (10, 2)),
        (1, "SUSPENDED", 2, (10, 2), None),
        (2, "ACTIVE", 1, (11, 1), None),
    ]
    with pytest.raises(LakeflowError, match=r"sequence_by struct\(seq, b\) is NULL in 1 change;"):
        target.apply([(1, "SUSPENDED", None, 10, "U")])


@pytest.mark.parametrize("cdc", [KEPT, HIDDEN], ids=["the target keeps the sequence", "the sequence is hidden"])
def test_a_truncation_removes_what_is_not_later_whenever_it_comes(make_target, cdc, monkeypatch):
    take_for_large(monkeypatch)
    target = make_target(replace(cdc, apply_as_truncates="op = 'T'"))
    target.apply([(1, "x", 1, 1, "U"), (2, "x", 1, 5, "U"), (3, "x", 1, 9, "U"), (6, "x", 1, 2, "U")])
    batch = [(None, None, None, 5, "T"), (1, "y", 1, 4, "U"), (4, "x", 1, 7, "U"), (6, "y", 1, 8, "U")]
    # A row that comes back in the same batch is removed and added, or changed.
    assert target.apply(batch) == Counts(2, 3 if cdc is KEPT else 2)
    target.apply([(2, "late", 1, 3, "U"), (5, "late", 1, 5, "U"), (2, "again", 1, 6, "U")])
    assert target.rows("k", "a") == [(2, "again"), (3, "x"), (4, "x"), (6, "y")]


def test_a_hydration_that_comes_after_the_changes_does_not_undo_them(make_target):
    target = make_target(HIDDEN)
    target.apply([(1, "new", 1, 5, "U"), (2, None, None, 6, "D")])
    hydration = replace(target, cdc=replace(HIDDEN, apply_as_deletes=None))
    assert hydration.apply([(1, "old", 1, 1, "U"), (2, "old", 1, 1, "U"), (3, "old", 1, 1, "U")]) == Counts(upserted=1)
    assert target.rows("k", "a") == [(1, "new"), (3, "old")]


@pytest.mark.parametrize("cdc", [KEPT, HISTORY], ids=["type 1", "type 2"])
def test_columns_and_fields_that_appear_are_added_and_a_column_that_is_missing_is_null(make_target, cdc):
    target = make_target(cdc, "k INT, a STRING, b INT, c STRUCT<d: INT>, seq INT, op STRING")
    target.apply([(1, "x", 1, (7,), 1, "U"), (2, "x", 1, (7,), 1, "U")])
    target.schema = "k INT, a STRING, n INT, c STRUCT<d: INT, e: INT>, seq INT, op STRING"
    target.apply([(1, "y", 5, (7, 8), 2, "U")])
    latest = target.spark.table(target.name)
    latest = latest if cdc.scd_type == 1 else latest.where("__END_AT IS NULL")
    assert sorted(tuple(row) for row in latest.select("k", "a", "b", "n", "c.d", "c.e").collect()) == [
        (1, "y", None, 5, 7, 8),
        (2, "x", 1, None, 7, None),
    ]


def test_maps_generated_columns_defaults_and_names_of_any_kind(make_target):
    schema = "event INT, `new.one` STRING, m MAP<STRING, INT>, seq INT"
    cdc = AutoCdc(source="s", keys=("event",), sequence_by="seq", scd_type=2, except_columns=("seq",))
    declared = (
        "event INT, `new.one` STRING, m MAP<STRING, INT>, "
        "doubled INT GENERATED ALWAYS AS (event * 2), origin STRING DEFAULT 'crm', __START_AT INT, __END_AT INT"
    )
    defaults = {"delta.feature.allowColumnDefaults": "supported"}
    target = make_target(cdc, schema, declared, {**auto_cdc.TARGET_PROPERTIES, **defaults})
    changes = target.frame([(1, "n", {"x": 1}, 1), (1, "n", {"x": 1}, 2), (1, "n", {"x": 2}, 3)])
    apply_batch(target.spark, changes, target=target.name, state=target.state, cdc=cdc, generated=("doubled",))
    assert target.rows("event", "`new.one`", "m", "doubled", "origin", "__START_AT", "__END_AT") == [
        (1, "n", {"x": 1}, 2, "crm", 1, 3),
        (1, "n", {"x": 2}, 2, "crm", 3, None),
    ]


def test_a_batch_that_changes_nothing_makes_no_commit(make_target):
    batch = [(1, "x", 1, 2, "U"), (2, "x", 1, 2, "U")]
    kept, hidden, history = make_target(KEPT), make_target(HIDDEN), make_target(HISTORY)
    for target, nothing in ((kept, []), (hidden, batch), (history, batch)):
        target.apply(batch)
        version = target.version()
        assert target.apply(nothing) == Counts()
        assert target.version() == version


def test_nulls_in_keys_and_sequences_are_counted_and_no_row_is_shown(make_target):
    target = make_target(KEPT)
    with pytest.raises(LakeflowError, match=r"the key k is NULL in 2 changes; drop such rows before") as fault:
        target.apply([(None, "secret", 1, 1, "U"), (None, "secret", 1, 1, "U"), (1, "x", 1, 1, "U")])
    assert "secret" not in str(fault.value)
    with pytest.raises(LakeflowError, match=r"sequence_by seq is NULL in 1 change;"):
        target.apply([(1, "x", 1, None, "U"), (1, "x", 1, 1, "U")])
    assert target.rows() == []


def test_another_definition_or_a_lost_state_asks_for_a_full_refresh(make_target, tmp_path):
    target = make_target(KEPT)
    target.apply([(1, "x", 1, 1, "U")])
    other = replace(target, cdc=replace(KEPT, sequence_by="-seq"))
    with pytest.raises(LakeflowError, match="are not those that its state was made with; run a full refresh"):
        other.apply([(1, "x", 1, 1, "U")])
    with pytest.raises(LakeflowError, match="the state that orders them is gone; run a full refresh"):
        replace(target, state=str(tmp_path / "lost")).apply([(1, "x", 1, 1, "U")])


def schema_of(spark, cdc: AutoCdc, changes: str = CHANGES):
    return target_schema(spark.createDataFrame([], changes).schema, cdc, spark)


def test_the_columns_of_a_target(spark):
    assert schema_of(spark, KEPT).names == ["k", "a", "b", "seq"]
    assert schema_of(spark, replace(KEPT, columns=("B", "K"), except_columns=())).names == ["k", "b"]
    history = schema_of(spark, replace(HISTORY, sequence_by="struct(seq, a)"))
    assert history.names == ["k", "a", "b", "__START_AT", "__END_AT"]
    assert history["__END_AT"].dataType.simpleString() == "struct<seq:int,a:string>"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": ("nix",)}, "the key `nix` is not a column of the changes; there are k, a, b, seq, op, l"),
        ({"keys": ()}, "at least one key"),
        ({"except_columns": ("k",)}, "the key `k` is not among the columns that the target keeps"),
        ({"except_columns": ("nix",)}, "the column list `nix` is not a column"),
        ({"columns": ("k",)}, "not both"),
        ({"sequence_by": "nix"}, "sequence_by nix cannot be read from the changes (UNRESOLVED_COLUMN"),
        ({"sequence_by": "map(a, b)"}, "has no order"),
        ({"apply_as_deletes": "a +"}, "apply_as_deletes a + cannot be read"),
        ({"apply_as_deletes": "b"}, "apply_as_deletes b is not a condition"),
        ({"track_history": ("a",)}, "needs SCD type 2"),
        ({"scd_type": 2, "track_history": ("k",)}, "the track history list `k` is not a column"),
        ({"system_sequence_by": "seq"}, "system_sequence_by is for a bitemporal table alone"),
        ({"scd_type": 2, "system_sequence_by": "map(a, b)"}, "has no order"),
        ({"columns_to_update": "nix"}, "the columns_to_update `nix` is not a column"),
        ({"columns_to_update": "a"}, "columns_to_update `a` has the type string, and not that of a list of names"),
        ({"columns_to_update": "l", "ignore_null_updates": True}, "does not go together with ignore_null_updates"),
        (
            {"columns_to_update": "l", "scd_type": 2, "system_sequence_by": "seq"},
            "does not go together with a bitemporal table",
        ),
    ],
)
def test_a_definition_that_does_not_fit_is_refused(spark, change, message):
    with pytest.raises(LakeflowError) as fault:
        schema_of(spark, replace(KEPT, **change), CHANGES + ", l ARRAY<STRING>")
    assert message in fault.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scd_type": 2, "apply_as_truncates": "op = 'T'"}, "apply_as_truncates is for SCD type 1 only"),
        ({"ignore_null_columns": ("a",), "apply_as_truncates": "op = 'T'"}, "together with ignore_null_updates"),
        ({"ignore_null_columns": ("s",)}, "ignore_null_updates on the struct column `s`"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(spark, change, message):
    with pytest.raises(UnsupportedError) as fault:
        schema_of(spark, replace(KEPT, **change), CHANGES + ", s STRUCT<x: INT>")
    assert message in fault.value.message


def test_reserved_names_are_refused(spark):
    with pytest.raises(LakeflowError, match="`__START_AT` has a reserved name"):
        schema_of(spark, KEPT, CHANGES + ", __START_AT INT")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"system_sequence_by": "loaded_at"}, "'bitemporal' and system_sequence_by go together"),
        ({"stored_as_scd_type": "bitemporal"}, "'bitemporal' and system_sequence_by go together"),
        ({"system_sequence_by": None, "columns_to_update": None, "stored_as_scd_type": "2"}, None),
        ({"system_sequence_by": "loaded_at", "stored_as_scd_type": "BITEMPORAL"}, None),
    ],
)
def test_a_bitemporal_table_has_a_system_sequence(argument, message):
    with collecting(Registry()) as registry, pytest.raises(LakeflowError, match=message) if message else nullcontext():
        api.create_auto_cdc_flow("t", "s", ["k"], "v", **argument)
    assert [flow.cdc.system_sequence_by for flow in registry.flows] == (
        [] if message else [argument["system_sequence_by"]]
    )
